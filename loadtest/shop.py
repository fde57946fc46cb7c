"""Requests to the shop with assertions about their answers. A wrong answer is a failure in locust's
figures, and ends the journey of its user.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeVar

from gevent import GreenletExit
from locust.exception import CatchResponseError, RescheduleTask
from pydantic import BaseModel, ValidationError

from loadtest.answers import Problem
from loadtest.recording import SHED

Model = TypeVar("Model", bound=BaseModel)

_MAX_REASON_LENGTH = 300
_POLL_SECONDS = 0.25
_STALLED_SECONDS = 5.0
_OVERLOADED = frozenset({429, 503})


class _Response(Protocol):
    """The part of locust's answer that is used here."""

    request_meta: dict[str, Any]

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str] | None: ...
    @property
    def text(self) -> str | None: ...


class Http(Protocol):
    """The part of locust's HTTP client that is used here."""

    def request(
        self,
        method: str,
        url: str,
        *,
        name: str,
        params: Mapping[str, str | int] | None,
        json: Any,
        data: str | None,
        headers: Mapping[str, str],
        catch_response: bool,
        allow_redirects: bool,
    ) -> _Response:
        """Returns an answer that is not counted: with `catch_response`, its user does that."""
        ...


class Answer:
    """An answer of an expected status.

    :param step: what the request is counted as; may be set to something more precise.
    :ivar location: where a redirect leads; empty for other answers.
    """

    def __init__(
        self, step: str, status: int, media_type: str, text: str, location: str = ""
    ) -> None:
        self.step = step
        self.status = status
        self.media_type = media_type
        self.text = text
        self.location = location

    def read(self, model: type[Model]) -> Model:
        """Returns the JSON of the body, checked."""
        assert self.media_type.endswith("json"), f"{self.media_type} instead of JSON"
        return model.model_validate_json(self.text)

    def problem(self) -> Problem:
        """Returns the problem details of the body (RFC 9457), which agree with the status."""
        assert self.media_type == "application/problem+json", f"a problem as {self.media_type}"
        problem = self.read(Problem)
        assert problem.status == self.status, f"a problem that says {problem.status}"
        return problem


class Patience:
    """A time limit for a condition that becomes true some time after a request."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        """Whether the time limit has passed."""
        return time.monotonic() > self._until

    def pause(self) -> None:
        """Waits before the next look. Only this user waits: locust has patched `sleep`."""
        time.sleep(_POLL_SECONDS)


class Shop:
    """The shop's pages and public API, for one user.

    :param count: counts a request, by locust's description of it.
    :param accepts_shedding: whether 429 and 503 with Retry-After are counted as refused (`shed`),
        and not as failed.
    """

    def __init__(
        self, http: Http, count: Callable[..., None], *, accepts_shedding: bool = False
    ) -> None:
        self._http = http
        self._count = count
        self._accepts_shedding = accepts_shedding
        self._late_seconds = 0.0

    def begin_late(self, seconds: float) -> None:
        """Counts the next request from when it should have begun.

        :param seconds: how late it begins.
        """
        self._late_seconds = seconds

    @contextmanager
    def request(
        self,
        method: str,
        path: str,
        *,
        step: str,
        expect: Collection[int] = (200,),
        query: Mapping[str, str | int] | None = None,
        json: Any = None,
        data: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Generator[Answer]:
        """Makes a request. An assertion about its answer that fails in the context is counted as a
        failure of the request.

        :param step: ``group: what``; thresholds are set by group.
        """
        late_seconds, self._late_seconds = self._late_seconds, 0.0
        began_at, began = time.time(), time.monotonic()
        try:
            response = self._http.request(
                method,
                path,
                name=step,
                params=query,
                json=json,
                data=data,
                headers=headers or {},
                catch_response=True,
                allow_redirects=False,
            )
        except GreenletExit:  # the run is over, and so is the time to wait for answers
            self._count_unanswered(method, step, began_at, time.monotonic() - began)
            raise
        meta: dict[str, Any] = {**response.request_meta, "exception": None}
        meta["response_time"] += 1000 * late_seconds
        if self._accepts_shedding and _is_shed(response):
            self._count(**{**meta, "name": f"{SHED}: {step}"})
            raise RescheduleTask
        try:
            answer = _answer(step, response, expect)
            yield answer
        except (AssertionError, ValueError) as fault:
            self._count(**{**meta, "exception": CatchResponseError(_reason(fault))})
            raise RescheduleTask from fault
        self._count(**{**meta, "name": answer.step})

    def _count_unanswered(
        self, method: str, step: str, began_at: float, waited_seconds: float
    ) -> None:
        """Counts a request without an answer at the end of the run, unless it has only begun."""
        if waited_seconds >= _STALLED_SECONDS:
            self._count(
                request_type=method,
                name=step,
                start_time=began_at,
                response_time=waited_seconds * 1000,
                response_length=0,
                exception=CatchResponseError("no answer when the run ended"),
                context={},
            )

    def get(
        self,
        path: str,
        *,
        step: str,
        query: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AbstractContextManager[Answer]:
        """Requests a path, which must exist."""
        return self.request("GET", path, step=step, query=query, headers=headers)

    def get_or_move(self, path: str, *, step: str) -> AbstractContextManager[Answer]:
        """Requests a path that answers with a page or a redirect."""
        return self.request("GET", path, step=step, expect=(200, 303))

    @contextmanager
    def page(
        self, path: str, *, step: str, query: Mapping[str, str | int] | None = None
    ) -> Generator[str]:
        """Requests a page; yields its HTML, which is complete."""
        with self.get(path, step=step, query=query) as answer:
            assert answer.media_type == "text/html", f"{answer.media_type} instead of a page"
            assert answer.text.rstrip().endswith("</html>"), "the page breaks off"
            yield answer.text


def _is_shed(response: _Response) -> bool:
    return response.status_code in _OVERLOADED and "retry-after" in (response.headers or {})


def _answer(step: str, response: _Response, expect: Collection[int]) -> Answer:
    status, text, headers = response.status_code, response.text or "", response.headers or {}
    if not status:
        raise AssertionError(f"no answer: {getattr(response, 'error', 'the connection broke')!r}")
    if status not in expect:
        raise AssertionError(f"status {status}: {text}")
    media_type = headers.get("content-type", "").partition(";")[0]
    return Answer(step, status, media_type, text, headers.get("location", ""))


def _reason(fault: AssertionError | ValueError) -> str:
    """Returns one short line, since locust counts equal failures together."""
    if isinstance(fault, ValidationError):
        first = fault.errors(include_url=False, include_input=False)[0]
        text = f"{fault.title}.{'.'.join(map(str, first['loc']))}: {first['msg']}"
    else:
        text = str(fault)
    return " ".join(text.split())[:_MAX_REASON_LENGTH]
