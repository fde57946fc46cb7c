"""Grafana's dashboards: few, and each says what to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from services.common.topology import Topology
from tools.observability.board import Dashboard
from tools.observability.queries import (
    FAILED_CALLS,
    FAILURES,
    ISTIO,
    LINKERD,
    SERVICES,
    WITNESSES,
    Witness,
    increase,
    quantile,
    share,
    total,
)
from tools.observability.settings import FOLDER

_HERE = 'namespace="$namespace"'
_FOLDER = FOLDER / "grafana" / "dashboards"
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def files(topology: Topology) -> Mapping[Path, str]:
    """Each dashboard's text by its file."""
    found: dict[Path, str] = {}
    for board in (shop(topology), service(topology), objectives()):
        found[_FOLDER / f"{board.name}.json"] = board.text()
    for witness in WITNESSES:
        for board in (services(topology, witness), canary(topology, witness)):
            found[_FOLDER / witness.key / f"{board.name}.json"] = board.text()
    return found


def shop(topology: Topology) -> Dashboard:
    """What a shopkeeper asks: money, orders, and what holds them up."""
    order = f'{_HERE},app="{topology.services["order"].workload}"'
    steps = "|".join(
        call.operation
        for edge in topology.services["order"].calls
        if edge.callee in {"inventory", "payment", "shipping"}
        for call in edge.grpc
        if "/Get" not in call.operation  # prices are asked for before there is an order
    )
    in_saga = f'{order},operation=~"{steps}"'
    parcels = f'{_HERE},app="{topology.services["shipping"].workload}"'
    all_steps = total("meshmart_call_seconds_count", "callee, operation", in_saga)
    board = Dashboard(
        "shop",
        "The shop",
        "**Orders by end** is the heart of it: a declined card or a product that is sold out is an "
        "everyday end, `checkout-unavailable` and `order-not-completed` are the shop's own fault. "
        "When they come, **failures of steps** names the service, and **oldest unfinished order** "
        "says whether anything is stuck.",
    ).head()
    board.number(
        "Confirmed a minute",
        f'60 * sum(rate(meshmart_orders_total{{{order},state="confirmed"}}[5m]))',
        unit="short",
        says="Orders, over the last five minutes.",
    ).number(
        "Money a minute",
        f"60 * sum by (currency) (rate(meshmart_order_confirmed_cents_total{{{order}}}[5m])) / 100",
        unit="short",
        says="The totals of confirmed orders, in the shop's currency.",
    ).number(
        "Declined",
        f'sum(rate(meshmart_payments_total{{{_HERE},state="declined"}}[5m])) / '
        f'sum(rate(meshmart_payments_total{{{_HERE},state=~"declined|authorized"}}[5m]))',
        unit="percentunit",
        says="The share of payments that the card's bank refuses.",
    ).number(
        "Unfinished orders",
        f"max(meshmart_orders_unfinished{{{order}}})",
        unit="short",
        says="Not settled, or the customer is not told yet.",
    ).number(
        "Oldest unfinished order",
        f"max(meshmart_order_oldest_unfinished_seconds{{{order}}})",
        unit="s",
        says="Above five minutes the alert OrderStuck is on.",
    ).number(
        "Messages that nobody got",
        f"sum(increase(meshmart_order_events_undelivered_total{{{_HERE}}}[$__range]) or "
        f"increase(meshmart_shipment_events_undelivered_total{{{_HERE}}}[$__range])) "
        "or vector(0)",
        unit="short",
        says="Which notification has refused for good, in the time shown.",
    )
    board.row("Orders and money").lines(
        "Orders by end",
        {"{{state}} {{reason}}": total("meshmart_orders_total", "state, reason", order)},
        says="By the reason that the customer is given; none is a confirmed order.",
        stacked=True,
    ).lines(
        "Payments by state",
        {"{{state}}": total("meshmart_payments_total", "state", _HERE)},
        says="What requests have brought payments to.",
    ).lines(
        "Reservations by outcome",
        {"{{outcome}}": total("meshmart_reservations_total", "outcome", _HERE)},
        says="Stock that was reserved, sold, released, or was not there.",
    ).lines(
        "Declines by code",
        {"{{code}}": total("meshmart_payment_declines_total", "code", _HERE)},
        says="What banks say. Watch for one that grows alone: many `processing-error` are an "
        "outage at a bank, not poor customers.",
        span=12,
        stacked=True,
    ).lines(
        "Sold out",
        {
            "{{product_id}}": "topk(5, "
            f"{increase('meshmart_stock_outs_total', 'product_id', _HERE)} > 0) "
            'or label_replace(vector(0), "product_id", "none", "", "")'
        },
        unit="short",
        says="Orders of the last five minutes that wanted more of a product than there was: order "
        "more of it.",
        span=12,
    )
    board.row("The saga").lines(
        "How long steps take, p95",
        {
            "{{step}}": quantile(
                0.95, "meshmart_order_step_seconds", "step", f'{order},outcome="done"'
            )
        },
        unit="s",
        says="Attempts that succeeded, by step of the order. The slowest one is what a customer "
        "waits for.",
    ).lines(
        "Attempts that were made again",
        {"{{step}}": total("meshmart_order_step_retries_total", "step", order)},
        says="Zero in quiet times. The step that rises is the one whose service is away.",
    ).lines(
        "Messages wait for",
        {
            "of orders": f"max(meshmart_order_outbox_lag_seconds{{{order}}})",
            "of parcels": f"max(meshmart_shipment_outbox_lag_seconds{{{parcels}}})",
        },
        unit="s",
        says="The oldest message that its customer has not got. A line that climbs steadily: "
        "`notification` is away. Above five minutes for parcels the alert MessagesWait is on.",
    ).lines(
        "How long calls of steps take, p95",
        {
            "{{callee}} {{operation}}": quantile(
                0.95, "meshmart_call_seconds", "callee, operation", in_saga
            )
        },
        unit="s",
        says="The calls that make and undo the steps. A dot is one whose trace is kept: open it.",
        exemplars=True,
    ).lines(
        "Failures of steps",
        {
            "{{callee}} {{operation}}": share(
                [total("meshmart_call_seconds_count", "callee, operation", in_saga, FAILED_CALLS)],
                all_steps,
            )
        },
        unit="percentunit",
        says="Outages, which the saga waits out or gives up on. Not declines.",
    ).lines(
        "Oldest unfinished order",
        {"open for": f"max(meshmart_order_oldest_unfinished_seconds{{{order}}})"},
        unit="s",
        says="A busy shop has some at any time. One that gets older and older is stuck.",
    )
    board.row("The books").lines(
        "Findings of the reconciliation with Stripe",
        {
            "stray intent, {{end}}": increase("meshmart_stray_intents_total", "end", _HERE),
            "{{kind}} later": increase("meshmart_payment_reversals_total", "kind", _HERE),
            "payment recovered": increase("meshmart_payments_recovered_total", "app", _HERE),
        },
        unit="short",
        says="Zero is what there should be, but for `voided` and `adopted` in outages.",
        span=12,
    ).lines(
        "Refusals where there should be none",
        {"{{step}}": increase("meshmart_order_final_refusals_total", "step", order)},
        unit="short",
        says="A store has lost what another one rests on.",
        span=12,
    )
    return board


