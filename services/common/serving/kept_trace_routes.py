"""Routes for the traces that a process keeps."""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.common import error_codes
from services.common.observing.kept_traces import (
    TRACE_ID,
    KeptTraces,
    ProcessSpans,
    ProcessTraces,
)
from services.common.protocols.problem import problem_response


def routes(kept: KeptTraces, *, sent_to: str, version: str, instance: str) -> list[Route]:
    """What the page of traces asks a process: ``/traces``, and ``/spans`` of one of them."""

    async def traces(_: Request) -> Response:
        return _json(ProcessTraces(sent_to=sent_to, traces=kept.summaries()))

    async def spans(request: Request) -> Response:
        trace_id = request.query_params.get("trace_id", "")
        if not TRACE_ID.fullmatch(trace_id):
            return problem_response(
                422, error_codes.INVALID_REQUEST, "trace_id is 32 hexadecimal digits."
            )
        found, dropped = kept.spans_of(trace_id)
        return _json(ProcessSpans(version, instance, list(found), dropped))

    return [Route("/traces", traces), Route("/spans", spans)]


def _json(told: ProcessTraces | ProcessSpans) -> Response:
    return Response(orjson.dumps(told), media_type="application/json")
