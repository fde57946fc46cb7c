"""A process that is killed or loses its database, at any point: repeating or releasing mends it."""

from collections.abc import Callable, Iterator

import pytest

from services.inventory.model import ReservationState, Stock
from services.inventory.service import STRAY_SECONDS
from tests.unit.interleaving import Actor, cut_everywhere, run
from tests.unit.inventory.stepped import (
    INITIAL,
    ORDER,
    Job,
    SteppedInventory,
    buy,
    commit,
    lines,
    release,
    reserve,
)


async def nothing(system: SteppedInventory) -> None:
    """What the sweep alone has to mend."""


async def reserve_too_much(system: SteppedInventory) -> None:
    """Wants aprons, which there are, and more bowls than there are."""
    await system.service.reserve("order-1", lines(apron=1, bowl=INITIAL + 1))


def interrupted(
    before: Job, job: Job, interruption: Callable[[Actor], None]
) -> Iterator[SteppedInventory]:
    """Inventories in which the job was interrupted: one for each of its steps."""
    for system, actor in cut_everywhere(SteppedInventory, (before,), job):
        interruption(actor)
        system.check_total()
        yield system


INTERRUPTIONS = pytest.mark.parametrize("interruption", [Actor.die, Actor.lose_the_store])


@INTERRUPTIONS
@pytest.mark.parametrize(
    ("before", "job", "state"),
    [
        (nothing, reserve, ReservationState.HELD),
        (reserve, commit, ReservationState.SOLD),
        (nothing, release, ReservationState.RELEASED),
        (reserve, release, ReservationState.RELEASED),
        (buy, release, ReservationState.RETURNED),
    ],
)
def test_repeating_finishes_it(
    before: Job, job: Job, state: ReservationState, interruption: Callable[[Actor], None]
) -> None:
    cuts = 0
    for system in interrupted(before, job, interruption):
        run(job(system))
        system.audit()
        assert system.reservations()["order-1"].state is state
        cuts += 1
    assert cuts >= 2


@INTERRUPTIONS
@pytest.mark.parametrize(("before", "job"), [(nothing, reserve), (reserve, commit), (buy, release)])
def test_releasing_gives_everything_back(
    before: Job, job: Job, interruption: Callable[[Actor], None]
) -> None:
    for system in interrupted(before, job, interruption):
        run(release(system))
        system.audit()
        assert [stock.available for stock in system.all_stock()] == [INITIAL, INITIAL]


@INTERRUPTIONS
def test_an_interrupted_refusal_stays_one(interruption: Callable[[Actor], None]) -> None:
    for system in interrupted(nothing, reserve_too_much, interruption):
        error = Actor(reserve_too_much(system)).finish()
        assert error is not None
        assert (error.code, error.fields) == (
            "out-of-stock",
            {"product_id": "bowl", "available": str(INITIAL)},
        )
        system.audit()
        assert system.reservations()["order-1"].state is ReservationState.REFUSED


@pytest.mark.parametrize(
    ("before", "job"),
    [(nothing, reserve_too_much), (reserve, commit), (reserve, release), (buy, release)],
)
def test_the_sweep_finishes_what_has_begun_to_move(before: Job, job: Job) -> None:
    for system in interrupted(before, job, Actor.die):
        system.settle()
        reservation = system.reservations().get("order-1")
        if reservation is not None and reservation.state is not ReservationState.PENDING:
            system.audit()


def test_the_sweep_may_die_as_well() -> None:
    for half_done in interrupted(buy, release, Actor.die):
        run(half_done.service.sweep())
        half_done.now_seconds += 60
        sweeper = Actor(half_done.service.sweep())
        sweeper.go(4)
        sweeper.die()
        half_done.settle()
        half_done.audit()


def test_the_sweep_leaves_alone_what_is_recent() -> None:
    for system in interrupted(reserve, commit, Actor.die):
        before = system.reservations()["order-1"].state
        run(system.service.sweep())
        system.now_seconds += STRAY_SECONDS - 0.1
        run(system.service.sweep())
        assert system.reservations()["order-1"].state is before
        system.now_seconds += 0.1
        run(system.service.sweep())
        system.audit()


def test_a_late_reserve_holds_nothing_after_a_release() -> None:
    """It was held up somewhere and goes on when its order was released."""
    for system, actor in cut_everywhere(SteppedInventory, (), reserve):
        run(release(system))
        error = actor.finish()
        assert error is not None
        assert error.code == "reservation-closed"
        system.audit()  # even without a sweep


def test_a_late_reserve_that_dies_leaves_a_stray_which_the_sweep_takes_back() -> None:
    strays = 0
    for steps in range(12):
        system = SteppedInventory()
        late = Actor(reserve(system))
        late.go(4)  # before the first hold
        run(release(system))
        late.go(steps)
        late.die()
        strays += any(stock.holds for stock in system.all_stock())
        system.settle()
        system.audit()
    assert strays >= 2


def test_a_stray_next_to_a_sold_order_is_not_sold_again() -> None:
    """A held-up Reserve places its hold after the order's own hold was cashed, amid its Commit."""
    system = SteppedInventory()
    late = Actor(reserve(system))
    late.go(4)
    run(reserve(system))
    committing = Actor(commit(system))
    committing.go(4)  # the aprons are sold, the bowls not yet
    late.go(1)
    assert [stock.id for stock in system.all_stock() if len(stock.holds) == 1] == ["apron", "bowl"]
    committing.die()
    run(commit(system))
    late.finish()
    system.audit()
    assert system.stock("apron") == Stock(id="apron", available=INITIAL - 2, sold=2)
    assert sum(line.quantity for line in ORDER) == sum(stock.sold for stock in system.all_stock())
