"""What every service's HTTP side does, whatever its routes are: limits, problems, probes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import aiohttp
import pytest
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families,  # pyright: ignore[reportUnknownVariableType]  partly typed
)
from pydantic import BaseModel, ConfigDict
from starlette.types import ASGIApp
from structlog.testing import capture_logs

from services.common import call_record, context
from services.common.errors import HTTP_STATUS, Kind, ShopError
from services.common.observing.metrics import OPENMETRICS_MEDIA_TYPE, TEXT_MEDIA_TYPE
from services.common.protocols.problem import documented
from services.common.serving import api_docs
from services.common.serving.host import Host, hosting
from tests.unit.asgi import AsgiAnswer, ask
from tests.unit.common.kit import TOPOLOGY, process_settings, serving, until

LEAK = "a secret that stands in the exception's text"
MAX_BODY = 2048


class PostedThing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int


class ThingService:
    """Routes that do what services do, and the state that they share with the test."""

    def __init__(self) -> None:
        self.router = APIRouter()
        self.database_failure: Exception | None = None
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.bodies: list[bytes] = []
        self._add_routes()

    async def check_database(self) -> None:
        """A readiness check that does as it is told."""
        if isinstance(self.database_failure, TimeoutError):
            await asyncio.sleep(60)
        if self.database_failure is not None:
            raise self.database_failure

    async def wire(self, host: Host) -> None:
        """Builds the service."""
        host.serve_http(self.router)
        host.readiness.add("database", self.check_database)

    def _add_routes(self) -> None:
        @self.router.get("/things/{thing}", responses=documented(Kind.NOT_FOUND))
        async def get_thing(
            thing: str, kind: Annotated[Kind | None, Query()] = None
        ) -> PostedThing:
            if kind is not None:
                raise ShopError(kind, "told-so", "As you asked.", retry_after_seconds=2)
            context.current().log.add(call_record.Call("stock", "Get", "v1", "s-1", 1.0, "ok"))
            return PostedThing(size=len(thing))

        @self.router.post("/things", status_code=201)
        async def post_thing(thing: PostedThing) -> PostedThing:
            return thing

        @self.router.post("/bytes")
        async def post_bytes(request: Request) -> int:
            self.bodies.append(await request.body())
            return len(self.bodies[-1])

        @self.router.get("/bytes")
        async def get_bytes() -> int:
            return len(self.bodies)

        @self.router.put("/bytes")
        async def put_bytes() -> int:
            return 0

        @self.router.get("/broken")
        async def broken() -> PostedThing:
            raise RuntimeError(LEAK)

        @self.router.get("/broken-halfway")
        async def broken_halfway() -> StreamingResponse:
            return StreamingResponse(_half())

        @self.router.get("/api/things/{thing}")
        async def get_api_thing(thing: str, kind: _Chosen) -> PostedThing:
            return PostedThing(size=len(thing) + len(kind))

        @self.router.get("/slow")
        async def slow() -> PostedThing:
            self.begun.set()
            try:
                await asyncio.sleep(60)
            finally:
                self.cancelled.set()
            raise AssertionError("nobody waits that long")


async def _half() -> AsyncIterator[bytes]:
    yield b"half of it"
    raise RuntimeError(LEAK)


@pytest.fixture
def service() -> ThingService:
    return ThingService()


async def _chosen(kind: str = "") -> str:
    return kind


_Chosen = Annotated[str, Depends(_chosen)]


@dataclass
class InMemory:
    """The service without a network in front of it."""

    host: Host
    app: ASGIApp

    async def ask(
        self, target: str, method: str = "GET", body: bytes = b"", **headers: str
    ) -> AsgiAnswer:
        """The answer to one request; ``x_deadline_ms`` is the header ``x-deadline-ms``."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body:
            sent["content-length"] = str(len(body))
        return await ask(self.app, method, target, headers=sent, body=body)


@asynccontextmanager
async def in_memory(service: ThingService, **settings: Any) -> AsyncGenerator[InMemory]:
    process = process_settings(max_body_bytes=MAX_BODY, **settings)
    async with hosting("callee", service.wire, topology=TOPOLOGY, process=process) as host:
        yield InMemory(host, host.app())


