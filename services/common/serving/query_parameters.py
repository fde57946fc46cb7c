"""Query parameters of the API: a misspelled one is an error."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

_API = "/api/"


async def _refuse_unknown_parameters(request: Request) -> None:
    """Pages take any: links to them bear parameters of others, such as those of campaigns."""
    if not request.scope["query_string"]:
        return
    route = request.scope["route"]
    if not isinstance(route, APIRoute) or not request.scope["path"].startswith(_API):
        return
    known = sorted(_parameters(route.dependant))
    message = f"No such parameter; there are {', '.join(known) or 'none'}"
    unknown = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if unknown:
        raise RequestValidationError(
            [
                {"type": "extra_forbidden", "loc": ("query", name), "msg": message}
                for name in unknown
            ]
        )


KnownParametersOnly = Depends(_refuse_unknown_parameters)
"""For all routes: refuses a request to the API with a query parameter that its route does not take,
as one that is not valid.
"""


def _parameters(dependant: Dependant) -> Iterator[str]:
    for parameter in dependant.query_params:
        yield parameter.alias
    for dependency in dependant.dependencies:
        yield from _parameters(dependency)