def services(topology: Topology, witness: Witness) -> Dashboard:
    """Rate, errors and duration of every service, as one witness has counted them."""
    board = _chosen_board(topology, witness, "services", f"Services{witness.where}", _SERVICES_HINT)
    by = witness.app
    legend = f"{{{{{by}}}}}"
    board.row("Rate, errors, duration").lines("Requests", {legend: witness.rate(by)}).lines(
        "Failures",
        {legend: witness.failure_share(by)},
        unit="percentunit",
        says="The share of requests that failed by the service's fault or for want of it.",
    ).lines(
        "p99",
        {legend: witness.time(0.99, by)},
        unit=witness.unit,
        says="One of a hundred takes longer.",
        exemplars=witness is SERVICES,
    )
    _beside(board, witness)
    return board


_SERVICES_HINT = (
    "Look for the service whose **failures** rise first and whose **p99** rises alone: the others "
    "are waiting for it. {says}"
)


def _beside(board: Dashboard, witness: Witness) -> None:
    """What only this witness sees."""
    if witness is ISTIO:
        board.row("What the mesh has done").lines(
            "Answers that are no service's",
            {
                "{{destination_service_name}} {{response_flags}}": total(
                    "istio_requests_total",
                    "destination_service_name, response_flags",
                    witness.scope,
                    'response_flags!="-"',
                )
            },
            says="By Envoy's flags: UO too many at once, UH nobody well, UF no connection, DI and "
            "FI injected faults, URX retries used up, UT too late.",
            span=12,
        ).lines(
            "Refused (403)",
            {
                "{{source_workload}} at {{destination_service_name}}": total(
                    "istio_requests_total",
                    "source_workload, destination_service_name",
                    witness.scope,
                    'response_code="403"',
                )
            },
            says="By the rules of the mesh, or by the service itself.",
            span=12,
        )
    elif witness is LINKERD:
        board.row("What the mesh has done").lines(
            "Refused by a rule",
            {
                "at {{app_kubernetes_io_name}}": total(
                    "inbound_http_authz_deny_total",
                    "app_kubernetes_io_name",
                    'namespace="$namespace",app_kubernetes_io_name=~"$service"',
                )
            },
            says="403 that the service has not seen.",
            span=12,
        ).lines(
            "Retries",
            {
                "{{app_kubernetes_io_name}} to {{parent_name}}": total(
                    "outbound_http_route_retry_requests_total",
                    "app_kubernetes_io_name, parent_name",
                    _HERE,
                ),
                "gRPC: {{app_kubernetes_io_name}} to {{parent_name}}": total(
                    "outbound_grpc_route_retry_requests_total",
                    "app_kubernetes_io_name, parent_name",
                    _HERE,
                ),
            },
            says="Repeated by the callers' proxies.",
            span=12,
        )
    else:
        whole = total("meshmart_call_seconds_count", "callee", _HERE)
        failed = total("meshmart_call_seconds_count", "callee", _HERE, FAILED_CALLS)
        board.row("What callers see").lines(
            "Failed calls",
            {"to {{callee}}": share([failed], whole)},
            unit="percentunit",
            says="With those that were not even made, as the circuit was open.",
            span=12,
        ).lines(
            "Open circuits",
            {"{{app}} to {{callee}}": f"max by (app, callee) (meshmart_circuit_open{{{_HERE}}})"},
            unit="short",
            says="1: the caller answers at once, in the place of somebody who fails.",
            span=12,
        )


