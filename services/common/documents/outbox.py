"""Messages that are stored in the document whose change they report, so that neither exists without
the other, and are delivered at least once: the pattern Transactional Outbox
(https://microservices.io/patterns/data/transactional-outbox.html).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self, TypedDict

from services.common.documents.document import Document


class Event(Document):
    """Something to tell; its id lets the receiver drop repetitions."""

    id: str
    kind: str
    facts: Mapping[str, str]


class OutboxChanges(TypedDict, total=False):
    """What an outbox adds to the changes of its document."""

    events: tuple[Event, ...]
    undelivered: tuple[Event, ...]


class Outbox(Document):
    """A document with events to deliver, first to last.

    :ivar undelivered: those that the receiver has refused for good.
    """

    events: tuple[Event, ...] = ()
    undelivered: tuple[Event, ...] = ()

    def with_first_event_taken(self) -> Self:
        """Returns the document after the receiver has taken the first event."""
        return self._changed(OutboxChanges(events=self.events[1:]))

    def with_first_event_refused(self) -> Self:
        """Returns the document after the receiver has refused the first event for good: others must
        not wait for it.
        """
        refused, *others = self.events
        undelivered = (*self.undelivered, refused)
        return self._changed(OutboxChanges(events=tuple(others), undelivered=undelivered))

    def with_events_again(self, past: Iterable[Event]) -> Self:
        """Returns the document with events of its past before those that wait, for a receiver that
        has lost some: those that it knows it drops. An event that waits already is not added.
        """
        waiting = {event.id for event in self.events}
        again = [event for event in past if event.id not in waiting]
        return self._changed(OutboxChanges(events=(*again, *self.events)))
