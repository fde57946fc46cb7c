"""A student may do what labs need, and nothing that reaches others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from classroom.rbac import RULES
from classroom.students import Student
from labs.lab import LABS, all_labs
from tests.testkit.goldens import golden_objects
from tools.mesh import render

ROOT = LABS.parent
MISTAKES = ROOT / "tests/labs/mistakes"
ISTIO, LINKERD = Student("student-01", "istio"), Student("student-01", "linkerd")

Right = tuple[str, str, str]  # the verb, the API group, the resource

_GROUPS = {
    "configmaps": "",
    "events": "",
    "pods": "",
    "secrets": "",
    "serviceaccounts": "",
    "services": "",
    "deployments": "apps",
    "replicasets": "apps",
    "statefulsets": "apps",
    "jobs": "batch",
    "poddisruptionbudgets": "policy",
    "networkpolicies": "networking.k8s.io",
    "httproutes": "gateway.networking.k8s.io",
    "grpcroutes": "gateway.networking.k8s.io",
    "virtualservices": "networking.istio.io",
    "destinationrules": "networking.istio.io",
    "serviceentries": "networking.istio.io",
    "sidecars": "networking.istio.io",
    "envoyfilters": "networking.istio.io",
    "peerauthentications": "security.istio.io",
    "requestauthentications": "security.istio.io",
    "telemetries": "telemetry.istio.io",
    "egressnetworks": "policy.linkerd.io",
    "httplocalratelimitpolicies": "policy.linkerd.io",
    "meshtlsauthentications": "policy.linkerd.io",
    "networkauthentications": "policy.linkerd.io",
    "servers": "policy.linkerd.io",
}
# What a command of kubectl asks the API server for.
_VERBS = {
    "annotate": ("get", "patch"),
    "apply": ("get", "create", "patch"),
    "delete": ("get", "list", "watch", "delete"),
    "edit": ("get", "patch"),
    "get": ("get", "list"),
    "label": ("get", "list", "patch"),
    "patch": ("get", "patch"),
    "replace": ("get", "update"),
    "wait": ("get", "list", "watch"),
}
_OF_DEPLOYMENTS = {
    "rollout": ("get", "list", "watch", "patch"),
    "set": ("get", "patch"),
}
_COMMAND = re.compile(r"kubectl -n (?:ecommerce|\{shop\.where\.namespace\}) ((?:\\\n|[^|`\n\"])*)")


def granted() -> set[Right]:
    return {
        (verb, rule.group, resource)
        for rule in RULES
        for resource in rule.resources
        for verb in rule.verbs
    }


GRANTED = granted()


def is_granted(right: Right) -> bool:
    verb, group, _ = right
    return right in GRANTED or (verb, group, "*") in GRANTED


def plural_of(kind: str) -> str:
    """The resource of a kind: of ``HTTPRoute``, ``httproute`` and ``httproutes.GROUP``."""
    name, _, _ = kind.lower().partition(".")
    for plural in (name, f"{name}s", f"{name[:-1]}ies", f"{name}es"):
        if plural in _GROUPS or plural == "authorizationpolicies":
            return plural
    raise KeyError(kind)


def groups_of(kind: str) -> list[str]:
    """Both meshes call theirs AuthorizationPolicy."""
    plural = plural_of(kind)
    if plural in _GROUPS:
        return [_GROUPS[plural]]
    group = kind.partition(".")[2]
    is_said = group and not group.startswith("{")
    return [group] if is_said else ["security.istio.io", "policy.linkerd.io"]


def typed() -> Iterator[tuple[str, Right]]:
    """What the README.md files, hints and mistakes have people type in the shop's namespace."""
    pages = [
        *LABS.glob("*/README.md"),
        *LABS.glob("*/lab.py"),
        *MISTAKES.glob("*.yaml"),
    ]
    for page in sorted(pages):
        for found in _COMMAND.finditer(page.read_text(encoding="utf-8")):
            for right in needed_by(found[1].replace("\\\n", " ")):
                yield f"{page.parent.name}/{page.name}: {found[0][:90]}", right


def needed_by(command: str) -> Iterator[Right]:
    words = re.split(r"\s+", command.strip())
    verb, *rest = words
    if verb == "exec":
        yield from (("get", "", "pods/exec"), ("create", "", "pods/exec"), ("get", "", "pods"))
    elif verb == "logs":
        yield from (("get", "", "pods/log"), ("get", "", "pods"), ("list", "", "pods"))
    elif verb == "scale":
        yield from ((each, "apps", "deployments/scale") for each in ("get", "patch", "update"))
    elif verb in _OF_DEPLOYMENTS:
        yield from ((each, "apps", "deployments") for each in _OF_DEPLOYMENTS[verb])
    elif verb in {"diff", "port-forward"}:
        return
    else:
        first, *others = [word for word in rest if not word.startswith("--")] or [""]
        named = [word for word in others if re.fullmatch(r"[a-z]+/[\w.-]+", word)]
        for word in (first, *named):
            for kind in word.partition("/")[0].split(","):
                if re.match("[a-z]", kind):  # and not a placeholder of a lab.py
                    for group in groups_of(kind.rstrip(".:?")):
                        yield from (
                            (each, group, plural_of(kind.rstrip(".:?"))) for each in _VERBS[verb]
                        )


