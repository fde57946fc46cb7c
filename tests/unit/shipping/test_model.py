"""Tariffs, and the way of a parcel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.delivery import COUNTRIES, MAX_PARCEL_GRAMS
from services.common.errors import Kind, ShopError
from services.shipping import model
from services.shipping.model import Shipment, ShipmentState
from tests.unit.shipping.examples import NOW_MS, STEP_MS, a_shipment

WAY = [
    ShipmentState.DISPATCHED,
    ShipmentState.IN_TRANSIT,
    ShipmentState.OUT_FOR_DELIVERY,
    ShipmentState.DELIVERED,
]


def moved_to(state: ShipmentState) -> Shipment:
    """A parcel that went its way up to there, a step at a time, its events undelivered."""
    shipment = a_shipment()
    now_ms = NOW_MS
    if state is ShipmentState.PREPARED:
        return shipment
    shipment = model.dispatched(shipment, now_ms, STEP_MS)
    while shipment.state is not state:
        now_ms += STEP_MS
        shipment = model.advanced(shipment, now_ms, STEP_MS)
    return shipment


class TestQuotes:
    @pytest.mark.parametrize(
        ("country", "weight_grams", "standard_cents", "express_cents"),
        [
            ("NL", 1, 495, 995),
            ("NL", 1000, 495, 995),
            ("NL", 1001, 535, 1075),
            ("NL", 2000, 535, 1075),
            ("DE", 1000, 795, 1695),
            ("FR", 3500, 1195 + 3 * 160, 2495 + 6 * 160),
            ("JP", 1000, 2495, 4995),
            ("ZZ", 1000, 2495, 4995),
        ],
    )
    def test_are_by_zone_and_begun_kilogram(
        self, country: str, weight_grams: int, standard_cents: int, express_cents: int
    ) -> None:
        standard, express = model.quotes(country, weight_grams)
        assert (standard.service, standard.price_cents) == ("standard", standard_cents)
        assert (express.service, express.price_cents) == ("express", express_cents)

    @given(
        st.sampled_from(["NL", "BE", "SE", "US"]),
        st.integers(1, MAX_PARCEL_GRAMS),
        st.integers(1, MAX_PARCEL_GRAMS),
    )
    def test_never_cost_less_for_more(self, country: str, one: int, other: int) -> None:
        light, heavy = sorted((one, other))
        for less, more in zip(
            model.quotes(country, light), model.quotes(country, heavy), strict=True
        ):
            assert 0 < less.price_cents <= more.price_cents
            assert 1 <= less.days_min <= less.days_max

    @pytest.mark.parametrize("country", ["NL", "BE", "SE", "US"])
    def test_express_is_quicker_and_dearer(self, country: str) -> None:
        standard, express = model.quotes(country, 5000)
        assert express.price_cents > standard.price_cents
        assert express.days_max < standard.days_max

    def test_are_those_of_europe_wherever_the_shop_delivers_to(self) -> None:
        world, _ = model.quotes("JP", 1000)
        assert len(COUNTRIES) == 32
        for country in COUNTRIES:
            assert model.quotes(country, 1000)[0].price_cents < world.price_cents, country

    @pytest.mark.parametrize("weight_grams", [-1, 0, MAX_PARCEL_GRAMS + 1])
    def test_end_where_parcels_do(self, weight_grams: int) -> None:
        with pytest.raises(ShopError) as refused:
            model.quotes("NL", weight_grams)
        assert (refused.value.kind, refused.value.code) == (Kind.INVALID, "weight-out-of-range")

    def test_reach_the_heaviest_parcel(self) -> None:
        assert model.quotes("NL", MAX_PARCEL_GRAMS)[0].price_cents == 495 + 99 * 40


class TestWay:
    def test_leads_from_stage_to_stage(self) -> None:
        shipment = moved_to(ShipmentState.DELIVERED)
        assert [moment.state for moment in shipment.history] == [ShipmentState.PREPARED, *WAY]
        times = [moment.at_ms for moment in shipment.history[1:]]
        assert times == [NOW_MS + n * STEP_MS for n in range(4)]
        assert shipment.moves_ms is None

    def test_takes_its_time(self) -> None:
        shipment = model.dispatched(a_shipment(), NOW_MS, STEP_MS)
        assert model.advanced(shipment, NOW_MS + STEP_MS - 1, STEP_MS) is shipment
        assert model.advanced(shipment, NOW_MS + STEP_MS, STEP_MS) is not shipment

    def test_waits_for_no_time_that_a_wrong_clock_has_set(self) -> None:
        shipment = model.dispatched(a_shipment(), NOW_MS + 300_000, STEP_MS)
        assert model.advanced(shipment, NOW_MS, STEP_MS).state is ShipmentState.IN_TRANSIT

    @pytest.mark.parametrize("state", [ShipmentState.PREPARED, ShipmentState.DELIVERED])
    def test_begins_and_ends(self, state: ShipmentState) -> None:
        shipment = moved_to(state)
        assert model.advanced(shipment, NOW_MS + 10**9, STEP_MS) is shipment

    def test_is_told_where_it_begins_and_ends_for_the_customer(self) -> None:
        shipment = moved_to(ShipmentState.DELIVERED)
        assert [(event.id, event.kind) for event in shipment.events] == [
            (f"{shipment.id}:in-transit", "shipment-dispatched"),
            (f"{shipment.id}:delivered", "shipment-delivered"),
        ]
        assert shipment.events[0].facts["tracking_number"] == shipment.tracking_number

    @pytest.mark.parametrize("state", WAY)
    def test_is_begun_once(self, state: ShipmentState) -> None:
        shipment = moved_to(state)
        assert model.dispatched(shipment, NOW_MS, STEP_MS) is shipment

    def test_is_due_while_there_is_something_to_do(self) -> None:
        prepared = a_shipment()
        dispatched = moved_to(ShipmentState.DISPATCHED)
        in_transit = moved_to(ShipmentState.IN_TRANSIT)
        assert prepared.due_ms is None
        assert dispatched.due_ms == NOW_MS + STEP_MS
        assert in_transit.due_ms == NOW_MS + STEP_MS, "it has an event to deliver at once"
        told = model.delivered(in_transit, NOW_MS)
        assert told.due_ms == NOW_MS + 2 * STEP_MS
        done = moved_to(ShipmentState.DELIVERED)
        for _ in done.events:
            done = model.delivered(done, NOW_MS)
        assert (done.events, done.due_ms) == ((), None)

    def test_has_a_tracking_number_of_the_orders_own(self) -> None:
        numbers = {a_shipment(id=f"ord_{n}").tracking_number for n in range(100)}
        assert len(numbers) == 100
        assert all(len(number) == 14 and number.startswith("MM") for number in numbers)
        assert a_shipment().tracking_number == moved_to(ShipmentState.DELIVERED).tracking_number


class TestShipmentEvents:
    def test_wait_longer_and_longer_while_nobody_can_be_told(self) -> None:
        shipment = moved_to(ShipmentState.IN_TRANSIT)
        pauses_ms: list[int] = []
        for _ in range(30):
            shipment = model.postponed(shipment, NOW_MS, jitter=0.0)
            assert shipment.due_ms is not None
            pauses_ms.append(shipment.due_ms - NOW_MS)
        assert pauses_ms[:4] == [1000, 2000, 4000, 8000]
        assert pauses_ms[-1] == model.BACKOFF.longest_ms
        assert model.postponed(shipment, NOW_MS, jitter=1.0).due_ms == NOW_MS + 15_000
        assert model.delivered(shipment, NOW_MS).failures == 0

    def test_that_are_refused_are_kept_and_hold_up_nothing(self) -> None:
        shipment = moved_to(ShipmentState.DELIVERED)
        refused, other = shipment.events
        parked = model.undeliverable(shipment, NOW_MS)
        assert (parked.undelivered, parked.events) == ((refused,), (other,))
        assert parked.due_ms == NOW_MS


class TestShipmentCancellation:
    @pytest.mark.parametrize("state", [ShipmentState.PREPARED, ShipmentState.DISPATCHED])
    def test_stops_what_the_carrier_has_not_got(self, state: ShipmentState) -> None:
        shipment = model.cancelled(moved_to(state), NOW_MS)
        assert shipment.state is ShipmentState.CANCELLED
        assert (shipment.moves_ms, shipment.due_ms) == (None, None)
        assert model.cancelled(shipment, NOW_MS + 1) is shipment

    @pytest.mark.parametrize(
        "state", [ShipmentState.IN_TRANSIT, ShipmentState.OUT_FOR_DELIVERY, ShipmentState.DELIVERED]
    )
    def test_is_too_late_for_what_is_on_its_way(self, state: ShipmentState) -> None:
        with pytest.raises(ShopError) as refused:
            model.cancelled(moved_to(state), NOW_MS)
        assert (refused.value.kind, refused.value.code) == (Kind.CONFLICT, "shipment-under-way")

    def test_is_for_good(self) -> None:
        shipment = model.cancelled(a_shipment(), NOW_MS)
        with pytest.raises(ShopError) as refused:
            model.dispatched(shipment, NOW_MS, STEP_MS)
        assert (refused.value.kind, refused.value.code) == (Kind.CONFLICT, "shipment-closed")
