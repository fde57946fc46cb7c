"""How routes get the objects that they serve.

A route is made once, when its module is loaded, for all processes that are forked later. Each
process makes its own objects. A route names an object by its type:
``orders: Annotated[Orders, provided(Orders)]``.
"""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi import Depends, FastAPI, Request

Provided = TypeVar("Provided")


def provide(app: FastAPI, instance: object) -> None:
    """Lets the app's routes ask for `instance` by its type."""
    _instances(app)[type(instance)] = instance


def provided(kind: type[Provided]) -> Any:
    """The mark of a route's parameter of that type; used inside ``Annotated``."""

    async def find(request: Request) -> Provided:
        instance = _instances(request.app)[kind]
        assert isinstance(instance, kind), "provided under its own type"
        return instance

    return Depends(find)


def _instances(app: FastAPI) -> dict[type[Any], object]:
    instances: dict[type[Any], object] | None = getattr(app.state, "provided", None)
    if instances is None:
        instances = app.state.provided = {}
    return instances
