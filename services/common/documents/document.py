"""The base class of documents: their values are immutable."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from services.common.validation import first_wrong


class Document(BaseModel):
    """A document, or a part of one. It never changes: a transition returns another one.

    Pydantic's ``model_copy(update=...)`` takes any key and any value. So a model that has
    transitions declares which of its fields they change, and pyright checks each::

        class CounterChanges(TypedDict, total=False):
            count: int

        class Counter(Document):
            id: str
            count: int = 0

            def changed(self, **to: Unpack[CounterChanges]) -> Self:
                return self._changed(to)
    """

    model_config = ConfigDict(frozen=True)

    def _changed(self, to: Mapping[str, object]) -> Self:
        """Returns this value with other values in some of its fields. Only those are validated: the
        others were when this value was made.

        :raises ValueError: there is no such field, or it has another type.
        """
        kind = type(self)
        checked = {name: _checked(kind, name, value) for name, value in to.items()}
        return self.model_copy(update=checked)


def _checked(kind: type[Document], name: str, value: object) -> object:
    try:
        return _field(kind, name).validate_python(value, strict=True)
    except ValidationError as error:
        raise ValueError(f"{kind.__name__}.{name}: {first_wrong(error).reason}") from error


@cache
def _field(kind: type[Document], name: str) -> TypeAdapter[Any]:
    field = kind.model_fields.get(name)
    if field is None:
        raise ValueError(f"{kind.__name__} has no field {name}")
    return TypeAdapter(field.rebuild_annotation())