def canary(topology: Topology, witness: Witness) -> Dashboard:
    """Two versions of a service side by side."""
    with_versions = [each.workload for each in topology.services.values() if each.variants]
    with_versions.sort(key=lambda name: name != topology.services["product"].workload)
    board = Dashboard(
        _file(witness, "canary"),
        f"A canary{witness.where}",
        "Two versions side by side. **Share** is what the weight should be; a share of few "
        "requests lies, so see the **requests** it rests on. Of **failures** and **p99**, "
        f"only what stays worse is worse. {witness.says}",
    ).choose(with_versions, several=False)
    board.head()
    by = witness.version
    legend = f"{{{{{by}}}}}"
    everything = f"scalar(sum({witness.rate(by)}))"
    board.lines(
        "Share",
        {legend: f"{witness.rate(by)} / {everything}"},
        unit="percentunit",
        span=12,
    ).lines(
        "Requests",
        {
            legend: f"sum by ({by}) (increase({witness.requests}{{{witness.scope}}}[1m]))",
        },
        unit="short",
        says="In the last minute: how many the share rests on.",
        span=12,
    ).lines(
        "Failures",
        {legend: witness.failure_share(by)},
        unit="percentunit",
        span=12,
    ).lines(
        "p99",
        {legend: witness.time(0.99, by)},
        unit=witness.unit,
        exemplars=witness is SERVICES,
        span=12,
    )
    return board


