"""The caller of a route's request, as FastAPI hands it to the route."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from services.common import context
from services.common.dependency_injection import provided
from services.common.errors import Kind, ShopError
from services.common.identity.access_tokens import Caller, TokenVerifier


async def require_caller(verifier: TokenVerifier) -> Caller:
    """The caller of the current request, by the token in its context.

    :raises ShopError: UNAUTHENTICATED without a valid token.
    """
    token = context.current().token
    if token is None:
        raise ShopError(
            Kind.UNAUTHENTICATED, "no-token", "Please log in: this needs an access token."
        )
    return await verifier.verify(token)


# Only declares the scheme in the OpenAPI document; the token itself is read from the request's
# context.
_BEARER = HTTPBearer(
    auto_error=False, bearerFormat="JWT", description="An access token of `POST /api/auth/login`."
)


async def _caller_of_request(
    verifier: Annotated[TokenVerifier, provided(TokenVerifier)], _: Annotated[Any, Depends(_BEARER)]
) -> Caller:
    return await require_caller(verifier)


CallerDependency = Annotated[Caller, Depends(_caller_of_request)]


def asks_for_caller(router: APIRouter) -> bool:
    """Whether any route of the router wants to know who calls, and so needs a TokenVerifier."""
    return any(
        _caller_of_request in _dependencies(route.dependant)
        for route in router.routes
        if isinstance(route, APIRoute)
    )


def _dependencies(dependant: Dependant) -> Iterator[Callable[..., Any] | None]:
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _dependencies(dependency)