@pytest.fixture
async def shop(service: ThingService) -> AsyncGenerator[InMemory]:
    async with in_memory(service) as shop:
        yield shop


def problem(answer: AsgiAnswer) -> dict[str, Any]:
    """The body of an error, which is a problem and says which request it belongs to."""
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == answer.status
    assert body["type"] == f"urn:meshmart:problem:{body['code']}"
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


class TestAnswers:
    async def test_bear_the_requests_id_and_the_call_record(self, shop: InMemory) -> None:
        answer = await shop.ask("/things/four", x_request_id="req-1")
        assert (answer.status, answer.json()) == (200, {"size": 4})
        assert answer.headers["x-request-id"] == "req-1"
        served = call_record.decode(answer.headers[call_record.HEADER])
        assert served is not None
        assert (served.service, served.version, served.instance) == ("callee", "v1", "callee-1")
        assert [call.callee for call in served.calls] == ["stock"]

    @pytest.mark.parametrize("kind", Kind)
    async def test_are_problems_where_the_service_refuses(self, shop: InMemory, kind: Kind) -> None:
        answer = await shop.ask(f"/things/x?kind={kind.value}")
        assert answer.status == HTTP_STATUS[kind]
        assert answer.headers["retry-after"] == "2"
        body = problem(answer)
        assert (body["code"], body["detail"]) == ("told-so", "As you asked.")

    async def test_name_a_parameter_of_the_api_that_there_is_not(self, shop: InMemory) -> None:
        answer = await shop.ask("/api/things/lamp?kin=x&kind=y")
        assert answer.status == 422
        body = problem(answer)
        assert body["code"] == "invalid-request"
        assert body["errors"] == [
            {"field": "query.kin", "message": "No such parameter; there are kind"}
        ]
        assert (await shop.ask("/api/things/lamp?kind=y")).json() == {"size": 5}

    async def test_are_none_for_the_parameters_of_others_on_a_page(self, shop: InMemory) -> None:
        assert (await shop.ask("/things/lamp?utm_source=letter")).status == 200

    async def test_name_each_wrong_field(self, shop: InMemory) -> None:
        body = b'{"size": "big", "colour": "red"}'
        answer = await shop.ask("/things", "POST", body, content_type="application/json")
        assert answer.status == 422
        said = problem(answer)
        assert said["code"] == "invalid-request"
        assert {error["field"] for error in said["errors"]} == {"body.size", "body.colour"}
        assert "big" not in str(said), "what was sent is not repeated"

    @pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"size": 1e999}', b"[" * 2000])
    async def test_refuse_what_is_no_json(self, shop: InMemory, body: bytes) -> None:
        answer = await shop.ask("/things", "POST", body, content_type="application/json")
        assert answer.status == 422
        assert problem(answer)["code"] == "invalid-request"

    @pytest.mark.parametrize(
        ("method", "path", "status", "code"),
        [
            ("GET", "/nowhere", 404, "not-found"),
            ("DELETE", "/things", 405, "method-not-allowed"),
            ("GET", "/things/a/b", 404, "not-found"),
        ],
    )
    async def test_are_problems_where_there_is_no_route(
        self, shop: InMemory, method: str, path: str, status: int, code: str
    ) -> None:
        answer = await shop.ask(path, method)
        assert answer.status == status
        assert problem(answer)["code"] == code

    async def test_a_405_names_all_methods_of_the_path(self, shop: InMemory) -> None:
        assert (await shop.ask("/things/four", "DELETE")).headers["allow"] == "GET, HEAD"
        assert (await shop.ask("/bytes", "PATCH")).headers["allow"] == "GET, HEAD, POST, PUT"
        assert (await shop.ask("/things", "GET")).headers["allow"] == "POST"

    async def test_do_not_show_the_text_of_an_unexpected_error(self, shop: InMemory) -> None:
        answer = await shop.ask("/broken")
        assert answer.status == 500
        assert LEAK not in str(problem(answer))
        assert (await shop.ask("/things/x")).status == 200, "and the next one is served"


