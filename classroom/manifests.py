"""What a student's namespace holds beside the shop: a ServiceAccount with its Role, a quota,
limits, and a NetworkPolicy.
"""

from __future__ import annotations

from collections.abc import Iterator

from classroom.rbac import RULES
from classroom.resources import Resources, shop_requests
from classroom.students import Student
from labs.membership import CLASS_LABEL
from tools.mesh.render import Object

# The names of a student's ServiceAccount, Role and RoleBinding.
ACCOUNT = "student"
# The name of the quota, the limits and the NetworkPolicy.
CLASS = "class"
_OBSERVERS = ("monitoring", "observability", "istio-system", "linkerd-viz")
_NAMESPACE_LABEL = "kubernetes.io/metadata.name"
# Of public services, of Linkerd's proxies for requests from the mesh, and of the proxies' metrics.
_PUBLIC_PORT, _LINKERDS_PORT = 3000, 4143
_METRICS_PORTS = {"istio": (15020,), "linkerd": (4190, 4191)}
# The quota has room for a rolling update of all of a shop's pods at once, and for what labs add.
_SHOPS, _MORE = 2, Resources(2000, 2048, 8)


def manifests(student: Student) -> list[Object]:
    """Returns the objects, the namespace first."""
    return [
        {**each, "metadata": {"namespace": student.name, **each["metadata"]}}
        if each["kind"] != "Namespace"
        else each
        for each in _manifests(student)
    ]


def _manifests(student: Student) -> Iterator[Object]:
    labels = {CLASS_LABEL: student.mesh}
    # Admission policies keep pods off the node: the standard "baseline" refuses the meshes' own.
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
        "spec": _ingress(student),
    }


def quota(student: Student) -> dict[str, str]:
    """Returns a student's ResourceQuota, by resource."""
    most = shop_requests(student.mesh).times(_SHOPS).plus(_MORE)
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


def _ingress(student: Student) -> Object:
    """Allows connections to a student's pods from their own pods, from the gateway to public ports,
    and from observers; also while a lab has removed the chart's policies. NetworkPolicies add up;
    the chart's are narrower, and also limit whom the shop's pods may connect to.
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
