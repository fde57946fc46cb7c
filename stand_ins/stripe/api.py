"""HTTP: Stripe's routes under ``/v1``, the sandbox's own under ``/sandbox``, and a page."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from services.common.protocols.http_semantics import allowed_here
from services.common.validation import first_wrong
from stand_ins.stripe import commands, faults_page, page
from stand_ins.stripe.commands import ReadCommand
from stand_ins.stripe.edges import ProtocolMiddleware, is_own_page, refused
from stand_ins.stripe.errors import ApiError, invalid
from stand_ins.stripe.faults import SandboxFaultInjector, SandboxFaults
from stand_ins.stripe.frame import HEADERS
from stand_ins.stripe.sandbox import ApiCall, ApiReply, Sandbox
from stand_ins.stripe.store import Store

MAX_BODY_BYTES = 64 * 1024
BODY_SECONDS = 10.0
DEFAULT_LEDGER, MAX_LEDGER = 1000, 10_000
PAGE_LENGTH = 100

Drop = Callable[[tuple[str, int]], None]
"""Breaks the connection of the client at that address."""

ROUTES: Mapping[tuple[str, str], ReadCommand] = {
    ("POST", "/v1/payment_intents"): commands.create_intent,
    ("GET", "/v1/payment_intents"): commands.list_intents,
    ("GET", "/v1/payment_intents/search"): commands.search_intents,
    ("GET", "/v1/payment_intents/{id}"): commands.retrieve_intent,
    ("POST", "/v1/payment_intents/{id}"): commands.update_intent,
    ("POST", "/v1/payment_intents/{id}/confirm"): commands.confirm_intent,
    ("POST", "/v1/payment_intents/{id}/capture"): commands.capture_intent,
    ("POST", "/v1/payment_intents/{id}/cancel"): commands.cancel_intent,
    ("POST", "/v1/refunds"): commands.create_refund,
    ("GET", "/v1/refunds"): commands.list_refunds,
    ("GET", "/v1/refunds/{id}"): commands.retrieve_refund,
    ("GET", "/v1/disputes"): commands.list_disputes,
    ("GET", "/v1/disputes/{id}"): commands.retrieve_dispute,
}


class Api:
    """The routes' handlers and what they need."""

    def __init__(
        self,
        sandbox: Sandbox,
        store: Store,
        injector: SandboxFaultInjector,
        *,
        drop: Drop,
        allow_reset: bool,
    ) -> None:
        self._sandbox = sandbox
        self._store = store
        self._injector = injector
        self._drop = drop
        self._allow_reset = allow_reset

    def app(self) -> ASGIApp:
        stripe = [
            Route(path, self._stripe(read), methods=[method])
            for (method, path), read in ROUTES.items()
        ]
        unknown = Route(
            "/v1/{rest:path}",
            self._stripe(_unrecognized),
            methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        )
        own = [
            Route("/", self.show_ledger),
            Route("/faults", self.show_faults, methods=["GET"]),
            Route("/faults", self.take_faults, methods=["POST"]),
            Route("/livez", self.live),
            Route("/readyz", self.ready),
            Route("/sandbox/faults", self.read_faults, methods=["GET"]),
            Route("/sandbox/faults", self.set_faults, methods=["POST"]),
            Route("/sandbox/ledger", self.read_ledger, methods=["GET"]),
            Route("/sandbox/ledger", self.reset_ledger, methods=["DELETE"]),
            Route("/sandbox/backup", self.back_up, methods=["GET"]),
        ]
        routes = [*stripe, unknown, *own]

        async def refuse_method(request: Request, _: Exception) -> Response:
            response = refused(405, "This address does not answer that method.")
            response.headers["allow"] = allowed_here(request, routes)
            return response

        return ProtocolMiddleware(Starlette(routes=routes, exception_handlers={405: refuse_method}))

    def _stripe(self, read: ReadCommand) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            is_post = request.method == "POST"
            try:
                encoded = await _body(request) if is_post else request.url.query.encode()
            except ApiError as error:
                return JSONResponse(error.body("req_unread"), error.status)
            headers = request.headers
            reply = await self._sandbox.answer(
                ApiCall(
                    method=request.method,
                    path=request.url.path,
                    encoded=encoded,
                    authorization=headers.get("authorization"),
                    idempotency_key=headers.get("idempotency-key"),
                    version=headers.get("stripe-version"),
                    read=read,
                    identifier=request.path_params.get("id", ""),
                )
            )
            if reply is None:
                return NoReply()
            return LostReply(self._drop) if reply.lost else _response(reply)

        return handle

    async def read_faults(self, _: Request) -> Response:
        return JSONResponse(self._injector.faults.model_dump())

    async def set_faults(self, request: Request) -> Response:
        """Replaces all faults: what the body does not name is off.

        Only as JSON: a browser sends that for no other site's page without asking first (a request
        that is not "simple", https://fetch.spec.whatwg.org/#http-cors-protocol).
        """
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return refused(415, "Send the faults as application/json.")
        try:
            self._injector.load(SandboxFaults.model_validate_json(await _body(request)))
        except ValidationError as error:
            wrong = first_wrong(error)
            where = wrong.place("")
            return refused(400, f"{where}: {wrong.reason}" if where else wrong.reason)
        except ApiError as error:
            return refused(error.status, error.message)
        return JSONResponse(self._injector.faults.model_dump())

    async def read_ledger(self, request: Request) -> Response:
        """``?order_id=`` asks for one order's; ``?limit=`` bounds the lists, not the totals. The
        lists go on behind the payment ``?payment_intents_after=`` and the refund
        ``?refunds_after=``.
        """
        query = request.query_params
        limit = query.get("limit", str(DEFAULT_LEDGER))
        if not (limit.isdecimal() and len(limit) < 6 and 1 <= int(limit) <= MAX_LEDGER):
            return refused(400, f"limit must be a number from 1 to {MAX_LEDGER}.")
        return JSONResponse(
            await self._ledger(
                query.get("order_id"),
                int(limit),
                intents_after=query.get("payment_intents_after"),
                refunds_after=query.get("refunds_after"),
            )
        )

    async def reset_ledger(self, _: Request) -> Response:
        """Forgets all payments, refunds and idempotency keys, where the settings allow it."""
        if not self._allow_reset:
            return refused(403, "Start the sandbox with SANDBOX_ALLOW_RESET=true to allow this.")
        await self._store.run(lambda books: books.clear())
        self._sandbox.outcomes.clear()
        return Response(status_code=204)

    async def back_up(self, _: Request) -> Response:
        """The books as a SQLite file, which can be put in SANDBOX_DATA_DIR while nothing runs."""
        return Response(await self._store.copy(), media_type="application/vnd.sqlite3")

    async def show_ledger(self, _: Request) -> Response:
        ledger = await self._ledger(None, PAGE_LENGTH)
        return _page(page.render(ledger, faults_page.said(self._injector.faults)))

    async def show_faults(self, _: Request) -> Response:
        return _page(faults_page.render(self._injector.faults))

    async def take_faults(self, request: Request) -> Response:
        """Replaces all faults by those of the form on the page, which is all that may ask for it:
        any website can send a form.
        """
        if not is_own_page(request.headers):
            return refused(403, "Use the form at /faults, or POST JSON to /sandbox/faults.")
        try:
            self._injector.load(faults_page.read(await _body(request)))
        except ApiError as error:
            return _page(
                faults_page.render(self._injector.faults, wrong=error.message), error.status
            )
        return RedirectResponse("/faults", 303)

    async def live(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """Ready when the books answer."""
        try:
            async with asyncio.timeout(1.0):
                await self._store.run(lambda books: books.check())
        except (TimeoutError, sqlite3.Error) as error:
            wrong = str(error) or "no answer in time"
            return JSONResponse({"status": "failing", "checks": {"books": wrong}}, 503)
        return JSONResponse({"status": "ok"})

    async def _ledger(
        self,
        order_id: str | None,
        limit: int,
        *,
        intents_after: str | None = None,
        refunds_after: str | None = None,
    ) -> dict[str, Any]:
        ledger = await self._store.run(
            lambda books: books.ledger(
                order_id, limit, intents_after=intents_after, refunds_after=refunds_after
            )
        )
        return ledger | {"requests": dict(sorted(self._sandbox.outcomes.items()))}


class NoReply(Response):
    """Leaves the client waiting until it goes."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  as in all
        while (await receive())["type"] != "http.disconnect":
            continue


class LostReply(NoReply):
    """Breaks the connection instead of answering."""

    def __init__(self, drop: Drop) -> None:
        super().__init__()
        self._drop = drop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._drop(tuple(scope["client"]))
        await super().__call__(scope, receive, send)


def _page(html: str, status: int = 200) -> Response:
    return Response(html, status, HEADERS, media_type="text/html")


def _response(reply: ApiReply) -> Response:
    return Response(reply.body, reply.status, reply.headers, media_type="application/json")


def _unrecognized(*_: object) -> commands.Command:
    raise invalid(
        "Unrecognized request URL. The sandbox knows only what the shop needs: "
        + ", ".join(f"{method} {path}" for method, path in ROUTES),
        status=404,
    )


async def _body(request: Request) -> bytes:
    """The whole body, if it is neither too large nor too slow."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS), contextlib.aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise invalid(f"Request body exceeds {MAX_BODY_BYTES} bytes.", status=413)
    except ClientDisconnect:
        raise invalid("The request's body ended early.") from None
    except TimeoutError:
        raise invalid("The request's body did not arrive in time.", status=408) from None
    return bytes(body)