class TestLimits:
    async def test_a_body_of_the_most_allowed_size_is_read(self, shop: InMemory) -> None:
        assert (await shop.ask("/bytes", "POST", bytes(MAX_BODY))).json() == MAX_BODY

    async def test_a_body_that_says_it_is_larger_is_refused(
        self, shop: InMemory, service: ThingService
    ) -> None:
        answer = await shop.ask("/bytes", "POST", bytes(MAX_BODY + 1))
        assert answer.status == 413
        assert str(MAX_BODY) in problem(answer)["detail"]
        assert service.bodies == []

    async def test_a_body_that_turns_out_to_be_larger_is_refused(
        self, shop: InMemory, service: ThingService
    ) -> None:
        answer = await ask(shop.app, "POST", "/bytes", body=bytes(MAX_BODY + 1))
        assert answer.status == 413
        assert answer.headers["connection"] == "close", "what is left of the body stays unread"
        problem(answer)
        assert service.bodies == []

    async def test_a_request_ends_at_its_callers_deadline(
        self, shop: InMemory, service: ThingService
    ) -> None:
        answer = await shop.ask("/slow", x_deadline_ms="50")
        assert answer.status == 504
        assert problem(answer)["code"] == "deadline-passed"
        assert service.cancelled.is_set()

    async def test_a_request_ends_at_the_services_own_limit(self, service: ThingService) -> None:
        async with in_memory(service, request_timeout_seconds=0.05) as shop:
            assert (await shop.ask("/slow", x_deadline_ms="60000")).status == 504

    async def test_a_passed_deadline_is_not_worth_the_work(self, shop: InMemory) -> None:
        assert (await shop.ask("/slow", x_deadline_ms="0")).status == 504


