"""Runs coroutines step by step, so that a test decides who goes next and who dies where.

One step is one operation of the document store, or one call that a fake answers: whatever happens
between two processes happens between two steps. A coroutine that is never resumed is a process that
was killed there.
"""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from services.common.documents import AlreadyExists, Collection, RevisionConflict, StoreUnavailable
from services.common.documents.api import Query, Record
from services.common.documents.increment import Increment
from services.common.documents.values import Body, lookup
from services.common.errors import ShopError

System = TypeVar("System")
Job = Callable[[System], Coroutine[Any, Any, object]]


class _Turn:
    """Awaited before each operation of the store: the chance for others to go first."""

    def __await__(self) -> Generator[None]:
        yield


class SteppedStore:
    """A DocumentStore in memory, as far as the services under test use it."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], Record] = {}

    async def prepare(self, collection: Collection) -> None:
        await _Turn()

    async def insert(self, collection: Collection, document_id: str, body: Body) -> None:
        await _Turn()
        if (collection.name, document_id) in self._records:
            raise AlreadyExists(collection.name, "id")
        self._put(collection, Record(document_id, 1, body))

    async def get_many(self, collection: Collection, ids: Sequence[str]) -> list[Record]:
        await _Turn()
        found = (self._records.get((collection.name, one)) for one in ids)
        return [copy.deepcopy(record) for record in found if record is not None]

    async def find(self, collection: Collection, query: Query) -> list[Record]:
        await _Turn()
        assert query.after is None, "the few documents of a test fit on one page"
        found = [
            record
            for (name, _), record in self._records.items()
            if name == collection.name and _is_found(record.body, query)
        ]
        return copy.deepcopy(found[: query.limit])

    async def replace(
        self, collection: Collection, document_id: str, revision: int, body: Body
    ) -> None:
        await _Turn()
        record = self._records.get((collection.name, document_id))
        if record is None or record.revision != revision:
            raise RevisionConflict(collection.name)
        self._put(collection, Record(document_id, revision + 1, body))

    async def increment(
        self, collection: Collection, document_id: str, increment: Increment
    ) -> Record | None:
        await _Turn()
        record = self._records.get((collection.name, document_id))
        if record is None or not increment.holds(record.body):
            return None
        body = copy.deepcopy(record.body)
        increment.apply(body)
        changed = Record(document_id, record.revision + 1, body)
        self._put(collection, changed)
        return changed

    async def delete(self, collection: Collection, document_id: str, revision: int) -> None:
        raise NotImplementedError("none of these services deletes anything")

    async def ping(self) -> None:
        await _Turn()

    async def close(self) -> None:
        await _Turn()

    def fill(self, collection: Collection, value: BaseModel) -> None:
        """Puts a document there without taking a step."""
        body = value.model_dump(mode="json")
        self._put(collection, Record(body["id"], 1, body))

    def bodies(self, collection: Collection) -> list[Body]:
        """All documents of a collection as they are now."""
        return [
            copy.deepcopy(record.body)
            for (name, _), record in self._records.items()
            if name == collection.name
        ]

    def _put(self, collection: Collection, record: Record) -> None:
        self._records[collection.name, record.id] = copy.deepcopy(record)


def _is_found(body: Body, query: Query) -> bool:
    if query.index.order is None:
        return True
    value = lookup(body, query.index.order)
    if not isinstance(value, int):
        return False
    assert not isinstance(query.at_least, str)
    assert not isinstance(query.below, str)
    return (query.at_least is None or value >= query.at_least) and (
        query.below is None or value < query.below
    )


class Actor:
    """One process at work on one thing."""

    def __init__(self, work: Coroutine[Any, Any, object]) -> None:
        self._work = work
        self.done = False
        self.error: ShopError | None = None

    def step(self) -> None:
        """Goes on to just before the next operation of the store."""
        try:
            self._work.send(None)
        except StopIteration:
            self.done = True
        except ShopError as error:
            self.done, self.error = True, error

    def go(self, steps: int) -> None:
        """Goes on so many steps, or to the end if that comes first."""
        for _ in range(steps):
            if not self.done:
                self.step()

    def finish(self) -> ShopError | None:
        """Goes on to the end; the error that it ended with, if any."""
        while not self.done:
            self.step()
        return self.error

    def die(self) -> None:
        """Is killed before the next operation of the store."""
        self._work.close()
        self.done = True

    def lose_the_store(self) -> None:
        """Is told that the store is out, instead of the result of the next operation."""
        try:
            self._work.throw(StoreUnavailable())
        except StoreUnavailable as error:
            self.done, self.error = True, error
        else:
            raise AssertionError("that the store is out was ignored")


def run(work: Coroutine[Any, Any, object]) -> None:
    """Runs something to its end with nobody in between; raises what it raises."""
    error = Actor(work).finish()
    if error is not None:
        raise error


def names_of(jobs: Iterable[Job[Any]]) -> str:
    """What a test calls some jobs that are done in a row or at once."""
    return " and ".join(job.__name__ for job in jobs) or "new"


def interleave_jobs(
    new_system: Callable[[], System],
    before: Iterable[Job[System]],
    jobs: tuple[Job[System], Job[System]],
    check: Callable[[System], None],
) -> None:
    """Lets one of two get some way, then the other some way, then each go to its end, in all ways.

    That a few switches suffice to show most errors of concurrency is what systematic testers rest
    on: M. Musuvathi, S. Qadeer, Iterative Context Bounding for Systematic Testing, PLDI 2007.

    :param new_system: makes what both work on, for each way. :param before: is done there first.
    :param check: looks at it when both are done.
    """
    for first, second in (jobs, jobs[::-1]):
        for steps_of_first in itertools.count():
            first_was_done = False
            for steps_of_second in itertools.count(1):
                system = _after(new_system, before)
                one, other = Actor(first(system)), Actor(second(system))
                one.go(steps_of_first)
                first_was_done = one.done
                other.go(steps_of_second)
                second_was_done = other.done
                one.finish()
                other.finish()
                check(system)
                if second_was_done:
                    break
            if first_was_done:
                break


def _after(new_system: Callable[[], System], jobs: Iterable[Job[System]]) -> System:
    system = new_system()
    for job in jobs:
        run(job(system))
    return system


def undo_in_every_order(
    new_system: Callable[[], System],
    request: Job[System],
    undo: Job[System],
    check: Callable[[System], None],
    *,
    closed: str,
) -> None:
    """Lets a request and its undo, twice each, come one after the other, in all orders.

    :param check: looks at each system at its end. :param closed: what a request is told, by its
        error's code, that comes after an undo; nothing else is to fail.
    """
    for order in itertools.permutations((request, request, undo, undo)):
        system, is_undone = new_system(), False
        for job in order:
            error = Actor(job(system)).finish()
            is_late = is_undone and job is request
            assert (error and error.code) == (closed if is_late else None)
            is_undone |= job is undo
        check(system)


def interleave_by_chance(works: Iterable[Coroutine[Any, Any, object]], seed: int) -> set[str]:
    """Lets any of them take the next step until all are done; returns their errors' codes."""
    chance = random.Random(seed)
    actors = [Actor(work) for work in works]
    while at_work := [actor for actor in actors if not actor.done]:
        chance.choice(at_work).step()
    return {actor.error.code for actor in actors if actor.error}


def cut_everywhere(
    new_system: Callable[[], System], before: Iterable[Job[System]], job: Job[System]
) -> Iterator[tuple[System, Actor]]:
    """The same job once for each of its steps, in a new system in which others were done before:
    gone on just that far.
    """
    for steps in itertools.count():
        system = _after(new_system, before)
        actor = Actor(job(system))
        actor.go(steps)
        if actor.done:
            return
        yield system, actor
