"""Processes that get in each other's way: nothing is held, sold or given back twice."""

import random
from functools import partial

import pytest

from services.inventory.model import ReservationState
from tests.unit.interleaving import Actor, interleave_jobs, names_of, run
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
    sweep,
)


@pytest.mark.parametrize("before", [(), (reserve,), (buy,)], ids=["new", "held", "sold"])
@pytest.mark.parametrize(
    "jobs",
    [
        (reserve, reserve),
        (reserve, release),
        (reserve, buy),
        (reserve, buy_and_return),
        (commit, commit),
        (commit, release),
        (release, release),
        (release, buy),
        (buy, sweep),
        (release, sweep),
        (buy_and_return, release),
    ],
    ids=names_of,
)
def test_two_processes_on_one_order(before: tuple[Job, ...], jobs: tuple[Job, Job]) -> None:
    def check(system: SteppedInventory) -> None:
        system.audit()  # at once: whoever is late cleans up behind itself
        system.settle()
        system.audit()
        if release in jobs:  # whenever it comes, it is the last word on an order
            assert system.stock("apron").available == INITIAL

    interleave_jobs(SteppedInventory, before, jobs, check)


def test_two_orders_for_the_last_pieces() -> None:
    """One of them gets all that it wants, the other nothing: they cannot get half each."""

    async def order(system: SteppedInventory, order_id: str) -> None:
        await system.service.reserve(order_id, lines(apron=3, bowl=4))

    def check(system: SteppedInventory) -> None:
        system.settle()
        system.audit()
        states = sorted(reservation.state for reservation in system.reservations().values())
        assert states == [ReservationState.HELD, ReservationState.REFUSED]
        assert system.stock("apron").reserved == 3
        assert system.stock("bowl").reserved == 4

    jobs = partial(order, order_id="order-1"), partial(order, order_id="order-2")
    interleave_jobs(SteppedInventory, (), jobs, check)


@pytest.mark.parametrize("seed", range(200))
def test_many_processes_some_of_which_die(seed: int) -> None:
    """Any mixture, in any order; then those who died are replaced, and every order is released."""
    chance = random.Random(seed)
    system = SteppedInventory()
    orders = {
        "order-1": lines(apron=2, bowl=1),
        "order-2": lines(apron=3),
        "order-3": lines(apron=1, bowl=4),
    }

    def job() -> Work:
        order_id = chance.choice(list(orders))
        match chance.randrange(5):
            case 0:
                return system.service.commit(order_id)
            case 1:
                return system.service.release(order_id)
            case 2:
                return sweep(system)
            case _:
                return system.service.reserve(order_id, orders[order_id])

    at_work = [Actor(job()) for _ in range(4)]
    for _ in range(200):
        actor = chance.choice(at_work)
        actor.step()
        if not actor.done and chance.random() < 0.03:
            actor.die()
        if actor.done:
            at_work.remove(actor)
            at_work.append(Actor(job()))
        system.check_total()
    for actor in at_work:
        actor.finish()
    for order_id, reservation in system.reservations().items():
        if (
            reservation.state is ReservationState.PENDING
        ):  # whose process died: the order's saga goes on
            error = Actor(system.service.reserve(order_id, orders[order_id])).finish()
            assert error is None or error.code == "out-of-stock"
    system.settle()
    system.audit()
    for order_id in orders:
        run(system.service.release(order_id))
    system.settle()
    system.audit()
    assert [stock.available for stock in system.all_stock()] == [INITIAL, INITIAL]
