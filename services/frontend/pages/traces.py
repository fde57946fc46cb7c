"""The traces of a shop on one machine: the latest ones, and each as a waterfall."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter
from starlette.responses import Response

from services.common.dependency_injection import provided
from services.common.errors import Kind, ShopError
from services.common.observing.kept_traces import MAX_TRACES, TRACE_ID
from services.frontend.mesh_page.traces import TRACES_PATH, TraceLinks, Traces
from services.frontend.pages.site import SiteDependency
from services.frontend.rendering import Renderer
from services.frontend.visit import Visit, VisitDependency

_Traces = Annotated[Traces, provided(Traces)]
_Links = Annotated[TraceLinks, provided(TraceLinks)]

routes = APIRouter(include_in_schema=False)


@routes.get(TRACES_PATH)
async def latest(
    visit: VisitDependency,
    site: SiteDependency,
    traces: _Traces,
    links: _Links,
    service: str = "",
    errors: str = "",
) -> Response:
    if not traces.are_kept:
        return _elsewhere(visit, site.renderer, links)
    listing = await traces.latest()
    only_errors = errors == "only"
    shown = [
        trace
        for trace in listing.traces
        if (not service or service in trace.services) and (trace.is_error or not only_errors)
    ]
    return site.renderer.page(
        visit,
        "traces.html",
        listing=listing,
        shown=shown,
        service=service,
        services=sorted({name for trace in listing.traces for name in trace.services}),
        only_errors=only_errors,
        max_traces=MAX_TRACES,
        now_seconds=datetime.now(UTC).timestamp(),
    )


@routes.get(f"{TRACES_PATH}/{{trace_id}}")
async def one(
    visit: VisitDependency, site: SiteDependency, traces: _Traces, links: _Links, trace_id: str
) -> Response:
    if not TRACE_ID.fullmatch(trace_id):
        raise ShopError(Kind.NOT_FOUND, "unknown-trace", "There is no such trace.")
    if not traces.are_kept:
        return _elsewhere(visit, site.renderer, links, trace_id)
    found = await traces.one(trace_id)
    return site.renderer.page(
        visit,
        "trace.html",
        status=200 if found else 404,
        trace=found,
        trace_id=trace_id,
        max_traces=MAX_TRACES,
    )


def _elsewhere(visit: Visit, renderer: Renderer, links: TraceLinks, trace_id: str = "") -> Response:
    """The page where traces are in Jaeger.

    :raises ShopError: NOT_FOUND, when nobody has said where that is.
    """
    if links.jaeger_url is None:
        raise ShopError(Kind.NOT_FOUND, "no-traces", "This shop keeps no traces of its own.")
    url = links.trace(trace_id) if trace_id else links.jaeger_url
    return renderer.page(visit, "traces_elsewhere.html", url=url)
