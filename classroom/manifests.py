"""What a student's namespace holds beside the shop: who they are, what they may do, how much they
may take, and who may connect to them.
"""

from __future__ import annotations

from collections.abc import Iterator

from classroom.rights import RULES
from classroom.shares import Share, at_rest
from classroom.students import Student
from labs.seat import CLASS_LABEL
from tools.mesh.render import Object

# The names of a student's ServiceAccount, Role and RoleBinding.
ACCOUNT = "student"
# Of the quota, the limits and the NetworkPolicy.
CLASS = "class"
_OBSERVERS = ("monitoring", "observability", "istio-system", "linkerd-viz")
_NAMESPACE_LABEL = "kubernetes.io/metadata.name"
# Where the shop's services take what is public, the proxies each other's requests, and observers
# their metrics.
_PUBLIC_PORT, _LINKERDS_PORT = 3000, 4143
_METRICS_PORTS = {"istio": (15020,), "linkerd": (4190, 4191)}
# Room for all of a shop's pods made again at once, and for what labs add.
_SHOPS, _MORE = 2, Share(2000, 2048, 8)


def manifests(student: Student) -> list[Object]:
    """All of it; the namespace comes first."""
    return [
        {**each, "metadata": {"namespace": student.name, **each["metadata"]}}
        if each["kind"] != "Namespace"
        else each
        for each in _manifests(student)
    ]


def _manifests(student: Student) -> Iterator[Object]:
    labels = {CLASS_LABEL: student.mesh}
    # What keeps pods off the node is guards.py: the standard "baseline" refuses the meshes' own.
    namespace_labels = {**labels, "pod-security.kubernetes.io/enforce": "privileged"}
    if student.mesh == "istio":
        namespace_labels["istio-injection"] = "enabled"  # what a student adds to the shop, too
    yield _object("v1", "Namespace", student.name, namespace_labels)
    yield {
        **_object("v1", "ServiceAccount", ACCOUNT, labels),
        "automountServiceAccountToken": False,
    }
    rbac = "rbac.authorization.k8s.io"
    yield {
        **_object(f"{rbac}/v1", "Role", ACCOUNT, labels),
        "rules": [rule.manifest() for rule in RULES],
    }
    yield {
        **_object(f"{rbac}/v1", "RoleBinding", ACCOUNT, labels),
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": ACCOUNT},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": student.name}],
    }
    yield {**_object("v1", "ResourceQuota", CLASS, labels), "spec": {"hard": quota(student)}}
    yield {
        **_object("v1", "LimitRange", CLASS, labels),
        "spec": {
            "limits": [
                {
                    "type": "Container",
                    "default": {"cpu": "1", "memory": "256Mi"},
                    "defaultRequest": {"cpu": "10m", "memory": "24Mi"},
                    "max": {"cpu": "2", "memory": "1Gi"},
                }
            ]
        },
    }
    yield {
        **_object("networking.k8s.io/v1", "NetworkPolicy", CLASS, labels),
        "spec": _wall(student),
    }


def quota(student: Student) -> dict[str, str]:
    """How much a student may take."""
    most = at_rest(student.mesh).times(_SHOPS).plus(_MORE)
    return {
        "requests.cpu": f"{most.cpu_millicores:.0f}m",
        "requests.memory": f"{most.memory_mib:.0f}Mi",
        "pods": str(most.pods),
        "persistentvolumeclaims": "3",
        "requests.storage": "5Gi",
        "services": "40",
        "services.nodeports": "0",
        "services.loadbalancers": "0",
        "secrets": "60",
        "configmaps": "40",
        "count/deployments.apps": "30",
        "count/jobs.batch": "10",
    }


def _wall(student: Student) -> Object:
    """Who may connect to a student's pods, also while a lab has taken the chart's policies away:
    their own pods, the gateway where something is public, and observers. Policies add up; the
    chart's are narrower, and still say whom the shop's pods may connect to.
    """
    gateway = [_PUBLIC_PORT, *((_LINKERDS_PORT,) if student.mesh == "linkerd" else ())]
    return {
        "podSelector": {},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [{"podSelector": {}}]},
            _from([student.shop.gateway.namespace], gateway),
            _from(_OBSERVERS, _METRICS_PORTS[student.mesh]),
        ],
    }


def _from(namespaces: list[str] | tuple[str, ...], ports: list[int] | tuple[int, ...]) -> Object:
    named = {"key": _NAMESPACE_LABEL, "operator": "In", "values": [*namespaces]}
    return {
        "from": [{"namespaceSelector": {"matchExpressions": [named]}}],
        "ports": [{"protocol": "TCP", "port": port} for port in ports],
    }


def _object(version: str, kind: str, name: str, labels: dict[str, str]) -> Object:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "labels": dict(labels)},
    }
