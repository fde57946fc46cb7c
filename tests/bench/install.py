"""How long it takes from ``helm install`` to a paid order on the cluster that KUBECONFIG points at,
and what the whole shop then asks for and uses. Removes the shop again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tests.cluster.release import Release, install, uninstall
from tests.testkit.cluster import CHART, run
from tests.testkit.waiting import wait_until

PATIENCE_SECONDS = 300.0
_UNITS = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:30080", help="where the NodePort is")
    parser.add_argument("--settle-seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    release = Release(arguments.url)
    uninstall(release)
    try:
        return _measure(release, arguments.settle_seconds)
    finally:
        uninstall(release)


def _measure(release: Release, settle_seconds: float) -> int:
    began = time.monotonic()
    install(release)
    purchase = [sys.executable, str(CHART / "files/purchase.py"), release.url]
    bought = subprocess.run([*purchase, f"{PATIENCE_SECONDS:.0f}"], check=False)
    if bought.returncode != 0:
        return bought.returncode
    print(f"from `helm install` to the paid order: {time.monotonic() - began:.1f} s")

    namespaces = (release.namespace.name, release.stripe.name)
    pods = [
        pod
        for namespace in (release.namespace, release.stripe)
        for pod in namespace.objects("pods", "app.kubernetes.io/part-of=meshmart")
        if pod["status"]["phase"] == "Running"
    ]
    # The kubelet looks at each pod now and then only.
    until = time.monotonic() + settle_seconds
    wait_until(lambda: time.monotonic() > until, "the shop is at rest", 2 * settle_seconds)
    used = dict(_usage(namespaces))
    print(f"{'pod':<40}{'CPU, cores':>22}{'memory, MiB':>24}")
    rows = [
        (pod["metadata"]["name"], _requests(pod), used[pod["metadata"]["name"]]) for pod in pods
    ]
    for name, (cpu, memory), (cpu_used, memory_used) in sorted(rows):
        print(f"{name:<40}{_pair(cpu, cpu_used, '.3f'):>22}{_pair(memory, memory_used, '.0f'):>24}")
    asked = [sum(row[1][part] for row in rows) for part in (0, 1)]
    taken = [sum(row[2][part] for row in rows) for part in (0, 1)]
    print(
        f"{'all':<40}{_pair(asked[0], taken[0], '.3f'):>22}{_pair(asked[1], taken[1], '.0f'):>24}"
    )
    return 0


def _pair(asked: float, used: float, form: str) -> str:
    return f"{asked:{form}} asked, {used:{form}} used"


def _requests(pod: Mapping[str, Any]) -> tuple[float, float]:
    """The CPU in cores and the memory in MiB that a pod asks for, sidecars included."""
    containers = [
        *pod["spec"]["containers"],
        *(
            container
            for container in pod["spec"].get("initContainers", ())
            if container.get("restartPolicy") == "Always"
        ),
    ]
    asked = [container["resources"].get("requests", {}) for container in containers]
    cpu = sum(_quantity(each.get("cpu", "0")) for each in asked)
    memory = sum(_quantity(each.get("memory", "0")) for each in asked)
    return cpu, memory / 2**20


def _usage(namespaces: tuple[str, ...]) -> Iterator[tuple[str, tuple[float, float]]]:
    """By pod: the CPU in cores and the memory (working set) in MiB, as the kubelets see them."""
    nodes = json.loads(run("kubectl", "get", "nodes", "-o", "json"))["items"]
    for node in nodes:
        path = f"/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary"
        for pod in json.loads(run("kubectl", "get", "--raw", path))["pods"]:
            if pod["podRef"]["namespace"] in namespaces and "memory" in pod and "cpu" in pod:
                cpu = pod["cpu"].get("usageNanoCores", 0) / 1e9
                yield pod["podRef"]["name"], (cpu, pod["memory"]["workingSetBytes"] / 2**20)


def _quantity(text: str) -> float:
    """A Kubernetes quantity, such as ``25m`` or ``96Mi``."""
    for unit, factor in _UNITS.items():
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text)


if __name__ == "__main__":
    sys.exit(main())
