"""ValidatingAdmissionPolicies for the students' namespaces: what RBAC cannot express.

A Role allows a kind of object or does not. Some objects reach beyond their namespace by certain
fields: a pod with access to its node, a Service with the address of another one, a rule that Istio
exports to all namespaces. The policies refuse these fields, whoever sets them.

They apply to each namespace with the class's label, which only the teacher can set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from labs.membership import CLASS_LABEL
from tools.mesh import render
from tools.mesh.render import MeshName, Object

NAME_PREFIX = "meshmart-class"

_CHANGES = ("CREATE", "UPDATE")


class Validation(NamedTuple):
    """A CEL expression that must be true, and the message of the refusal when it is not."""

    expression: str
    message: str


class AdmissionPolicy(NamedTuple):
    """A ValidatingAdmissionPolicy with its binding.

    :ivar name: without the prefix.
    :ivar resources: by their API group.
    :ivar operations: ``CREATE``, ``UPDATE`` and ``DELETE``.
    :ivar variables: CEL expressions that the validations use, by their names.
    """

    name: str
    resources: Mapping[str, Sequence[str]]
    operations: Sequence[str]
    variables: Mapping[str, str]
    validations: Sequence[Validation]

    def manifests(self) -> Iterator[Object]:
        """Yields the policy, then the binding that puts it in force."""
        metadata = {
            "name": f"{NAME_PREFIX}-{self.name}",
            "labels": {CLASS_LABEL: "admission-policy"},
        }
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
            "validations": [each._asdict() for each in self.validations],
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
                "policyName": f"{NAME_PREFIX}-{self.name}",
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": students},
            },
        }


# The Pod Security Standard "baseline" as far as it keeps a pod off its node. The standard itself
# would refuse the meshes' init containers, which set up the pod's own network.
_PODS = AdmissionPolicy(
    "pods",
    {"": ("pods", "pods/ephemeralcontainers")},
    _CHANGES,
    {
        "containers": "object.spec.containers + object.spec.?initContainers.orValue([])"
        " + object.spec.?ephemeralContainers.orValue([])",
    },
    (
        Validation(
            "!object.spec.?hostNetwork.orValue(false) && !object.spec.?hostPID.orValue(false)"
            " && !object.spec.?hostIPC.orValue(false)",
            "in a class a pod has its own network and processes: no hostNetwork, hostPID, hostIPC",
        ),
        Validation(
            "object.spec.?volumes.orValue([]).all(v, !has(v.hostPath))",
            "in a class a pod mounts nothing of its node: no hostPath",
        ),
        Validation(
            "variables.containers.all(c, !c.?securityContext.?privileged.orValue(false)"
            " && !c.?securityContext.?windowsOptions.?hostProcess.orValue(false)"
            " && c.?securityContext.?procMount.orValue('Default') == 'Default')",
            "in a class no container is privileged",
        ),
        Validation(
            "variables.containers.all(c, c.?securityContext.?capabilities.?add.orValue([])"
            ".all(a, a == 'NET_RAW'"
            " || (a == 'NET_ADMIN' && c.name in ['istio-init', 'linkerd-init'])))",
            "in a class a container adds no capability but NET_RAW",
        ),
        Validation(
            "variables.containers.all(c, c.?ports.orValue([]).all(p, p.?hostPort.orValue(0) == 0))",
            "in a class a pod takes no port of its node: no hostPort",
        ),
        Validation(
            "object.spec.?securityContext.?seccompProfile.?type.orValue('') != 'Unconfined'"
            " && object.spec.?securityContext.?appArmorProfile.?type.orValue('') != 'Unconfined'"
            " && object.spec.?securityContext.?seLinuxOptions.?type.orValue('') == ''"
            " && variables.containers.all(c,"
            " c.?securityContext.?seccompProfile.?type.orValue('') != 'Unconfined'"
            " && c.?securityContext.?appArmorProfile.?type.orValue('') != 'Unconfined'"
            " && c.?securityContext.?seLinuxOptions.?type.orValue('') == '')",
            "in a class a pod keeps the node's seccomp, AppArmor and SELinux profiles",
        ),
        Validation(
            "!object.spec.?priorityClassName.orValue('').startsWith('system-')",
            "in a class no pod displaces others: no system-… priority",
        ),
    ),
)

_SERVICES = AdmissionPolicy(
    "services",
    {"": ("services",)},
    _CHANGES,
    {},
    (
        Validation(
            "object.spec.?type.orValue('ClusterIP') == 'ClusterIP'",
            "in a class a Service is a ClusterIP: people come in by the shared gateway",
        ),
        Validation(
            "object.spec.?externalIPs.orValue([]).size() == 0",
            "in a class a Service takes no address of others: no externalIPs",
        ),
    ),
)

# At a gateway its `allowedRoutes` decide; a Service has none.
_ROUTES = AdmissionPolicy(
    "routes",
    {"gateway.networking.k8s.io": ("httproutes", "grpcroutes")},
    _CHANGES,
    {},
    (
        Validation(
            "object.spec.?parentRefs.orValue([]).all(p, p.?kind.orValue('Gateway') == 'Gateway'"
            " || p.?namespace.orValue(request.namespace) == request.namespace)",
            "in a class a route is about Services of its own namespace",
        ),
    ),
)

# The class's own NetworkPolicy is in a student's namespace, where they may change all others.
_NETWORK_POLICIES = AdmissionPolicy(
    "network-policies",
    {"networking.k8s.io": ("networkpolicies",)},
    ("UPDATE", "DELETE"),
    {
        "isOfTheClass": f"'{CLASS_LABEL}' in oldObject.metadata.?labels.orValue({{}})",
        "isByStudent": "request.userInfo.username.startsWith("
        "'system:serviceaccount:' + request.namespace + ':')",
    },
    (
        Validation(
            "!variables.isOfTheClass || !variables.isByStudent",
            "this NetworkPolicy is the class's: it keeps other students out",
        ),
    ),
)


def _istio() -> AdmissionPolicy:
    """Istio's rules, which apply in all namespaces unless they say otherwise."""
    gateway = render.ISTIOCTL.namespace
    return AdmissionPolicy(
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
            Validation(
                "object.kind != 'ServiceEntry' || (variables.exportTo.size() > 0"
                " && variables.exportTo.all(e, e == '.' || e == request.namespace))",
                'in a class a ServiceEntry says exportTo: ["."], or all others would know it, too',
            ),
            Validation(
                "variables.exportTo.all(e, e == '.' || e == request.namespace"
                f" || e == '{gateway}')",
                f'in a class a rule is exported to "." and {gateway} (the gateway\'s), and no'
                " further",
            ),
            Validation(
                "object.kind == 'ServiceEntry' || variables.exportTo.size() > 0"
                " || variables.hosts.all(h, h.matches('^[a-z0-9-]+$')"
                " || h == request.namespace + '.example.com'"
                " || h.endsWith('.' + request.namespace)"
                " || h.endsWith('.' + request.namespace + '.svc')"
                " || h.endsWith('.' + request.namespace + '.svc.cluster.local'))",
                'in a class a rule about a host of somebody else\'s says exportTo: ["."]',
            ),
            # Istio's control plane itself would fetch the keys, from any address.
            Validation(
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


def admission_policies(mesh: MeshName) -> list[AdmissionPolicy]:
    """Returns the policies of a class in a mesh."""
    return [_PODS, _SERVICES, _ROUTES, _NETWORK_POLICIES, *([_istio()] if mesh == "istio" else ())]


def refused_pod() -> Object:
    """Returns a pod that the policies refuse once they are in force."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "not-in-a-class"},
        "spec": {
            "containers": [{"name": "c", "image": "none.invalid/none"}],
            "volumes": [{"name": "node", "hostPath": {"path": "/"}}],
        },
    }
