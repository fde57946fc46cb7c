"""What operators do to a shop in which people buy: nobody's purchase fails."""

from __future__ import annotations

from services.order.model import OrderState
from tests.cluster.crowd import Purchases, buy_once, buy_patiently, buying_during
from tests.cluster.release import Release
from tests.testkit.customer import Client

_ENOUGH = 40


async def _all_kept(purchases: Purchases, release: Release) -> None:
    """Everyone got what they were told, and the books are in order."""
    print(purchases)
    assert not purchases.failures, purchases
    assert len(purchases.confirmed) >= _ENOUGH
    async with release.books() as books:
        snapshot = await books.settled(60)
    for order_id in purchases.confirmed:
        assert snapshot.orders[order_id].state is OrderState.CONFIRMED


async def test_a_rolling_upgrade(release: Release, client: Client) -> None:
    before = {name: release.pods(name) for name in ("order-service", "payment-service")}

    def upgrade() -> None:
        release.upgrade("defaults.environment.LOG_LEVEL=debug")

    purchases = await buying_during(upgrade, client, buy_once, at_least=_ENOUGH)
    await _all_kept(purchases, release)
    for workload, pods in before.items():
        assert not set(pods) & set(release.pods(workload)), f"{workload} was not replaced"


async def test_a_canary_that_comes_grows_and_goes(release: Release, client: Client) -> None:
    seen: set[str] = set()

    def scale() -> None:
        for replicas in (1, 2, 0):
            release.upgrade(f"services.product.variants.v2={replicas}")
            pods = release.namespace.objects("pods", "app.kubernetes.io/name=product-service")
            seen.update(pod["metadata"]["labels"]["version"] for pod in pods)

    purchases = await buying_during(scale, client, buy_once, at_least=_ENOUGH)
    await _all_kept(purchases, release)
    assert seen == {"v1", "v2"}


async def test_mongodb_is_deleted(release: Release, client: Client) -> None:
    former = release.namespace.object("pod", "mongodb-0")["metadata"]["uid"]

    def restart() -> None:
        release.namespace.kubectl("delete", "pod", "mongodb-0", "--wait")
        release.namespace.roll_out("statefulset/mongodb")

    purchases = await buying_during(restart, client, buy_patiently, at_least=_ENOUGH)
    await _all_kept(purchases, release)
    assert release.namespace.object("pod", "mongodb-0")["metadata"]["uid"] != former
