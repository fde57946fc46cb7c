"""What Reserve, Commit and Release do when nothing goes wrong, and what they refuse."""

import pytest

from services.common.errors import Kind, ShopError
from services.common.limits import MAX_PRODUCT_IDS
from services.inventory.model import (
    OutOfStock,
    ReservationClosed,
    ReservationDiffers,
    ReservationNotHeld,
    ReservationState,
    Stock,
    UnknownReservation,
    UnstockedProduct,
)
from tests.unit.interleaving import Actor, run
from tests.unit.inventory.stepped import (
    INITIAL,
    Job,
    SteppedInventory,
    Work,
    buy,
    buy_and_return,
    commit,
    lines,
    release,
    reserve,
)


def refused(work: Work) -> ShopError:
    error = Actor(work).finish()
    assert error is not None
    return error


def numbers(stock: Stock) -> tuple[int, int, int]:
    return stock.available, stock.reserved, stock.sold


def test_an_order_takes_its_stock_from_available_to_sold() -> None:
    system = SteppedInventory()
    run(reserve(system))
    assert numbers(system.stock("apron")) == (3, 2, 0)
    assert numbers(system.stock("bowl")) == (4, 1, 0)
    run(commit(system))
    assert numbers(system.stock("apron")) == (3, 0, 2)
    run(release(system))
    assert numbers(system.stock("apron")) == (5, 0, 0)
    assert system.outcomes == {"held": 1, "sold": 1, "returned": 1}
    system.audit()


def test_releasing_what_is_held_gives_it_back() -> None:
    system = SteppedInventory()
    run(reserve(system))
    run(release(system))
    assert numbers(system.stock("apron")) == (5, 0, 0)
    assert system.outcomes == {"held": 1, "released": 1}
    system.audit()


@pytest.mark.parametrize(
    ("before", "step"),
    [((), reserve), ((reserve,), commit), ((reserve,), release), ((buy,), release)],
)
def test_repeating_a_step_changes_nothing(before: tuple[Job, ...], step: Job) -> None:
    system = SteppedInventory()
    for earlier in before:
        run(earlier(system))
    run(step(system))
    once = system.all_stock(), system.reservations()
    run(step(system))
    assert (system.all_stock(), system.reservations()) == once


def test_reserving_again_after_the_commit_is_a_late_duplicate() -> None:
    system = SteppedInventory()
    run(buy(system))
    run(reserve(system))
    assert system.stock("apron").sold == 2
    system.audit()


def test_too_little_of_one_line_holds_nothing_of_any() -> None:
    system = SteppedInventory()
    wanted = lines(apron=1, bowl=6)
    error = refused(system.service.reserve("order-1", wanted))
    assert isinstance(error, OutOfStock)
    assert error.kind is Kind.CONFLICT
    assert error.fields == {"product_id": "bowl", "available": "5"}
    assert numbers(system.stock("apron")) == (5, 0, 0)
    refused(system.service.reserve("order-1", wanted))
    assert system.stock_outs == {"bowl": 1}, "an order counts once"
    system.audit()


def test_a_refusal_stands_even_when_stock_comes_back() -> None:
    system = SteppedInventory()
    run(system.service.reserve("order-2", lines(bowl=5)))
    first = refused(reserve(system))
    run(system.service.release("order-2"))
    again = refused(reserve(system))
    assert isinstance(again, OutOfStock)
    assert again.fields == first.fields == {"product_id": "bowl", "available": "0"}
    assert isinstance(refused(commit(system)), ReservationClosed)
    run(release(system))
    assert isinstance(refused(reserve(system)), OutOfStock)
    system.audit()


def test_the_last_piece_can_be_had() -> None:
    system = SteppedInventory()
    run(system.service.reserve("order-1", lines(apron=INITIAL)))
    assert system.stock("apron").available == 0


@pytest.mark.parametrize("before", [release, buy_and_return])
def test_a_closed_order_cannot_reserve_or_commit(before: Job) -> None:
    system = SteppedInventory()
    run(before(system))
    assert isinstance(refused(reserve(system)), ReservationClosed)
    assert isinstance(refused(commit(system)), ReservationClosed)
    system.audit()


def test_other_lines_under_the_same_order_are_invalid() -> None:
    system = SteppedInventory()
    run(reserve(system))
    error = refused(system.service.reserve("order-1", lines(apron=3, bowl=1)))
    assert isinstance(error, ReservationDiffers)
    assert error.kind is Kind.INVALID
    assert numbers(system.stock("apron")) == (3, 2, 0)


def test_an_unknown_product_is_not_found_and_leaves_no_trace() -> None:
    system = SteppedInventory()
    error = refused(system.service.reserve("order-1", lines(apron=1, cup=1)))
    assert isinstance(error, UnstockedProduct)
    assert error.fields == {"product_id": "cup"}
    assert system.reservations() == {}
    assert numbers(system.stock("apron")) == (5, 0, 0)


def test_nothing_reserved_cannot_be_committed() -> None:
    system = SteppedInventory()
    assert isinstance(refused(commit(system)), UnknownReservation)


def test_a_reservation_under_way_cannot_be_committed() -> None:
    system = SteppedInventory()
    Actor(reserve(system)).go(4)
    assert system.reservations()["order-1"].state is ReservationState.PENDING
    assert isinstance(refused(commit(system)), ReservationNotHeld)


def test_orders_do_not_touch_each_other() -> None:
    system = SteppedInventory()
    run(buy(system))
    run(system.service.reserve("order-2", lines(apron=1)))
    run(system.service.release("order-2"))
    assert numbers(system.stock("apron")) == (3, 0, 2)
    system.audit()


def test_availability_knows_only_products_that_exist() -> None:
    system = SteppedInventory()
    found: dict[str, int] = {}

    async def look() -> None:
        found.update(await system.service.available(["bowl", "cup", "bowl"]))

    run(look())
    assert found == {"bowl": 5}


def test_availability_of_too_many_products_is_invalid() -> None:
    system = SteppedInventory()

    async def look() -> None:
        await system.service.available(["bowl"] * (MAX_PRODUCT_IDS + 1))

    assert refused(look()).kind is Kind.INVALID
