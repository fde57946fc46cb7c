"""A cluster that keeps its objects in a dictionary, behind the commands that the labs give; and a
pretended shop, in which a lab's check finds what a test says.
"""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self, cast

import yaml

from labs.errors import CommandFailed
from labs.finding import Finding, right
from labs.lab import Lab, all_labs, lab_named
from labs.meshed import MeshedShop
from labs.visitor import Answer
from tools.mesh.render import MeshName, Shop

Object = dict[str, Any]
Key = tuple[str, str, str]

NAMESPACE = "ecommerce"
# As `kubectl api-resources` names the kinds that the tests need.
KINDS: Mapping[str, str] = {
    "authorizationpolicies.security.istio.io": "AuthorizationPolicy",
    "configmaps": "ConfigMap",
    "deployments.apps": "Deployment",
    "destinationrules.networking.istio.io": "DestinationRule",
    "envoyfilters.networking.istio.io": "EnvoyFilter",
    "gateways.networking.istio.io": "Gateway",
    "httproutes.gateway.networking.k8s.io": "HTTPRoute",
    "networkpolicies.networking.k8s.io": "NetworkPolicy",
    "pods": "Pod",
    "services": "Service",
    "virtualservices.networking.istio.io": "VirtualService",
}
_BY_SHORT_NAME = {name.partition(".")[0]: kind for name, kind in KINDS.items()} | {
    "secret": "Secret"
}


@dataclass
class FakeLabCluster:
    """What kubectl and helm would do, as far as the labs ask for it.

    :ivar values: those of the release; None while there is none.
    :ivar said: every command, without its input.
    :ivar gateway: what is at the other end of a forwarded port.
    :ivar rules_the_gateway: whether this user may change what is in the gateway's namespace.
    """

    values: Object | None = field(default_factory=lambda: {"mesh": "istio"})
    objects: dict[Key, Object] = field(default_factory=dict[Key, Object])
    said: list[str] = field(default_factory=list[str])
    gateway: str = "127.0.0.1:1"
    rules_the_gateway: bool = True

    async def run(self, *command: str, given: str | None = None, within_seconds: float = 0) -> str:
        self.said.append(" ".join(command))
        program, *words = command
        namespace = NAMESPACE
        if words[0] == "-n":
            namespace, words = words[1], words[2:]
        if program == "helm":
            return self._helm(words, given)
        objects = [each for each in yaml.load_all(given or "", Loader=yaml.CSafeLoader) if each]
        if words[0] in {"api-resources", "get"}:
            return self._told(words, namespace, objects)
        if objects and objects[0]["kind"] == "SelfSubjectAccessReview":
            return json.dumps({"status": {"allowed": self.rules_the_gateway}})
        self._change(words, namespace, objects)
        return ""

    def _told(self, words: list[str], namespace: str, objects: list[Object]) -> str:
        match words:
            case ["get", "-f", *_]:
                keys = [key_of(each) for each in objects]
                return _listed(self.objects[key] for key in keys if key in self.objects)
            case ["get", "secret", name, *_]:
                found = self.objects.get(("Secret", namespace, name))
                return json.dumps(found) if found else ""
            case ["get", kinds, *_]:
                wanted = {KINDS.get(each) or _BY_SHORT_NAME[each] for each in kinds.split(",")}
                return _listed(
                    each
                    for (kind, where, _), each in self.objects.items()
                    if kind in wanted and where == namespace
                )
            case _:
                return "\n".join(KINDS)

    def _change(self, words: list[str], namespace: str, objects: list[Object]) -> None:
        match words:
            case ["create" | "apply", *_]:
                for each in objects:
                    self._put(each, namespace, keeps_more=words[0] == "apply")
            case ["replace", *_]:
                for each in objects:
                    if key_of(each) not in self.objects:
                        raise CommandFailed(f"kubectl replace: {key_of(each)} not found")
                    self._put(each, namespace)
            case ["delete", kind, "--selector", selector, *_]:
                self._delete_selected(KINDS.get(kind, "Secret"), namespace, selector)
            case ["delete", *_]:
                for each in objects:
                    self.objects.pop(key_of(each), None)
            case ["label", "pod", name, *labels]:
                for label in labels:
                    del self.objects["Pod", namespace, name]["metadata"]["labels"][label[:-1]]
            case ["rollout" | "wait", *_]:
                return
            case _:
                raise CommandFailed(f"{words}: nobody has told the fake what it does")

    @asynccontextmanager
    async def forwarded(self, namespace: str, target: str, port: int) -> AsyncGenerator[str]:
        self.said.append(f"port-forward {namespace} {target} {port}")
        yield self.gateway

    def add(self, kind: str, name: str, *, namespace: str = NAMESPACE, **more: Any) -> Object:
        """Puts an object there as somebody else would."""
        labels = more.pop("labels", {})
        group = next((n.partition(".")[2] for n, each in KINDS.items() if each == kind), "")
        metadata = {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            **more.pop("metadata", {}),
        }
        made: Object = {
            "apiVersion": f"{group}/v1" if group else "v1",
            "kind": kind,
            "metadata": metadata,
            **more,
        }
        self.objects[key_of(made)] = made
        return made

    def _put(self, each: Object, namespace: str, *, keeps_more: bool = False) -> None:
        each = copy.deepcopy(each)
        each["metadata"].setdefault("namespace", namespace)
        if each["kind"] == "Secret":
            texts = each.pop("stringData", {})
            each["data"] = {n: base64.b64encode(t.encode()).decode() for n, t in texts.items()}
        before = self.objects.get(key_of(each))
        if keeps_more and before is not None:
            each["spec"] = {**before.get("spec", {}), **each.get("spec", {})}
        self.objects[key_of(each)] = each

    def _delete_selected(self, kind: str, namespace: str, selector: str) -> None:
        wanted = [re.sub(r"=.*", "", each) for each in selector.split(",")]
        for key, each in list(self.objects.items()):
            labels = each["metadata"].get("labels", {})
            if key[:2] == (kind, namespace) and all(name in labels for name in wanted):
                del self.objects[key]

    def _helm(self, words: list[str], given: str | None) -> str:
        match words:
            case ["list", *_]:
                return json.dumps([{"name": "shop"}] if self.values is not None else [])
            case ["get", "values", *_]:
                return json.dumps(self.values or None)
            case ["get", "manifest", *_]:
                return yaml.safe_dump_all(self.chart())
            case ["upgrade", *_]:
                self.values = json.loads(given or "{}")
                for each in self.chart():
                    self._put(each, NAMESPACE, keeps_more=True)
                return ""
            case _:
                raise CommandFailed(
                    f"helm {' '.join(words)}: nobody has told the fake what it does"
                )

    def chart(self) -> list[Object]:
        """What the chart makes of the values: two services."""
        values = self.values or {}
        replicas = values.get("services", {}).get("payment", {}).get("replicas", 1)
        made: list[Object] = [
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": "default-deny"},
                "spec": {"podSelector": {}},
            }
        ]
        for name in ("frontend", "payment-service"):
            labels = {"app.kubernetes.io/name": name, "version": "v1"}
            selector = {"app.kubernetes.io/name": name}
            template = {"metadata": {"labels": labels}}
            count = replicas if name == "payment-service" else 1
            made += [
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "metadata": {"name": name},
                    "spec": {"replicas": count, "template": template},
                },
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": {"name": name},
                    "spec": {"selector": selector},
                },
            ]
        return made


