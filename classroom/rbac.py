"""The rules of a student's Role: what the labs need, in the student's own namespace only.

With the admission policies (admission.py) nothing of it reaches other students. What could is left
out:

    Gateways of either API     one in any namespace may take any host at the shared gateway
    Endpoints, EndpointSlices  they lead a Service to any address of the cluster
    Roles, RoleBindings, tokens of ServiceAccounts, quotas, labels of the namespace
    everything that belongs to the cluster and not to a namespace
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """Allows verbs on resources of an API group; "" is the core group."""

    group: str
    resources: Sequence[str]
    verbs: Sequence[str]

    def manifest(self) -> dict[str, Any]:
        """Returns the rule as a Role has it."""
        return {
            "apiGroups": [self.group],
            "resources": [*self.resources],
            "verbs": [*self.verbs],
        }


READ = ("get", "list", "watch")
WRITE = (*READ, "create", "update", "patch", "delete")
# What `helm upgrade` does to the chart's objects.
UPGRADE = (*READ, "create", "update", "patch")

RULES: Sequence[Rule] = (
    Rule("", ("pods", "services", "configmaps", "secrets"), WRITE),
    Rule("", ("pods/log",), ("get",)),
    # kubectl asks for both by a GET that becomes a WebSocket, and older ones by a POST.
    Rule("", ("pods/exec", "pods/portforward"), ("get", "create")),
    Rule("", ("serviceaccounts",), UPGRADE),
    Rule(
        "",
        ("events", "endpoints", "persistentvolumeclaims", "resourcequotas", "limitranges"),
        READ,
    ),
    Rule("discovery.k8s.io", ("endpointslices",), READ),
    Rule("apps", ("deployments",), WRITE),
    Rule("apps", ("deployments/scale",), ("get", "update", "patch")),
    Rule("apps", ("statefulsets",), UPGRADE),
    Rule("apps", ("replicasets", "controllerrevisions"), READ),
    Rule("batch", ("jobs",), WRITE),
    Rule("policy", ("poddisruptionbudgets",), WRITE),
    Rule("networking.k8s.io", ("networkpolicies",), WRITE),
    Rule("gateway.networking.k8s.io", ("httproutes", "grpcroutes"), WRITE),
    Rule(
        "networking.istio.io",
        ("virtualservices", "destinationrules", "serviceentries", "sidecars", "envoyfilters"),
        WRITE,
    ),
    Rule(
        "security.istio.io",
        ("authorizationpolicies", "peerauthentications", "requestauthentications"),
        WRITE,
    ),
    Rule("telemetry.istio.io", ("telemetries",), WRITE),
    Rule(
        "policy.linkerd.io",
        (
            "servers",
            "authorizationpolicies",
            "meshtlsauthentications",
            "networkauthentications",
            "egressnetworks",
            "httplocalratelimitpolicies",
        ),
        WRITE,
    ),
    # To restore the base, the runner lists all kinds that this version of a mesh and of the Gateway
    # API has.
    *(
        Rule(group, ("*",), READ)
        for group in (
            "networking.istio.io",
            "security.istio.io",
            "telemetry.istio.io",
            "extensions.istio.io",
            "gateway.networking.k8s.io",
            "linkerd.io",
            "policy.linkerd.io",
            "multicluster.linkerd.io",
            "workload.linkerd.io",
        )
    ),
    Rule(
        "argoproj.io",
        ("rollouts", "analysisruns", "analysistemplates", "experiments"),
        READ,
    ),
)
