"""CPU, memory and pods: what a student's shop requests and uses, and what a cluster has left."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import yaml

from classroom.chart_values import PROXY_REQUESTS, chart_values
from labs.restoring import CHART, merged
from services.common.topology import load_topology
from tools.mesh.render import MeshName, Object

_UNITS: Mapping[str, float] = {
    "": 1,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "k": 10**3,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "m": 1e-3,
}
_MIB = 2**20
# The most that a start adds: pods of its own (lab 03), with these requests and a proxy, or further
# pods of the shop's services (labs 05 and 07).
_OWN_PODS, _OWN_POD = 3, {"cpu": "10m", "memory": "48Mi"}
_FURTHER_PODS = 2
_ENDED = {"Succeeded", "Failed"}


class Resources(NamedTuple):
    """An amount of what pods need."""

    cpu_millicores: float = 0
    memory_mib: float = 0
    pods: int = 0

    def plus(self, other: Resources) -> Resources:
        """Returns the sum of both."""
        return Resources(
            self.cpu_millicores + other.cpu_millicores,
            self.memory_mib + other.memory_mib,
            self.pods + other.pods,
        )

    def minus(self, other: Resources) -> Resources:
        """Returns the difference, which may be negative."""
        return self.plus(other.times(-1))

    def times(self, count: float) -> Resources:
        """Returns the multiple; its pods are rounded."""
        return Resources(
            self.cpu_millicores * count, self.memory_mib * count, round(self.pods * count)
        )

    def __str__(self) -> str:
        return f"{self.cpu_and_memory}, {self.pods} pods"

    @property
    def cpu_and_memory(self) -> str:
        """``0.27 CPU, 1.91 GiB``."""
        return f"{self.cpu_millicores / 1000:.2f} CPU, {self.memory_mib / 1024:.2f} GiB"


def total(amounts: Iterable[Resources]) -> Resources:
    """Returns the sum of all of them."""
    result = Resources()
    for amount in amounts:
        result = result.plus(amount)
    return result


def quantity(text: str) -> float:
    """Returns a quantity of Kubernetes as a number: ``25m`` is 0.025, ``1Ki`` is 1024.

    :raises ValueError: the text is no quantity.
    """
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text)
    if found is None or found[2] not in _UNITS:
        raise ValueError(f"{text!r} is no quantity")
    return float(found[1]) * _UNITS[found[2]]


@cache
def shop_requests(mesh: MeshName) -> Resources:
    """Returns what a student's shop requests by the chart's values, outside of rolling updates."""
    given = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    values = merged(given, chart_values(mesh))
    proxy = _amount(PROXY_REQUESTS[mesh], pods=0)
    services = _amount(values["defaults"]["resources"]["requests"]).plus(proxy)
    mongodb = _amount(values["mongodb"]["resources"]["requests"]).plus(proxy)
    sandbox = _amount(values["stripe"]["sandbox"]["resources"]["requests"])
    return services.times(len(load_topology().services)).plus(mongodb).plus(sandbox)


def lab_requests(mesh: MeshName) -> Resources:
    """Returns the most that a lab requests beside the shop: what its start adds, and the new pod of
    a rolling update.
    """
    shop = shop_requests(mesh)
    pod = Resources(shop.cpu_millicores / shop.pods, shop.memory_mib / shop.pods, 1)
    own = _amount(_OWN_POD).plus(_amount(PROXY_REQUESTS[mesh], pods=0)).times(_OWN_PODS)
    further = pod.times(_FURTHER_PODS)
    most = Resources(
        max(own.cpu_millicores, further.cpu_millicores),
        max(own.memory_mib, further.memory_mib),
        max(own.pods, further.pods),
    )
    return most.plus(pod)


def student_requests(mesh: MeshName) -> Resources:
    """Returns what must be free for one student: the shop's requests and those of labs."""
    return shop_requests(mesh).plus(lab_requests(mesh))


def fitting(free: Resources, each: Resources) -> int:
    """Returns how many times an amount fits into what is free; 0 if that is negative."""
    return max(0, int(min(have / one for have, one in zip(free, each, strict=True))))


def allocatable(nodes: Sequence[Object]) -> Resources:
    """Returns what all nodes together have for pods that tolerate no taint.

    :param nodes: as ``kubectl get nodes`` returns them.
    """
    return total(
        _amount(each["status"]["allocatable"], pods=int(each["status"]["allocatable"]["pods"]))
        for each in nodes
        if _takes_all_pods(each)
    )


def requested(pods: Sequence[Object]) -> Resources:
    """Returns what the pods request that have not ended.

    :param pods: as ``kubectl get pods`` returns them.
    """
    return total(
        _requested_by(each) for each in pods if each.get("status", {}).get("phase") not in _ENDED
    )


def used(summaries: Sequence[Object], namespace: str) -> Resources:
    """Returns what the pods of a namespace use.

    :param summaries: of each node, what its kubelet answers at ``/stats/summary``.
    """
    pods = [
        pod
        for summary in summaries
        for pod in summary.get("pods", ())
        if pod["podRef"]["namespace"] == namespace
    ]
    return total(
        Resources(
            pod.get("cpu", {}).get("usageNanoCores", 0) / 1e6,
            pod.get("memory", {}).get("workingSetBytes", 0) / _MIB,
            1,
        )
        for pod in pods
    )


def _takes_all_pods(node: Object) -> bool:
    spec = node.get("spec", {})
    taints = spec.get("taints") or ()
    return not spec.get("unschedulable") and all(
        each["effect"] not in {"NoSchedule", "NoExecute"} for each in taints
    )


def _requested_by(pod: Object) -> Resources:
    """Counts as the scheduler does: sidecar containers run beside the pod's containers; the other
    init containers run before them, one after another.
    """
    spec = pod["spec"]
    inits: list[Object] = spec.get("initContainers") or []
    sidecars = [each for each in inits if each.get("restartPolicy") == "Always"]
    together = total(_of_container(each) for each in [*spec["containers"], *sidecars])
    alone = [_of_container(each) for each in inits if each not in sidecars]
    return Resources(
        max([together.cpu_millicores, *(each.cpu_millicores for each in alone)]),
        max([together.memory_mib, *(each.memory_mib for each in alone)]),
        1,
    )


def _of_container(container: Object) -> Resources:
    resources: Object = container.get("resources") or {}
    return _amount(resources.get("requests") or {}, pods=0)


def _amount(resources: Mapping[str, str], *, pods: int = 1) -> Resources:
    return Resources(
        quantity(str(resources.get("cpu", "0"))) * 1000,
        quantity(str(resources.get("memory", "0"))) / _MIB,
        pods,
    )