def key_of(each: Object) -> Key:
    """What makes an object the same as another."""
    return each["kind"], each["metadata"].get("namespace", NAMESPACE), each["metadata"]["name"]


def _listed(objects: Iterator[Object]) -> str:
    found = list(objects)
    return json.dumps({"kind": "List", "items": found}) if found else ""


@dataclass
class PretendedShop:
    """A shop in a mesh, and the visitor at its gateway: as much of both as most checks use.

    :ivar order: the status of an order's answer.
    :ivar cancelled: how many orders were cancelled.
    """

    mesh: MeshName = "istio"
    order: int = field(default=201, kw_only=True)
    cancelled: int = field(default=0, init=False)

    @property
    def where(self) -> Shop:
        return Shop(mesh=self.mesh)

    @asynccontextmanager
    async def visitor(self) -> AsyncGenerator[Self]:
        yield self

    async def insist(self, key: str = "", headers: Mapping[str, str] | None = None) -> Answer:
        return Answer(self.order, {"order_id": "ord_1"}, None)

    async def cancel(self, order_id: str) -> Answer:
        self.cancelled += 1
        return Answer(200, None, None)

    async def audit(self) -> Finding:
        return right("the books agree")


async def findings_of(lab: str | Lab, shop: PretendedShop) -> list[Finding]:
    """Returns all that the check of a lab in a mesh finds."""
    exercise = (lab_named(all_labs(), lab) if isinstance(lab, str) else lab).meshed
    assert exercise is not None
    return [each async for each in exercise.check(cast("MeshedShop", shop))]
