"""What a student takes of a cluster: processors, memory and pods, as requested and as used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import yaml

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
_MORE_PODS = 2
_ENDED = {"Succeeded", "Failed"}


class Share(NamedTuple):
    """A part of a cluster."""

    cpu_millicores: float = 0
    memory_mib: float = 0
    pods: int = 0

    def plus(self, other: Share) -> Share:
        """Both together."""
        return Share(
            self.cpu_millicores + other.cpu_millicores,
            self.memory_mib + other.memory_mib,
            self.pods + other.pods,
        )

    def minus(self, other: Share) -> Share:
        """What is left."""
        return self.plus(other.times(-1))

    def times(self, count: float) -> Share:
        """So many of them."""
        return Share(self.cpu_millicores * count, self.memory_mib * count, round(self.pods * count))

    def __str__(self) -> str:
        return (
            f"{self.cpu_millicores / 1000:.2f} CPU, {self.memory_mib / 1024:.2f} GiB, "
            f"{self.pods} pods"
        )


def total(shares: Iterable[Share]) -> Share:
    """All of them together."""
    result = Share()
    for share in shares:
        result = result.plus(share)
    return result


def quantity(text: str) -> float:
    """A quantity of Kubernetes as a number: ``25m`` is 0.025, ``1Ki`` is 1024.

    :raises ValueError: it is none.
    """
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text)
    if found is None or found[2] not in _UNITS:
        raise ValueError(f"{text!r} is no quantity")
    return float(found[1]) * _UNITS[found[2]]


def class_values(mesh: MeshName) -> dict[str, Any]:
    """The chart's values of a shop in a class: little is requested, since nobody sends much."""
    return {
        "mesh": mesh,
        "frontend": {"servesApi": False, "secureCookies": True},
        "stripe": {"sandbox": {"namespace": ""}},  # in the student's own
        "defaults": {"resources": {"requests": {"cpu": "10m"}}},
        "mongodb": {"resources": {"requests": {"cpu": "50m"}}},
        "pod": {"annotations": dict(_PROXY_ANNOTATIONS[mesh])},
    }


# What proxies request, in the words of each mesh. Istio's own numbers, 100m and 128Mi, would be
# most of what a shop requests.
_PROXY_REQUESTS: Mapping[MeshName, Mapping[str, str]] = {
    "istio": {"cpu": "10m", "memory": "64Mi"},
    "linkerd": {"cpu": "10m", "memory": "24Mi"},
}
_PROXY_ANNOTATIONS: Mapping[MeshName, Mapping[str, str]] = {
    "istio": {
        "sidecar.istio.io/proxyCPU": _PROXY_REQUESTS["istio"]["cpu"],
        "sidecar.istio.io/proxyMemory": _PROXY_REQUESTS["istio"]["memory"],
        "sidecar.istio.io/proxyCPULimit": "1",
        "sidecar.istio.io/proxyMemoryLimit": "256Mi",
    },
    "linkerd": {
        "config.linkerd.io/proxy-cpu-request": _PROXY_REQUESTS["linkerd"]["cpu"],
        "config.linkerd.io/proxy-memory-request": _PROXY_REQUESTS["linkerd"]["memory"],
        "config.linkerd.io/proxy-cpu-limit": "1",
        "config.linkerd.io/proxy-memory-limit": "256Mi",
    },
}


@cache
def at_rest(mesh: MeshName) -> Share:
    """What a shop requests while nothing is rolled out, by the chart's values."""
    given = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    values = merged(given, class_values(mesh))
    proxy = _share(_PROXY_REQUESTS[mesh], pods=0)
    services = _share(values["defaults"]["resources"]["requests"]).plus(proxy)
    mongodb = _share(values["mongodb"]["resources"]["requests"]).plus(proxy)
    sandbox = _share(values["stripe"]["sandbox"]["resources"]["requests"])
    return services.times(len(load_topology().services)).plus(mongodb).plus(sandbox)


def with_room(mesh: MeshName) -> Share:
    """What one student needs."""
    return at_rest(mesh).plus(what_labs_add(mesh))


def what_labs_add(mesh: MeshName) -> Share:
    """To a shop at rest: the next pods of a rolling update, and some of their own."""
    share = at_rest(mesh)
    pod = Share(share.cpu_millicores / share.pods, share.memory_mib / share.pods, 1)
    return pod.times(_MORE_PODS)


def fitting(free: Share, each: Share) -> int:
    """How many shares there is room for."""
    return max(0, int(min(have / one for have, one in zip(free, each, strict=True))))


def allocatable(nodes: Sequence[Object]) -> Share:
    """What all nodes together give to pods that ask for no particular one."""
    return total(
        _share(each["status"]["allocatable"], pods=int(each["status"]["allocatable"]["pods"]))
        for each in nodes
        if _takes_everybody(each)
    )


def requested(pods: Sequence[Object]) -> Share:
    """What pods request that have not ended."""
    return total(
        _requested_by(each) for each in pods if each.get("status", {}).get("phase") not in _ENDED
    )


def used(summaries: Sequence[Object], namespace: str) -> Share:
    """What the pods of a namespace use now, by what the kubelets count."""
    pods = [
        pod
        for summary in summaries
        for pod in summary.get("pods", ())
        if pod["podRef"]["namespace"] == namespace
    ]
    return total(
        Share(
            pod.get("cpu", {}).get("usageNanoCores", 0) / 1e6,
            pod.get("memory", {}).get("workingSetBytes", 0) / _MIB,
            1,
        )
        for pod in pods
    )


def _takes_everybody(node: Object) -> bool:
    spec = node.get("spec", {})
    taints = spec.get("taints") or ()
    return not spec.get("unschedulable") and all(
        each["effect"] not in {"NoSchedule", "NoExecute"} for each in taints
    )


def _requested_by(pod: Object) -> Share:
    """As the scheduler counts: init containers that go on running are beside the others, and the
    most that one of the rest takes is there for all.
    """
    spec = pod["spec"]
    inits: list[Object] = spec.get("initContainers") or []
    going_on = [each for each in inits if each.get("restartPolicy") == "Always"]
    together = total(_of_container(each) for each in [*spec["containers"], *going_on])
    alone = [_of_container(each) for each in inits if each not in going_on]
    return Share(
        max([together.cpu_millicores, *(each.cpu_millicores for each in alone)]),
        max([together.memory_mib, *(each.memory_mib for each in alone)]),
        1,
    )


def _of_container(container: Object) -> Share:
    resources: Object = container.get("resources") or {}
    return _share(resources.get("requests") or {}, pods=0)


def _share(resources: Mapping[str, str], *, pods: int = 1) -> Share:
    return Share(
        quantity(str(resources.get("cpu", "0"))) * 1000,
        quantity(str(resources.get("memory", "0"))) / _MIB,
        pods,
    )
