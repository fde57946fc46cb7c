"""One dashboard in the making, in the words of Grafana's own SDK."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import (
    common as common_builders,
)
from grafana_foundation_sdk.builders import (
    dashboard as builders,
)
from grafana_foundation_sdk.builders import (
    prometheus,
    stat,
    text,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.text import TextMode

_SOURCE = common.DataSourceRef(type_val="prometheus", uid="prometheus")
_TAG = "meshmart"
_FULL_WIDTH = 24
_HEIGHT = 7


class Dashboard:
    """A dashboard in the making: its head says what to look at, then come rows of panels."""

    def __init__(self, name: str, title: str, look_at: str) -> None:
        self.name = name
        self._panels = 0
        self._builder = (
            builders.Dashboard(title)
            .uid(f"{_TAG}-{name}")
            .description(look_at.replace("**", "").replace("`", ""))
            .tags([_TAG])
            .time("now-15m", "now")
            .refresh("10s")
            .timezone("browser")
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .link(
                builders.DashboardLink("Meshmart")
                .type(models.DashboardLinkType.DASHBOARDS)
                .tags([_TAG])
                .as_dropdown(True)
                .keep_time(True)
                .include_vars(True)
            )
        )
        self._builder.with_variable(
            builders.QueryVariable("namespace")
            .label("Shop in")
            .datasource(_SOURCE)
            .query("label_values(meshmart_job_runs_total, namespace)")
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        )
        self._look_at = look_at

    def choose(self, services: Sequence[str], *, several: bool) -> Dashboard:
        """Lets whoever looks choose among services, the first or all of them to begin with."""
        variable = builders.CustomVariable("service").label("Service").values(",".join(services))
        if several:
            everything = models.VariableOption(selected=True, text=["All"], value=["$__all"])
            variable = variable.multi(True).include_all(True).current(everything)
        else:
            first = models.VariableOption(selected=True, text=services[0], value=services[0])
            variable = variable.current(first)
        self._builder.with_variable(variable)
        return self

    def head(self) -> Dashboard:
        """What to look at, in a sentence."""
        panel = text.Panel().mode(TextMode.MARKDOWN).content(self._look_at).transparent(True)
        self._builder.with_panel(panel.id(self._next()).span(_FULL_WIDTH).height(3))
        return self

    def row(self, title: str) -> Dashboard:
        """Begins a row of panels."""
        self._builder.with_row(builders.Row(title).id(self._next()))
        return self

    def lines(
        self,
        title: str,
        asked: Mapping[str, str],
        *,
        unit: str = "reqps",
        says: str = "",
        span: int = 8,
        exemplars: bool = False,
        stacked: bool = False,
    ) -> Dashboard:
        """A graph over time.

        :param asked: queries by the legend of their lines.
        """
        panel = (
            timeseries.Panel()
            .id(self._next())
            .title(title)
            .datasource(_SOURCE)
            .unit(unit)
            .min(0)
            .span(span)
            .height(_HEIGHT)
            .legend(
                common_builders.VizLegendOptions()
                .display_mode(common.LegendDisplayMode.LIST)
                .placement(common.LegendPlacement.BOTTOM)
                .show_legend(True)
            )
            .tooltip(
                common_builders.VizTooltipOptions()
                .mode(common.TooltipDisplayMode.MULTI)
                .sort(common.SortOrder.DESCENDING)
            )
        )
        if says:
            panel.description(says)
        if unit == "percentunit":
            panel.axis_soft_max(0.05)
        if stacked:
            panel.fill_opacity(30).stacking(
                common_builders.StackingConfig().mode(common.StackingMode.NORMAL)
            )
        for index, (legend, query) in enumerate(asked.items()):
            panel.with_target(_target(index, query, legend).exemplar(exemplars))
        self._builder.with_panel(panel)
        return self

    def number(self, title: str, query: str, *, unit: str, says: str, span: int = 4) -> Dashboard:
        """A single number: the last one, with what came before it behind it."""
        panel = (
            stat.Panel()
            .id(self._next())
            .title(title)
            .description(says)
            .datasource(_SOURCE)
            .unit(unit)
            .span(span)
            .height(4)
            .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
            .graph_mode(common.BigValueGraphMode.AREA)
            .color_mode(common.BigValueColorMode.NONE)
            .with_target(_target(0, query, ""))
        )
        self._builder.with_panel(panel)
        return self

    def text(self) -> str:
        """The file's text."""
        document = json.loads(json.dumps(self._builder.build(), cls=JSONEncoder))
        return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def _next(self) -> int:
        self._panels += 1
        return self._panels


def _target(index: int, query: str, legend: str) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .ref_id(chr(ord("A") + index))
        .datasource(_SOURCE)
        .expr(query)
        .range()
        .legend_format(legend)
    )