class TestProbes:
    async def test_say_that_all_is_well(self, shop: InMemory) -> None:
        for path in ("/livez", "/readyz"):
            answer = await shop.ask(path)
            assert (answer.status, answer.json()) == (200, {"status": "ok"})

    @pytest.mark.parametrize(
        ("failure", "said"),
        [
            (ShopError(Kind.UNAVAILABLE, "away", "The disk is full."), "The disk is full."),
            (TimeoutError(), "no answer in time"),
        ],
    )
    async def test_name_the_check_that_fails(
        self, shop: InMemory, service: ThingService, failure: Exception, said: str
    ) -> None:
        service.database_failure = failure
        answer = await shop.ask("/readyz")
        assert answer.status == 503
        assert answer.json()["checks"] == {"database": said}
        assert (await shop.ask("/livez")).status == 200, "a restart would not mend it"
        service.database_failure = None
        assert (await shop.ask("/readyz")).status == 200

    async def test_say_that_the_process_drains_while_it_still_serves(self, shop: InMemory) -> None:
        await shop.host.drain()
        answer = await shop.ask("/readyz")
        assert answer.status == 503
        assert answer.json() == {"status": "failing", "checks": {"process": "draining"}}
        assert (await shop.ask("/things/x")).status == 200

    async def test_say_when_a_job_is_dead(self, shop: InMemory) -> None:
        async def end_the_loop() -> None:
            raise asyncio.CancelledError

        job = shop.host.every("sweep", 60.0, end_the_loop)
        assert (await shop.ask("/livez")).status == 200
        job.start()
        await until(lambda: not job.is_alive)
        assert (await shop.ask("/livez")).status == 503

    async def test_metrics_count_by_route_not_by_path(self, shop: InMemory) -> None:
        for path in ("/things/a", "/things/b", "/nowhere", "/elsewhere"):
            await shop.ask(path)
        answer = await shop.ask("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = answer.body.decode().splitlines()
        counts = [line for line in lines if line.startswith("meshmart_request_seconds_count")]
        assert counts == [
            'meshmart_request_seconds_count{operation="GET /things/{thing}",'
            'protocol="http",status="200"} 2.0',
            'meshmart_request_seconds_count{operation="GET unmatched",'
            'protocol="http",status="404"} 2.0',
        ]

    @pytest.mark.parametrize(
        ("accept", "is_openmetrics"),
        [
            ("application/openmetrics-text", True),
            ("text/plain;q=0.3, Application/OpenMetrics-Text; version=1.0.0; q=0.5", True),
            ("application/openmetrics-text;version=odd;escaping=odd", True),
            ("application/openmetrics-text;q=0, */*", False),
            ("*/*", False),
            ("text/plain;version=0.0.4", False),
            ("nonsense;;,,=", False),
        ],
    )
    async def test_metrics_are_openmetrics_for_who_asks_for_it(
        self, shop: InMemory, accept: str, is_openmetrics: bool
    ) -> None:
        await shop.ask("/things/x")
        answer = await shop.ask("/metrics", accept=accept)
        text = answer.body.decode()
        assert answer.status == 200
        assert answer.headers["content-type"] == (
            OPENMETRICS_MEDIA_TYPE if is_openmetrics else TEXT_MEDIA_TYPE
        )
        assert text.endswith("# EOF\n") is is_openmetrics
        assert ('# {trace_id="' in text) is is_openmetrics

    @pytest.mark.parametrize("sampled", [False, True])
    async def test_only_kept_traces_are_exemplars(self, shop: InMemory, sampled: bool) -> None:
        traceparent = f"00-{'a' * 32}-{'b' * 16}-0{int(sampled)}"
        await shop.ask("/things/x", traceparent=traceparent)
        text = (await shop.ask("/metrics", accept="application/openmetrics-text")).body.decode()
        found = {
            (sample.labels["operation"], sample.exemplar.labels["trace_id"])
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.exemplar is not None
        }
        assert found == ({("GET /things/{thing}", "a" * 32)} if sampled else set())

    async def test_metrics_are_few_whatever_is_sent(self, shop: InMemory) -> None:
        for number in range(30):
            await shop.ask(f"/things/{number}", method=f"ODD-{number}")
            await shop.ask(f"/nowhere/{number}?kind={number}")
        await shop.ask("/things/x", host="elsewhere.test", user_agent='a"b')
        lines = (await shop.ask("/metrics")).body.decode().splitlines()
        counts = [line for line in lines if line.startswith("meshmart_request_seconds_count")]
        assert len(counts) == 3, counts


class TestRecent:
    async def test_tells_what_the_process_has_answered(self, service: ThingService) -> None:
        async with in_memory(service, serve_recent=True) as shop:
            for path in ("/things/a", "/things/b", "/nowhere"):
                await shop.ask(path)
            answer = await shop.ask("/recent?seconds=300")
        told = answer.json()
        assert (told["service"], told["version"]) == ("callee", "v1")
        assert told["report"]["served"]["calls"] == 3
        assert told["report"]["served"]["errors"] == 0

    @pytest.mark.parametrize("query", ["", "?seconds=", "?seconds=61", "?seconds=300.0"])
    async def test_knows_its_windows_only(self, service: ThingService, query: str) -> None:
        async with in_memory(service, serve_recent=True) as shop:
            answer = await shop.ask(f"/recent{query}")
        assert answer.status == 422
        assert answer.json()["detail"] == "seconds is one of 60, 300, 900."

    async def test_is_not_there_unless_it_is_asked_for(self, shop: InMemory) -> None:
        assert (await shop.ask("/recent?seconds=60")).status == 404

    async def test_metrics_say_whose_they_are(self, shop: InMemory) -> None:
        lines = (await shop.ask("/metrics")).body.decode().splitlines()
        info = (
            'meshmart_process_info{shop_instance="callee-1",shop_service="callee",'
            'shop_version="v1"} 1.0'
        )
        assert info in lines


class TestTraces:
    async def test_tells_of_a_request(self, service: ThingService) -> None:
        async with in_memory(service, serve_recent=True, trace_sampling_ratio=1.0) as shop:
            await shop.ask("/things/a")
            told = (await shop.ask("/traces")).json()
            assert told["sent_to"] == ""
            (trace,) = told["traces"]
            spans = (await shop.ask(f"/spans?trace_id={trace['trace_id']}")).json()
            nothing = (await shop.ask(f"/spans?trace_id={'0' * 32}")).json()
        assert trace["first"]["name"] == "GET /things/{thing}"
        assert (spans["version"], spans["instance"], spans["dropped"]) == ("v1", "callee-1", 0)
        assert [span["name"] for span in spans["spans"]] == ["GET /things/{thing}"]
        assert nothing["spans"] == []

    @pytest.mark.parametrize("query", ["", "?trace_id=", "?trace_id=1", f"?trace_id={'A' * 32}"])
    async def test_knows_an_id_from_something_else(self, service: ThingService, query: str) -> None:
        async with in_memory(service, serve_recent=True) as shop:
            assert (await shop.ask(f"/spans{query}")).status == 422

    async def test_are_not_there_unless_asked_for(self, service: ThingService) -> None:
        async with in_memory(service) as shop:
            assert (await shop.ask("/traces")).status == 404
            assert (await shop.ask(f"/spans?trace_id={'0' * 32}")).status == 404


class TestDocs:
    async def test_come_whole_from_here(self, shop: InMemory) -> None:
        page = await shop.ask("/docs")
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        html = page.body.decode()
        assert "//" not in html, "nothing from elsewhere"
        assert "<title>callee-service</title>" in html
        loaded = re.findall(r'(?:src|href)="(/[^"]+)"', html)
        assert len(loaded) == 3
        for path in loaded:
            answer = await shop.ask(path)
            assert (answer.status, answer.headers["content-length"] != "0") == (200, True), path
            assert answer.headers["content-type"].startswith(("text/css", "text/javascript"))

    async def test_may_load_and_run_nothing_else(self, shop: InMemory) -> None:
        policy = (await shop.ask("/docs")).headers["content-security-policy"]
        assert policy == api_docs.POLICY
        scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
        assert scripts == "script-src 'self'"

    async def test_do_not_redirect_and_take_no_writes(self, shop: InMemory) -> None:
        assert (await shop.ask("/docs/")).status == 404
        answer = await shop.ask("/docs", "POST")
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_the_openapi_document_has_the_schema_that_problems_refer_to(shop: InMemory) -> None:
    document = (await shop.ask("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    assert {"Problem", "FieldError"} <= set(schemas)
    assert not {"HTTPValidationError", "ValidationError"} & set(schemas)
    operation = document["paths"]["/things/{thing}"]["get"]
    assert {"200", "404", "413", "422", "429", "503", "504"} == set(operation["responses"])


async def test_an_answer_breaks_off_where_it_is_too_late_for_an_error(
    service: ThingService,
) -> None:
    async with serving(service.wire) as running, aiohttp.ClientSession(running.url) as http:
        reply = await http.get("/broken-halfway")
        with pytest.raises(aiohttp.ClientPayloadError):
            await reply.read()


async def test_a_client_that_leaves_in_mid_body_was_not_served(service: ThingService) -> None:
    with capture_logs() as said:
        async with serving(service.wire) as running:
            _, writer = await asyncio.open_connection("127.0.0.1", running.process.http_port)
            writer.write(
                b"POST /things HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\n"
                b'content-length: 100\r\n\r\n{"size":'
            )
            await writer.drain()
            writer.close()
            await writer.wait_closed()

            def is_gone() -> bool:
                return "http.client_gone" in [line["event"] for line in said]

            await until(is_gone)
    assert "http.served" not in [line["event"] for line in said]


async def test_a_stop_lets_requests_finish(service: ThingService) -> None:
    async with aiohttp.ClientSession() as http:
        async with serving(service.wire) as running:
            request = asyncio.create_task(
                fetch_status(http, f"{running.url}/slow", {"x-deadline-ms": "300"})
            )
            await until(service.begun.is_set)
        assert await request == 504, "its own deadline, not a broken connection"


async def fetch_status(http: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> int:
    async with http.get(url, headers=headers) as reply:
        return reply.status
