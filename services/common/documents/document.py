"""The base class of documents: their values are immutable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict


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
        """Returns this value with other values in some of its fields.

        :raises ValueError: there is no such field, or it has another type.
        """
        unknown = to.keys() - type(self).model_fields.keys()
        if unknown:
            raise ValueError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        return self.model_validate({**dict(self), **to}, strict=True)
