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
from tests.unit.inventory.world import (
    INITIAL,
    Job,
    Work,
    World,
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
    world = World()
    run(reserve(world))
    assert numbers(world.stock("apron")) == (3, 2, 0)
    assert numbers(world.stock("bowl")) == (4, 1, 0)
    run(commit(world))
    assert numbers(world.stock("apron")) == (3, 0, 2)
    run(release(world))
    assert numbers(world.stock("apron")) == (5, 0, 0)
    assert world.outcomes == {"held": 1, "sold": 1, "returned": 1}
    world.audit()


def test_releasing_what_is_held_gives_it_back() -> None:
    world = World()
    run(reserve(world))
    run(release(world))
    assert numbers(world.stock("apron")) == (5, 0, 0)
    assert world.outcomes == {"held": 1, "released": 1}
    world.audit()


@pytest.mark.parametrize(
    ("before", "step"),
    [((), reserve), ((reserve,), commit), ((reserve,), release), ((buy,), release)],
)
def test_repeating_a_step_changes_nothing(before: tuple[Job, ...], step: Job) -> None:
    world = World()
    for earlier in before:
        run(earlier(world))
    run(step(world))
    once = world.all_stock(), world.reservations()
    run(step(world))
    assert (world.all_stock(), world.reservations()) == once


def test_reserving_again_after_the_commit_is_a_late_duplicate() -> None:
    world = World()
    run(buy(world))
    run(reserve(world))
    assert world.stock("apron").sold == 2
    world.audit()


def test_too_little_of_one_line_holds_nothing_of_any() -> None:
    world = World()
    wanted = lines(apron=1, bowl=6)
    error = refused(world.service.reserve("order-1", wanted))
    assert isinstance(error, OutOfStock)
    assert error.kind is Kind.CONFLICT
    assert error.fields == {"product_id": "bowl", "available": "5"}
    assert numbers(world.stock("apron")) == (5, 0, 0)
    refused(world.service.reserve("order-1", wanted))
    assert world.stock_outs == {"bowl": 1}, "an order counts once"
    world.audit()


def test_a_refusal_stands_even_when_stock_comes_back() -> None:
    world = World()
    run(world.service.reserve("order-2", lines(bowl=5)))
    first = refused(reserve(world))
    run(world.service.release("order-2"))
    again = refused(reserve(world))
    assert isinstance(again, OutOfStock)
    assert again.fields == first.fields == {"product_id": "bowl", "available": "0"}
    assert isinstance(refused(commit(world)), ReservationClosed)
    run(release(world))
    assert isinstance(refused(reserve(world)), OutOfStock)
    world.audit()


def test_the_last_piece_can_be_had() -> None:
    world = World()
    run(world.service.reserve("order-1", lines(apron=INITIAL)))
    assert world.stock("apron").available == 0


@pytest.mark.parametrize("before", [release, buy_and_return])
def test_a_closed_order_cannot_reserve_or_commit(before: Job) -> None:
    world = World()
    run(before(world))
    assert isinstance(refused(reserve(world)), ReservationClosed)
    assert isinstance(refused(commit(world)), ReservationClosed)
    world.audit()


def test_other_lines_under_the_same_order_are_invalid() -> None:
    world = World()
    run(reserve(world))
    error = refused(world.service.reserve("order-1", lines(apron=3, bowl=1)))
    assert isinstance(error, ReservationDiffers)
    assert error.kind is Kind.INVALID
    assert numbers(world.stock("apron")) == (3, 2, 0)


def test_an_unknown_product_is_not_found_and_leaves_no_trace() -> None:
    world = World()
    error = refused(world.service.reserve("order-1", lines(apron=1, cup=1)))
    assert isinstance(error, UnstockedProduct)
    assert error.fields == {"product_id": "cup"}
    assert world.reservations() == {}
    assert numbers(world.stock("apron")) == (5, 0, 0)


def test_nothing_reserved_cannot_be_committed() -> None:
    world = World()
    assert isinstance(refused(commit(world)), UnknownReservation)


def test_a_reservation_under_way_cannot_be_committed() -> None:
    world = World()
    Actor(reserve(world)).go(4)
    assert world.reservations()["order-1"].state is ReservationState.PENDING
    assert isinstance(refused(commit(world)), ReservationNotHeld)


def test_orders_do_not_touch_each_other() -> None:
    world = World()
    run(buy(world))
    run(world.service.reserve("order-2", lines(apron=1)))
    run(world.service.release("order-2"))
    assert numbers(world.stock("apron")) == (3, 0, 2)
    world.audit()


def test_availability_knows_only_products_that_exist() -> None:
    world = World()
    found: dict[str, int] = {}

    async def look() -> None:
        found.update(await world.service.available(["bowl", "cup", "bowl"]))

    run(look())
    assert found == {"bowl": 5}


def test_availability_of_too_many_products_is_invalid() -> None:
    world = World()

    async def look() -> None:
        await world.service.available(["bowl"] * (MAX_PRODUCT_IDS + 1))

    assert refused(look()).kind is Kind.INVALID
