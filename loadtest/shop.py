"""Requests to the shop whose answers are asserted: one that is not as it must be is a failure in
locust's figures, and the end of what its user was about to do.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeVar

from locust.exception import RescheduleTask
from pydantic import BaseModel, ValidationError

from loadtest.answers import Problem

Model = TypeVar("Model", bound=BaseModel)

_MAX_REASON_LENGTH = 300
_POLL_SECONDS = 0.25


class _Response(Protocol):
    """The part of locust's answer that is used here."""

    request_meta: dict[str, Any]

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str] | None: ...
    @property
    def text(self) -> str | None: ...
    def success(self) -> None: ...
    def failure(self, exc: str) -> None: ...


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
        headers: Mapping[str, str],
        catch_response: bool,
        allow_redirects: bool,
    ) -> AbstractContextManager[_Response]:
        """Gives an answer that counts as what it is said to be when the context is left."""
        ...


class Answer:
    """An answer of an expected status.

    :param step: what the request is counted as; may be set to something more precise.
    """

    def __init__(self, step: str, status: int, media_type: str, text: str) -> None:
        self.step = step
        self.status = status
        self.media_type = media_type
        self.text = text

    def read(self, model: type[Model]) -> Model:
        """The JSON of the body, checked."""
        assert self.media_type.endswith("json"), f"{self.media_type} instead of JSON"
        return model.model_validate_json(self.text)

    def problem(self) -> Problem:
        """The problem details of the body (RFC 9457), which agree with the status."""
        assert self.media_type == "application/problem+json", f"a problem as {self.media_type}"
        problem = self.read(Problem)
        assert problem.status == self.status, f"a problem that says {problem.status}"
        return problem


class Patience:
    """How long to ask again for what comes in its own time."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        """Whether it must be there by now."""
        return time.monotonic() > self._until

    def pause(self) -> None:
        """Until it is worth asking again. Only this user waits: locust has patched `sleep`."""
        time.sleep(_POLL_SECONDS)


class Shop:
    """The shop's pages and public API, for one user."""

    def __init__(self, http: Http) -> None:
        self._http = http

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
        headers: Mapping[str, str] | None = None,
    ) -> Generator[Answer]:
        """One request. Assertions about its answer belong into the context, which makes them its
        failure.

        :param step: ``group: what``; thresholds are set by group.
        """
        with self._http.request(
            method,
            path,
            name=step,
            params=query,
            json=json,
            headers=headers or {},
            catch_response=True,
            allow_redirects=False,
        ) as response:
            try:
                answer = _answer(step, response, expect)
                yield answer
            except (AssertionError, ValueError) as fault:
                response.failure(_reason(fault))
                raise RescheduleTask from fault
            response.request_meta["name"] = answer.step
            response.success()

    def get(
        self,
        path: str,
        *,
        step: str,
        query: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AbstractContextManager[Answer]:
        """What is at a path; it must be there."""
        return self.request("GET", path, step=step, query=query, headers=headers)

    @contextmanager
    def page(
        self, path: str, *, step: str, query: Mapping[str, str | int] | None = None
    ) -> Generator[str]:
        """The HTML of one of the pages, which is whole."""
        with self.get(path, step=step, query=query) as answer:
            assert answer.media_type == "text/html", f"{answer.media_type} instead of a page"
            assert answer.text.rstrip().endswith("</html>"), "the page breaks off"
            yield answer.text


def _answer(step: str, response: _Response, expect: Collection[int]) -> Answer:
    status, text = response.status_code, response.text or ""
    if not status:
        raise AssertionError(f"no answer: {getattr(response, 'error', 'the connection broke')!r}")
    if status not in expect:
        raise AssertionError(f"status {status}: {text}")
    content_type = (response.headers or {}).get("content-type", "")
    return Answer(step, status, content_type.partition(";")[0], text)


def _reason(fault: AssertionError | ValueError) -> str:
    """On one line, and short, since locust counts equal failures together."""
    if isinstance(fault, ValidationError):
        first = fault.errors(include_url=False, include_input=False)[0]
        text = f"{fault.title}.{'.'.join(map(str, first['loc']))}: {first['msg']}"
    else:
        text = str(fault)
    return " ".join(text.split())[:_MAX_REASON_LENGTH]
