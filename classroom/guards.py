"""What RBAC cannot say: ValidatingAdmissionPolicies for the students' namespaces.

A Role allows a kind of object or does not. Some of these, with certain words in them, reach beyond
their namespace: a pod that is given the node, a Service that takes another's address, a rule that
Istio exports to everybody. Those words are refused, whoever says them.

They are in force wherever a namespace has the class's label, which only the teacher can give.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from labs.seat import CLASS_LABEL
from tools.mesh import render
from tools.mesh.render import MeshName, Object

PREFIX = "meshmart-class"

_CHANGES = ("CREATE", "UPDATE")


class Check(NamedTuple):
    """An expression of CEL that has to be true, and what is said when it is not."""

    expression: str
    message: str


class Guard(NamedTuple):
    """One policy.

    :ivar resources: by their API group.
    """

    name: str
    resources: Mapping[str, Sequence[str]]
    operations: Sequence[str]
    variables: Mapping[str, str]
    checks: Sequence[Check]

    def manifests(self) -> Iterator[Object]:
        """The policy, and what puts it in force."""
        metadata = {"name": f"{PREFIX}-{self.name}", "labels": {CLASS_LABEL: "guard"}}
        rules = [
            {
                "apiGroups": [group],
                "apiVersions": ["*"],
                "operations": [*self.operations],
                "resources": [*resources],
            }
            for group, resources in self.resources.items()
        ]
        spec: dict[str, Any] = {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": rules},
            "variables": [
                {"name": name, "expression": expression}
                for name, expression in self.variables.items()
            ],
            "validations": [check._asdict() for check in self.checks],
        }
        yield {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": metadata,
            "spec": spec,
        }
        students = {"matchExpressions": [{"key": CLASS_LABEL, "operator": "Exists"}]}
        yield {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": metadata,
            "spec": {
                "policyName": f"{PREFIX}-{self.name}",
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": students},
            },
        }


# The Pod Security Standard "baseline" as far as it keeps a pod off its node. The standard itself
# would refuse the meshes' init containers, which set up the pod's own network.
_PODS = Guard(
    "pods",
    {"": ("pods", "pods/ephemeralcontainers")},
    _CHANGES,
    {
        "containers": "object.spec.containers + object.spec.?initContainers.orValue([])"
        " + object.spec.?ephemeralContainers.orValue([])",
    },
    (
        Check(
            "!object.spec.?hostNetwork.orValue(false) && !object.spec.?hostPID.orValue(false)"
            " && !object.spec.?hostIPC.orValue(false)",
            "in a class a pod has its own network and processes: no hostNetwork, hostPID, hostIPC",
        ),
        Check(
            "object.spec.?volumes.orValue([]).all(v, !has(v.hostPath))",
            "in a class a pod mounts nothing of its node: no hostPath",
        ),
        Check(
            "variables.containers.all(c, !c.?securityContext.?privileged.orValue(false)"
            " && !c.?securityContext.?windowsOptions.?hostProcess.orValue(false)"
            " && c.?securityContext.?procMount.orValue('Default') == 'Default')",
            "in a class no container is privileged",
        ),
        Check(
            "variables.containers.all(c, c.?securityContext.?capabilities.?add.orValue([])"
            ".all(a, a == 'NET_RAW'"
            " || (a == 'NET_ADMIN' && c.name in ['istio-init', 'linkerd-init'])))",
            "in a class a container adds no capability but NET_RAW",
        ),
        Check(
            "variables.containers.all(c, c.?ports.orValue([]).all(p, p.?hostPort.orValue(0) == 0))",
            "in a class a pod takes no port of its node: no hostPort",
        ),
        Check(
            "object.spec.?securityContext.?seccompProfile.?type.orValue('') != 'Unconfined'"
            " && object.spec.?securityContext.?appArmorProfile.?type.orValue('') != 'Unconfined'"
            " && object.spec.?securityContext.?seLinuxOptions.?type.orValue('') == ''"
            " && variables.containers.all(c,"
            " c.?securityContext.?seccompProfile.?type.orValue('') != 'Unconfined'"
            " && c.?securityContext.?appArmorProfile.?type.orValue('') != 'Unconfined'"
            " && c.?securityContext.?seLinuxOptions.?type.orValue('') == '')",
            "in a class a pod keeps the node's seccomp, AppArmor and SELinux profiles",
        ),
        Check(
            "!object.spec.?priorityClassName.orValue('').startsWith('system-')",
            "in a class no pod displaces others: no system-… priority",
        ),
    ),
)

_SERVICES = Guard(
    "services",
    {"": ("services",)},
    _CHANGES,
    {},
    (
        Check(
            "object.spec.?type.orValue('ClusterIP') == 'ClusterIP'",
            "in a class a Service is a ClusterIP: people come in by the shared gateway",
        ),
        Check(
            "object.spec.?externalIPs.orValue([]).size() == 0",
            "in a class a Service takes no address of others: no externalIPs",
        ),
    ),
)

# At a gateway its `allowedRoutes` decide; a Service has none.
_ROUTES = Guard(
    "routes",
    {"gateway.networking.k8s.io": ("httproutes", "grpcroutes")},
    _CHANGES,
    {},
    (
        Check(
            "object.spec.?parentRefs.orValue([]).all(p, p.?kind.orValue('Gateway') == 'Gateway'"
            " || p.?namespace.orValue(request.namespace) == request.namespace)",
            "in a class a route is about Services of its own namespace",
        ),
    ),
)

# The class's own NetworkPolicy is in a student's namespace, where they may change all others.
_WALLS = Guard(
    "walls",
    {"networking.k8s.io": ("networkpolicies",)},
    ("UPDATE", "DELETE"),
    {
        "isTheClasss": f"'{CLASS_LABEL}' in oldObject.metadata.?labels.orValue({{}})",
        "isByStudent": "request.userInfo.username.startsWith("
        "'system:serviceaccount:' + request.namespace + ':')",
    },
    (
        Check(
            "!variables.isTheClasss || !variables.isByStudent",
            "this NetworkPolicy is the class's: it keeps other students out",
        ),
    ),
)


def _istio() -> Guard:
    """Rules that Istio shows to all namespaces unless they say otherwise."""
    gateway = render.ISTIOCTL.namespace
    return Guard(
        "istio",
        {
            "networking.istio.io": ("virtualservices", "destinationrules", "serviceentries"),
            "security.istio.io": ("requestauthentications",),
        },
        _CHANGES,
        {
            "exportTo": "object.spec.?exportTo.orValue([])",
            "hosts": "object.kind == 'DestinationRule' ? [object.spec.host]"
            " : object.spec.?hosts.orValue([])",
        },
        (
            Check(
                "object.kind != 'ServiceEntry' || (variables.exportTo.size() > 0"
                " && variables.exportTo.all(e, e == '.' || e == request.namespace))",
                'in a class a ServiceEntry says exportTo: ["."], or all others would know it, too',
            ),
            Check(
                "variables.exportTo.all(e, e == '.' || e == request.namespace"
                f" || e == '{gateway}')",
                f'in a class a rule is exported to "." and {gateway} (the gateway\'s), and no'
                " further",
            ),
            Check(
                "object.kind == 'ServiceEntry' || variables.exportTo.size() > 0"
                " || variables.hosts.all(h, h.matches('^[a-z0-9-]+$')"
                " || h == request.namespace + '.example.com'"
                " || h.endsWith('.' + request.namespace)"
                " || h.endsWith('.' + request.namespace + '.svc')"
                " || h.endsWith('.' + request.namespace + '.svc.cluster.local'))",
                'in a class a rule about a host of somebody else\'s says exportTo: ["."]',
            ),
            # Where Istio's control plane would fetch keys itself, from wherever it is told to.
            Check(
                "object.kind != 'RequestAuthentication'"
                " || object.spec.?jwtRules.orValue([]).all(r, !has(r.jwks_uri)"
                " && (has(r.jwks) || has(r.jwksUri))"
                " && r.?jwksUri.orValue('http://a.' + request.namespace"
                " + '.svc.cluster.local/').matches('^http://[a-z0-9-]+[.]' + request.namespace"
                " + '[.]svc[.]cluster[.]local[:/]'))",
                "in a class the keys of tokens come from the shop's own auth-service, or are"
                " written out (jwks)",
            ),
        ),
    )


def guards(mesh: MeshName) -> list[Guard]:
    """Those of a class in a mesh."""
    return [_PODS, _SERVICES, _ROUTES, _WALLS, *([_istio()] if mesh == "istio" else ())]


def refused_pod() -> Object:
    """A pod that the guards refuse once they are in force."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "not-in-a-class"},
        "spec": {
            "containers": [{"name": "c", "image": "none.invalid/none"}],
            "volumes": [{"name": "node", "hostPath": {"path": "/"}}],
        },
    }
