"""What the services promise to answer: their OpenAPI documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import aiohttp

from services.common.protocols.problem import MEDIA_TYPE, Problem
from services.common.topology import load_topology, path_pattern
from tests.testkit.customer import Answer
from tests.testkit.shop import Shop

# Answers of HTTP itself (RFC 9110, RFC 6585), which come before any operation is known.
_OF_HTTP = frozenset({405, 408, 413, 431})


class Contract:
    """The documented operations of all services, by path template.

    :param paths: the `paths` of the OpenAPI documents.
    """

    def __init__(self, paths: Mapping[str, Mapping[str, Any]]) -> None:
        self._operations = {
            template: (path_pattern(template), methods) for template, methods in paths.items()
        }

    @classmethod
    async def read(cls, shop: Shop) -> Self:
        """Reads what a running shop publishes."""
        paths: dict[str, Mapping[str, Any]] = {}
        async with aiohttp.ClientSession() as session:
            for name in load_topology().services:
                response = await session.get(
                    f"{shop.of_service(name)[0].internal_url}/openapi.json"
                )
                paths.update((await response.json())["paths"])
        return cls(paths)

    def check_refusal(self, method: str, path: str, answer: Answer) -> None:
        """Makes sure that an answer is an error of the client, told as a problem, and documented.

        :raises AssertionError: it is not.
        """
        assert 400 <= answer.status < 500, answer
        assert answer.headers["content-type"] == MEDIA_TYPE, answer
        problem = Problem.model_validate(answer.body)
        assert problem.status == answer.status
        assert problem.detail.endswith("."), problem
        if answer.status not in _OF_HTTP:
            assert str(answer.status) in self._statuses(method, path), answer

    def _statuses(self, method: str, path: str) -> set[str]:
        found = [
            set(methods[method.lower()]["responses"])
            for pattern, methods in self._operations.values()
            if pattern.fullmatch(path) and method.lower() in methods
        ]
        assert found, f"{method} {path} is not documented"
        return set[str]().union(*found)
