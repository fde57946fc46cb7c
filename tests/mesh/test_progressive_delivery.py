"""A version that goes out by itself, and one that comes back by itself, where a cluster has Argo
Rollouts and a Prometheus.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tests.cluster.crowd import buy_once, buying_during
from tests.mesh.meshed import Mesh, takes_effect
from tests.mesh.scenarios import shows
from tests.mesh.test_traffic import CATALOGUE, everybody_sees, versions, within_chance
from tests.testkit.cluster import ROOT, Namespace
from tests.testkit.customer import Client
from tests.testkit.waiting import eventually

DEPLOYMENT = "deployment/product-service"
# It says that it is well, and fails whatever else it is asked.
SICK = (ROOT / "mesh/linkerd/faulty/faulty.py").read_text(encoding="utf-8")
_PATIENCE_SECONDS = 180.0


class Rollout:
    """What Argo Rollouts makes of the catalogue's Deployment."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    @property
    def phase(self) -> str:
        """Healthy, Progressing, Paused, or Degraded once it has been given up."""
        return self._status().get("phase", "")

    async def becomes(self, phase: str) -> None:
        """Waits for a phase."""

        async def look() -> bool:
            return self.phase == phase

        await eventually(look, f"the roll-out is {phase}", _PATIENCE_SECONDS)

    async def pauses_at(self, percent: int) -> None:
        """Waits for the pause in which the new version gets that share of the requests."""

        async def look() -> bool:
            status = self._status()
            weights = status.get("canary", {}).get("weights", {})
            weight = weights.get("canary", {}).get("weight")
            return status.get("phase") == "Paused" and weight == percent

        await eventually(look, f"the roll-out pauses at {percent} %", _PATIENCE_SECONDS)

    async def is_found_well(self, times: int) -> None:
        """Waits until the new version has been judged so often, and well each time."""

        async def look() -> bool:
            statuses = [each.get("status", {}) for each in self._namespace.objects("analysisruns")]
            metrics = [
                metric
                for status in statuses
                if status.get("phase") == "Running"
                for metric in status.get("metricResults", ())
            ]
            phases = [
                each["phase"] for metric in metrics for each in metric.get("measurements", ())
            ]
            assert set(phases) <= {"Successful"}, metrics
            return len(phases) >= times

        await eventually(look, "the new version is found well", _PATIENCE_SECONDS)

    def promote(self) -> None:
        """Ends the pause, as `kubectl argo rollouts promote` does."""
        self._patch_status({"pauseConditions": None})

    def abort(self) -> None:
        """Gives up, as `kubectl argo rollouts abort` does."""
        self._patch_status({"abort": True})

    def _status(self) -> Any:
        rollout = self._namespace.object("rollout", "product-service")
        is_seen = rollout["status"].get("observedGeneration") == str(
            rollout["metadata"]["generation"]
        )
        return rollout["status"] if is_seen else {}

    def _patch_status(self, status: dict[str, Any]) -> None:
        patch = ("--subresource", "status", "--type", "merge", "-p", json.dumps({"status": status}))
        self._namespace.kubectl("patch", "rollout", "product-service", *patch)


@pytest.mark.argo_rollouts
@pytest.mark.parametrize("scenario", ["19-progressive-delivery"])
@shows()
async def test_a_version_goes_out_by_itself(mesh: Mesh, client: Client, scenario: str) -> None:
    template = mesh.namespace.object("deployment", "product-service")["spec"]["template"]

    def give_back() -> None:
        patch = [{"op": "replace", "path": "/spec/template", "value": template}]
        mesh.namespace.kubectl("patch", DEPLOYMENT, "--type", "json", "-p", json.dumps(patch))
        mesh.run_steps("kubectl -n ecommerce delete rollout product-service --cascade=orphan")

    await everybody_sees(client, "v1", "v2")
    with mesh.scenario(scenario):
        try:
            rollout = Rollout(mesh.namespace)
            await rollout.becomes("Healthy")
            await everybody_sees(client, "v1")
            await _a_good_version_goes_out(mesh, client, rollout)
            await _a_sick_version_comes_back(mesh, client, rollout)
        finally:
            purchases = await buying_during(give_back, client, buy_once, at_least=20)
        print(f"while the Deployment was given back: {purchases}")
        assert not purchases.failures, purchases
    await everybody_sees(client, "v1", "v2")


async def _a_good_version_goes_out(mesh: Mesh, client: Client, rollout: Rollout) -> None:
    mesh.namespace.kubectl("set", "env", DEPLOYMENT, "VERSION=v3")
    for percent in (10, 50):
        await rollout.pauses_at(percent)
        print(f"at {percent} %: {await _split(client, percent)} of 200 are answered by v3")
        await rollout.is_found_well(2)
        rollout.promote()
    await everybody_sees(client, "v3")
    await rollout.becomes("Healthy")


async def _split(client: Client, percent: int) -> int:
    async def is_split() -> bool:
        return within_chance((await versions(client, 100))["v3"], 100, percent / 100)

    await takes_effect(is_split, f"about {percent} % see the new version")
    seen = (await versions(client, 200))["v3"]
    assert within_chance(seen, 200, percent / 100), seen
    return seen


async def _a_sick_version_comes_back(mesh: Mesh, client: Client, rollout: Rollout) -> None:
    sick = {"name": "product", "command": ["python", "-c", SICK]}
    patch = {"spec": {"template": {"spec": {"containers": [sick]}}}}
    mesh.namespace.kubectl("patch", DEPLOYMENT, "-p", json.dumps(patch))
    await rollout.pauses_at(10)
    seen: Counter[int] = Counter()

    async def ask() -> Counter[int]:
        answers = Counter([(await client.send("GET", CATALOGUE)).status for _ in range(50)])
        seen.update(answers)
        return answers

    async def is_noticed() -> bool:
        await ask()
        return seen[503] >= 5

    await takes_effect(is_noticed, "the sick version is noticed")
    if not mesh.counts_answers():
        rollout.abort()

    async def is_given_up() -> bool:
        await ask()
        return rollout.phase == "Degraded"

    await eventually(is_given_up, "the roll-out is given up", _PATIENCE_SECONDS)
    print(f"sick: {seen[503]} of {seen.total()} failed until it was given up")
    assert seen[503] <= 0.2 * seen.total()

    async def nobody_notices() -> bool:
        return set(await ask()) == {200}

    await takes_effect(nobody_notices, "everything goes back")
    await everybody_sees(client, "v3")
