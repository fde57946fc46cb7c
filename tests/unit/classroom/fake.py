"""A cluster that keeps the classroom's commands and objects, and answers like a real one."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml

from labs.errors import CommandFailed

Object = dict[str, Any]
Key = tuple[str, str, str]
EXPIRES_S = 1_900_000_000

_PLURALS = {
    "ConfigMap": "configmaps",
    "Namespace": "namespaces",
    "Node": "nodes",
    "Pod": "pods",
    "Secret": "secrets",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies.admissionregistration.k8s.io",
    "ValidatingAdmissionPolicyBinding": (
        "validatingadmissionpolicybindings.admissionregistration.k8s.io"
    ),
}
_KINDS = {plural: kind for kind, plural in _PLURALS.items()}
_CLUSTERS = {
    "Namespace",
    "Node",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
_PARTS = {
    "deployment/istiod",
    "service/istio-ingressgateway",
    "deployment/linkerd-destination",
    "service/traefik",
}


def token() -> str:
    """Like one of a ServiceAccount."""
    claims = base64.urlsafe_b64encode(json.dumps({"exp": EXPIRES_S}).encode()).decode()
    return f"head.{claims.rstrip('=')}.signature"


@dataclass
class FakeClassCluster:
    """One node, and what was applied.

    :ivar said: every command.
    :ivar helm_values: of each installation, by the namespace.
    :ivar are_policies_in_force: whether admission refuses a pod that mounts its node's files.
    :ivar missing: parts of a mesh that are not there.
    :ivar stuck: namespaces that do not go away.
    :ivar service: the gateway's.
    """

    said: list[str] = field(default_factory=list[str])
    objects: dict[Key, Object] = field(default_factory=dict[Key, Object])
    helm_values: dict[str, list[Object]] = field(default_factory=dict[str, list[Object]])
    are_policies_in_force: bool = True
    has_policies: bool = True
    missing: set[str] = field(default_factory=set[str])
    stuck: set[str] = field(default_factory=set[str])
    server: str = "https://cluster.example:6443"
    service: Object = field(
        default_factory=lambda: {
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}},
            "spec": {"ports": [{"port": 443}]},
        }
    )
    allocatable: Object = field(
        default_factory=lambda: {"cpu": "4", "memory": "16Gi", "pods": "110"}
    )

    def __post_init__(self) -> None:
        self.put(
            {
                "kind": "Node",
                "metadata": {"name": "node-1"},
                "spec": {},
                "status": {
                    "allocatable": self.allocatable,
                    "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                },
            }
        )

    def put(self, each: Object, namespace: str = "") -> None:
        """Puts an object there."""
        where = "" if each["kind"] in _CLUSTERS else each["metadata"].get("namespace", namespace)
        each["metadata"]["namespace"] = where
        self.objects[each["kind"], where, each["metadata"]["name"]] = each

    async def run(self, *command: str, given: str | None = None, within_seconds: float = 0) -> str:
        self.said.append(" ".join(command))
        program, *words = command
        namespace = ""
        if words[0] == "-n":
            namespace, words = words[1], words[2:]
        if program == "helm":
            self.helm_values.setdefault(namespace, []).append(json.loads(given or "{}"))
            return ""
        objects = list(yaml.load_all(given or "", Loader=yaml.CSafeLoader))
        if words[0] in {"get", "api-resources", "config"} or words[1] == "token":
            return self._answer(words, namespace)
        self._change(words, namespace, objects)
        return ""

    def _answer(self, words: list[str], namespace: str) -> str:
        found: Any
        match words:
            case ["create", "token", *_]:
                return token() + "\n"
            case ["api-resources", *_]:
                return "\n".join(_KINDS) if self.has_policies else ""
            case ["config", "view", *_]:
                found = {"clusters": [{"name": "k", "cluster": {"server": self.server, "ca": "x"}}]}
            case ["get", "--raw", path]:
                assert path == "/api/v1/nodes/node-1/proxy/stats/summary"
                found = self.summary()
            case ["get", "service", _, "-o", "json"]:
                found = self.service
            case ["get", name, "--ignore-not-found", "-o", "name"] if name in _PARTS:
                return "" if name in self.missing else f"{name}\n"
            case ["get", "configmap", name, *_]:
                found = self.objects.get(("ConfigMap", namespace, name))
            case ["get", kinds, *options]:
                return self._listed(kinds, namespace, options)
            case _:
                raise CommandFailed(f"{words}: the fake does not know this command")
        return json.dumps(found) if found else ""

    def _change(self, words: list[str], namespace: str, objects: list[Object]) -> None:
        match words:
            case ["apply", *_]:
                for each in objects:
                    self.put(each, namespace)
            case ["create", "--dry-run=server", *_]:
                if self.are_policies_in_force:
                    raise CommandFailed("ValidatingAdmissionPolicy 'meshmart-class-pods' denied it")
            case ["annotate", "namespace", name, text]:
                key, _, value = text.partition("=")
                metadata = self.objects["Namespace", "", name]["metadata"]
                metadata.setdefault("annotations", {})[key] = value
            case ["delete", *options]:
                self._delete(options, namespace, objects)
            case ["wait", *_]:
                pass
            case _:
                raise CommandFailed(f"{words}: the fake does not know this command")

    def _listed(self, kinds: str, namespace: str, options: list[str]) -> str:
        wanted = [_KINDS[each] for each in kinds.split(",")]
        label = options[options.index("--selector") + 1] if "--selector" in options else ""
        found = [
            each
            for (kind, where, _), each in self.objects.items()
            if kind in wanted
            and namespace in {"", where}
            and _fits(each["metadata"].get("labels") or {}, label)
        ]
        if options[-1] == "name":
            short = {"Namespace": "namespace", "Secret": "secret"}
            return "".join(
                f"{short.get(each['kind'], _PLURALS[each['kind']])}/{each['metadata']['name']}\n"
                for each in found
            )
        return json.dumps({"items": found})

    def _delete(self, options: list[str], namespace: str, objects: list[Object]) -> None:
        if options[0] == "namespace":
            gone = {name for name in options[1:] if name not in self.stuck}
            for key in [key for key in self.objects if key[1] in gone or key[2] in gone]:
                del self.objects[key]
        elif "-f" in options:
            for each in objects:
                key = (each["kind"], each["metadata"]["namespace"], each["metadata"]["name"])
                self.objects.pop(key, None)
        elif options[0] == "secret":
            self.objects.pop(("Secret", namespace, options[1]), None)
        elif options[0].startswith("validating"):
            for key in [key for key in self.objects if key[0].startswith("Validating")]:
                del self.objects[key]

    def summary(self) -> Object:
        """What the kubelet counts."""
        return {
            "pods": [
                {
                    "podRef": {"name": name, "namespace": where},
                    "cpu": {"usageNanoCores": 20_000_000},
                    "memory": {"workingSetBytes": 256 * 2**20},
                }
                for kind, where, name in self.objects
                if kind == "Pod"
            ]
        }

    @asynccontextmanager
    async def forwarded(self, namespace: str, target: str, port: int) -> AsyncGenerator[str]:
        raise AssertionError(f"nobody forwards a port in a class: {namespace} {target} {port}")
        yield ""


def _fits(labels: dict[str, str], selector: str) -> bool:
    name, _, value = selector.partition("=")
    return not selector or (name in labels and value in {"", labels[name]})
