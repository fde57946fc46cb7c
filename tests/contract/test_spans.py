"""What a store does is a span of the request that it does it for, in the database's own words."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode

from services.common.documents import AlreadyExists, Documents, StoreUnavailable, TracedStore
from tests.contract.conftest import Database
from tests.contract.items import ITEMS, Item

SECRET = "bob@example.com"
# insert, get, find, replace, increment, delete
WORDS: Mapping[str, list[str]] = {
    "sqlite": ["INSERT", "SELECT", "SELECT", "UPDATE", "UPDATE", "DELETE"],
    "mongodb": ["insert", "find", "find", "update", "findAndModify", "delete"],
}


class Traced:
    """A store with spans, and the spans."""

    def __init__(self, database: Database) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("test")
        self.database = database
        self.store = TracedStore(
            database.store(), self.tracer, url=database.url, database=database.name
        )

    async def items(self) -> Documents[Item]:
        """The items, through the spans."""
        return await Documents.open(self.store, ITEMS, Item)

    def spans(self) -> list[ReadableSpan]:
        """Those of the store, in the order in which they ended."""
        return [span for span in self._exporter.get_finished_spans() if span.name != "request"]


@pytest.fixture
def traced(database: Database) -> Traced:
    return Traced(database)


async def everything(items: Documents[Item]) -> None:
    """Each operation once."""
    await items.insert(Item(id=SECRET, owner=SECRET, rank=1))
    stored = await items.get(SECRET)
    assert stored is not None
    await items.find("by_owner", equal=(SECRET,))
    stored = await items.replace(stored, stored.value.model_copy(update={"rank": 2}))
    stored = await items.increment(SECRET, {"stock": 1})
    assert stored is not None
    await items.delete(stored)


async def test_each_operation_is_a_span_without_values(traced: Traced) -> None:
    items = await traced.items()
    with traced.tracer.start_as_current_span("request") as request:
        await everything(items)
    system = traced.database.url.partition(":")[0]
    spans = traced.spans()
    assert [span.name for span in spans] == [f"{word} items" for word in WORDS[system]]
    for span, word in zip(spans, WORDS[system], strict=True):
        assert span.parent is not None
        assert span.parent.span_id == request.get_span_context().span_id
        assert span.kind is trace.SpanKind.CLIENT
        assert span.attributes == {
            "db.system.name": system,
            "db.namespace": traced.database.name,
            "db.collection.name": "items",
            "db.operation.name": word,
        }
        assert SECRET not in span.to_json()


async def test_there_are_none_where_nobody_keeps_the_trace(traced: Traced) -> None:
    items = await traced.items()
    await everything(items)
    dropped = NonRecordingSpan(SpanContext(0xA, 0xB, is_remote=False))
    with trace.use_span(dropped):
        await items.get(SECRET)
    assert traced.spans() == []


async def test_an_outage_is_an_error_and_a_refusal_is_not(traced: Traced) -> None:
    items = await traced.items()
    item = Item(id=SECRET, owner=SECRET, rank=1)
    await items.insert(item)
    with traced.tracer.start_as_current_span("request"):
        with pytest.raises(AlreadyExists):
            await items.insert(item)
        await traced.store.close()
        with pytest.raises(StoreUnavailable):
            await items.get(SECRET)
    refused, failed = traced.spans()
    assert refused.status.status_code is StatusCode.UNSET
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "store-unavailable"
    for span in (refused, failed):
        assert not span.events
        assert SECRET not in span.to_json()
