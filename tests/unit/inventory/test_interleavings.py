"""Processes that get in each other's way: nothing is held, sold or given back twice."""

import random

import pytest

from services.inventory.model import ReservationState
from tests.unit.interleaving import Actor, interleave_in_every_way, interleave_jobs, run
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
    ids=lambda jobs: " and ".join(job.__name__ for job in jobs),
)
def test_two_processes_on_one_order(before: tuple[Job, ...], jobs: tuple[Job, Job]) -> None:
    def check(world: World) -> None:
        world.audit()  # at once: whoever is late cleans up behind itself
        world.settle()
        world.audit()
        if release in jobs:  # whenever it comes, it is the last word on an order
            assert world.stock("apron").available == INITIAL

    interleave_jobs(World, before, jobs, check)


def test_two_orders_for_the_last_pieces() -> None:
    """One of them gets all that it wants, the other nothing: they cannot get half each."""
    world = World()

    def prepare() -> tuple[Actor, Actor]:
        nonlocal world
        world = World()
        wanted = lines(apron=3, bowl=4)
        return (
            Actor(world.service.reserve("order-1", wanted)),
            Actor(world.service.reserve("order-2", wanted)),
        )

    def check() -> None:
        world.settle()
        world.audit()
        states = sorted(reservation.state for reservation in world.reservations().values())
        assert states == [ReservationState.HELD, ReservationState.REFUSED]
        assert world.stock("apron").reserved == 3
        assert world.stock("bowl").reserved == 4

    interleave_in_every_way(prepare, check)


@pytest.mark.parametrize("seed", range(200))
def test_many_processes_some_of_which_die(seed: int) -> None:
    """Any mixture, in any order; then those who died are replaced, and every order is released."""
    chance = random.Random(seed)
    world = World()
    orders = {
        "order-1": lines(apron=2, bowl=1),
        "order-2": lines(apron=3),
        "order-3": lines(apron=1, bowl=4),
    }

    def job() -> Work:
        order_id = chance.choice(list(orders))
        match chance.randrange(5):
            case 0:
                return world.service.commit(order_id)
            case 1:
                return world.service.release(order_id)
            case 2:
                return sweep(world)
            case _:
                return world.service.reserve(order_id, orders[order_id])

    at_work = [Actor(job()) for _ in range(4)]
    for _ in range(200):
        actor = chance.choice(at_work)
        actor.step()
        if not actor.done and chance.random() < 0.03:
            actor.die()
        if actor.done:
            at_work.remove(actor)
            at_work.append(Actor(job()))
        world.check_total()
    for actor in at_work:
        actor.finish()
    for order_id, reservation in world.reservations().items():
        if (
            reservation.state is ReservationState.PENDING
        ):  # whose process died: the order's saga goes on
            error = Actor(world.service.reserve(order_id, orders[order_id])).finish()
            assert error is None or error.code == "out-of-stock"
    world.settle()
    world.audit()
    for order_id in orders:
        run(world.service.release(order_id))
    world.settle()
    world.audit()
    assert [stock.available for stock in world.all_stock()] == [INITIAL, INITIAL]