def test_what_labs_have_people_type_is_granted() -> None:
    rights = list(typed())
    assert len(rights) > 100
    missing = {text: right for text, right in rights if not is_granted(right)}
    assert not missing


def test_a_command_that_is_not_granted_would_be_told() -> None:
    assert list(needed_by("patch destinationrule product-service -p x")) == [
        ("get", "networking.istio.io", "destinationrules"),
        ("patch", "networking.istio.io", "destinationrules"),
    ]
    assert ("list", "gateway.networking.k8s.io", "grpcroutes") in set(
        needed_by("get service/a httproute/b grpcroute/c -o yaml")
    )
    with pytest.raises(KeyError):
        list(needed_by("delete role student"))
    assert not is_granted(("create", "networking.istio.io", "gateways"))


@pytest.mark.needs_programs("kubectl")
@pytest.mark.parametrize("student", [ISTIO, LINKERD], ids=lambda each: each.mesh)
def test_what_the_runner_does_with_base_and_labs_is_granted(student: Student) -> None:
    objects = render.rendered(student.shop, "base")
    for lab in all_labs():
        for state in ("start", "solution"):
            folder = lab.folder / state / student.mesh
            if folder.is_dir():
                objects += render.placed(student.shop, folder)
    own = [
        each
        for each in objects
        if each["metadata"].get("namespace") == student.name and each["kind"] != "Gateway"
    ]
    assert len(own) > 50
    for each in own:
        group, slash, _ = each["apiVersion"].partition("/")
        for verb in ("get", "list", "create", "update", "patch", "delete"):
            assert is_granted((verb, group if slash else "", plural_of(each["kind"]))), each


@pytest.mark.parametrize("values", ["istio", "linkerd", "default"])
def test_what_the_chart_makes_can_be_upgraded(values: str) -> None:
    made = [each for each in golden_objects(values) if each["kind"] != "Namespace"]
    assert len(made) > 40
    for each in made:
        group, slash, _ = each["apiVersion"].partition("/")
        for verb in ("get", "create", "patch"):
            assert is_granted((verb, group if slash else "", plural_of(each["kind"]))), each["kind"]
    # Two pods of a service come with a budget.
    for verb in ("get", "create", "patch", "delete"):
        assert is_granted((verb, "policy", "poddisruptionbudgets"))


def test_what_brings_the_base_back_can_be_listed() -> None:
    """Kinds that a later version of a mesh may have are among them."""
    for group in (
        *("networking.istio.io", "security.istio.io", "telemetry.istio.io", "extensions.istio.io"),
        *("linkerd.io", "policy.linkerd.io", "multicluster.linkerd.io"),
        "gateway.networking.k8s.io",
    ):
        assert ("list", group, "*") in GRANTED, group
    for kind in ("rollouts", "analysisruns", "analysistemplates", "experiments"):
        assert ("list", "argoproj.io", kind) in GRANTED
    for verb in ("list", "create", "update", "delete"):  # Helm's records of its releases
        assert (verb, "", "secrets") in GRANTED


_WRITES = {"create", "update", "patch", "delete", "deletecollection"}


def test_nothing_that_reaches_others_is_granted() -> None:
    written = {(group, resource) for verb, group, resource in GRANTED if verb in _WRITES}
    for resource in (
        ("networking.istio.io", "gateways"),
        ("gateway.networking.k8s.io", "gateways"),
        ("gateway.networking.k8s.io", "referencegrants"),
        ("networking.istio.io", "workloadentries"),
        ("extensions.istio.io", "wasmplugins"),
        ("linkerd.io", "serviceprofiles"),
        ("", "endpoints"),
        ("discovery.k8s.io", "endpointslices"),
        ("", "resourcequotas"),
        ("", "limitranges"),
        ("", "namespaces"),
        ("", "serviceaccounts/token"),
        ("", "pods/ephemeralcontainers"),
        ("networking.k8s.io", "ingresses"),
    ):
        assert resource not in written, resource
    assert not [each for each in written if each[1] == "*"]
    assert not [each for each in GRANTED if each[0] in {"*", "bind", "escalate", "impersonate"}]
    groups = {group for _, group, _ in GRANTED}
    assert not groups & {
        "*",
        "rbac.authorization.k8s.io",
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "certificates.k8s.io",
    }
    assert groups - {""} <= {
        *("apps", "batch", "policy", "discovery.k8s.io", "networking.k8s.io", "argoproj.io"),
        *("gateway.networking.k8s.io", "networking.istio.io", "security.istio.io"),
        *("telemetry.istio.io", "extensions.istio.io", "linkerd.io", "policy.linkerd.io"),
        *("multicluster.linkerd.io", "workload.linkerd.io"),
    }


def test_each_rule_is_as_a_role_has_it() -> None:
    made: list[dict[str, Any]] = [rule.manifest() for rule in RULES]
    assert all(set(each) == {"apiGroups", "resources", "verbs"} for each in made)
    assert {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]} in made