def service(topology: Topology) -> Dashboard:
    """One service from within: what it answers, whom it calls, what it does by itself."""
    names = [each.workload for each in topology.services.values()]
    board = Dashboard(
        "service",
        "One service",
        "Compare the two rows: if what it **answers** is slow and what it **calls** is slow, it "
        "waits; if only what it answers is, it is slow itself. An open circuit says who is to "
        "blame.",
    ).choose(names, several=False)
    board.head()
    mine = SERVICES.scope
    answered = "{{operation}}"
    called = "{{callee}} {{operation}}"
    by_operation = total("meshmart_request_seconds_count", "operation", mine)
    by_call = total("meshmart_call_seconds_count", "callee, operation", mine)
    failed_calls = total("meshmart_call_seconds_count", "callee, operation", mine, FAILED_CALLS)
    board.row("What it answers").lines("Requests", {answered: by_operation}).lines(
        "Failures",
        {
            answered: share(
                [total("meshmart_request_seconds_count", "operation", mine, FAILURES)],
                by_operation,
            )
        },
        unit="percentunit",
    ).lines(
        "Times",
        {
            name: quantile(q, "meshmart_request_seconds", "app", mine)
            for name, q in _QUANTILES.items()
        },
        unit="s",
        exemplars=True,
    )
    board.row("Whom it calls").lines("Calls", {called: by_call}).lines(
        "Failures of calls",
        {called: share([failed_calls], by_call)},
        unit="percentunit",
    ).lines(
        "p95 of calls",
        {called: quantile(0.95, "meshmart_call_seconds", "callee, operation", mine)},
        unit="s",
        exemplars=True,
    )
    board.row("How it holds up").lines(
        "Open circuits",
        {"{{callee}}": f"max by (callee) (meshmart_circuit_open{{{mine}}})"},
        unit="short",
        says="1: calls to it are refused at once, but for a probe now and then.",
        span=12,
    ).lines(
        "Retry budget left",
        {"{{callee}}": f"min by (callee) (meshmart_call_retry_budget_ratio{{{mine}}})"},
        unit="percentunit",
        says="Of the process that has the least. At zero no call to that service is repeated: it "
        "fails more than now and then.",
        span=12,
    ).lines(
        "Calls that were not made",
        {"{{callee}} {{reason}}": total("meshmart_call_refusals_total", "callee, reason", mine)},
        says="The circuit is open, or the retry budget is spent.",
        span=12,
    ).lines(
        "Background jobs",
        {
            # Prometheus calls it so, since `job` is a label of its own.
            "{{exported_job}} {{outcome}}": total(
                "meshmart_job_runs_total", "exported_job, outcome", mine
            ),
        },
        says="Anything but `ok` is a run that comes again.",
        span=12,
    )
    return board


def objectives() -> Dashboard:
    """The two objectives, and what is left of the errors that they allow."""
    board = Dashboard(
        "objectives",
        "Objectives",
        "**Burn rate** is the number to read: at 1 the errors that a month allows last just a "
        "month, at 14.4 two days, and somebody is called (BrowseFailing, CheckoutFailing). Both "
        "windows must say so: the long one that it is much, the short one that it goes on.",
    ).head()
    for name, title, allowed in (
        ("browse", "Browse: 99.9 % of the catalogue's pages, within a second", 0.001),
        ("checkout", "Checkout: 99.5 % end as customer and card want", 0.005),
    ):
        board.row(title).number(
            "Failed in the last hour",
            f"meshmart:{name}_failures:ratio_rate1h{{{_HERE}}}",
            unit="percentunit",
            says=f"The objective allows {allowed:.1%}.",
            span=6,
        ).lines(
            "Burn rate",
            {
                window: f"meshmart:{name}_failures:ratio_rate{window}{{{_HERE}}} / {allowed}"
                for window in ("5m", "30m", "1h", "6h")
            },
            unit="short",
            span=18,
        )
    board.row("Alerts").lines(
        "What is on",
        {
            "{{alertname}} {{severity}}": "sum by (alertname, severity) "
            '(ALERTS{alertstate="firing"}) or label_replace(vector(0), "alertname", "none", "", "")'
        },
        unit="short",
        says="docs/alerts.md says for each what to do.",
        span=24,
    )
    return board


def _chosen_board(
    topology: Topology, witness: Witness, name: str, title: str, hint: str
) -> Dashboard:
    names = [each.workload for each in topology.services.values()]
    board = Dashboard(_file(witness, name), title, hint.format(says=witness.says))
    return board.choose(names, several=True).head()


def _file(witness: Witness, name: str) -> str:
    return f"{witness.key}-{name}" if witness.key else name
