"""Restores the base of a mesh, from whatever a lab or a student has left.

What is there is compared with what belongs there, never with what a lab has made: an object of a
mistyped name goes, too. `kubectl apply` alone would not do: it leaves fields that it has not
written itself, those of `kubectl edit` say. So what exists is replaced whole.

Who has no rights at the gateway, as a student of a class, has changed nothing there: that is left
out. So is what bears the class's label, which is the teacher's.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from labs.commands import ROOT, Commands
from labs.errors import LabError
from labs.membership import CLASS_LABEL
from tools.kind import LINKERDS_ROUTES
from tools.mesh import render
from tools.mesh.render import Object

RELEASE = "shop"
CHART = ROOT / "helm"
LAB_LABEL = "meshmart/lab"
# Selects Helm's records of an interrupted upgrade, which would forbid the next one.
PENDING_RELEASES = (
    f"owner=helm,name={RELEASE},status in (pending-install,pending-upgrade,pending-rollback)"
)

_SCENARIO_LABEL = "meshmart/scenario"
_NAME_LABEL = "app.kubernetes.io/name"
_GATEWAY_API = "gateway.networking.k8s.io"
# In the shop's namespace, so that any machine may bring the base back: the chart's values of the
# base, as they were when a lab was first started.
_BASE_VALUES = "meshmart-labs"

# Whose objects all belong to the base, or go.
_KINDS = re.compile(
    r".+\.istio\.io|.+\.linkerd\.io|.+\.gateway\.networking\.k8s\.io"
    r"|networkpolicies\.networking\.k8s\.io|(rollouts|analysis\w+|experiments)\.argoproj\.io"
)
# Of these, others may have some here that are no business of the labs.
_MIXED_KINDS = "services,deployments.apps,pods,configmaps"
# Helm makes them, and people change them by hand: kubectl scale, set, edit, annotate.
_CHANGED_BY_HAND = {"Deployment", "Service", "NetworkPolicy"}
# Labels that the cluster and the meshes give to pods.
_GIVEN_LABELS = re.compile(r"pod-template-hash|.*(istio|linkerd|kubernetes)\.io/.*")
_ROLL_OUT_SECONDS = 120.0


class _Key(NamedTuple):
    """What makes an object the same as another, whatever its version."""

    group: str
    kind: str
    namespace: str
    name: str


async def restore(commands: Commands, where: render.Shop, values: Mapping[str, Any]) -> None:
    """Restores the base, deletes everything else, and waits until all pods are rolled out.

    :param values: of the chart, on top of those of the base.
    :raises LabError: there is no such shop, or it does not become ready.
    """
    restoring = _Restoring(commands, where)
    base = render.rendered(where, "base")
    base_values = await restoring.base_values()
    is_guest = await restoring.is_guest()
    await restoring.put_back(
        [each for each in base if not (is_guest and restoring.is_at_the_gateway(each))]
    )
    await restoring.upgrade(merged(base_values, values))
    made = await restoring.made_by_helm()
    await restoring.delete_others(base, made, is_guest=is_guest)
    await restoring.replace_changed(made)
    await restoring.take_labels_back(made)
    await restoring.wait(made)


async def put_back(commands: Commands, where: render.Shop, objects: Sequence[Object]) -> None:
    """Replaces objects whole, or makes them."""
    await _Restoring(commands, where).put_back(objects)


def gateway_api_gateway(where: render.Shop) -> render.IngressGateway:
    """Returns the gateway of the Gateway API's Gateway: in Istio it has its own."""
    if where.mesh == "linkerd":
        return where.gateway
    return render.gateway_of("gateway-api", where.namespace)


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values of a chart with others on top, merged as Helm does."""
    result = dict(base)
    for name, value in more.items():
        before = result.get(name)
        if isinstance(before, dict) and isinstance(value, Mapping):
            result[name] = merged(before, value)  # pyright: ignore[reportUnknownArgumentType]  JSON
        else:
            result[name] = value
    return result


class _Restoring:
    def __init__(self, commands: Commands, where: render.Shop) -> None:
        self._commands = commands
        self._where = where

    async def base_values(self) -> Mapping[str, Any]:
        """The values that the release had when a lab was first started."""
        kept = await self._kubectl(
            "get", "secret", _BASE_VALUES, "--ignore-not-found", "-o", "json"
        )
        if kept.strip():
            return json.loads(base64.b64decode(json.loads(kept)["data"]["values"]))
        listed = json.loads(await self._helm("list", "--all", "-o", "json"))
        if not any(each["name"] == RELEASE for each in listed):
            raise LabError(
                f"No shop is installed in the namespace {self._where.namespace}: "
                f"make up MESH={self._where.mesh}, or mesh/{self._where.mesh}/README.md"
            )
        values: Object = json.loads(await self._helm("get", "values", RELEASE, "-o", "json")) or {}
        if values.get("mesh") != self._where.mesh:
            raise LabError(
                f"The shop in {self._where.namespace} is not in {self._where.mesh.capitalize()} "
                f"(its chart has mesh={values.get('mesh', 'none')}): "
                f"mesh/{self._where.mesh}/README.md#the-order-of-steps"
            )
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": _BASE_VALUES},
            "stringData": {"values": json.dumps(values)},
        }
        await self._kubectl("create", "-f", "-", given=json.dumps(secret))
        return values

    async def is_guest(self) -> bool:
        """Whether this user may not change what is at the gateway."""
        group = "networking.istio.io" if self._where.mesh == "istio" else _GATEWAY_API
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {
                "resourceAttributes": {
                    "namespace": self._where.gateway.namespace,
                    "verb": "update",
                    "group": group,
                    "resource": "envoyfilters" if self._where.mesh == "istio" else "gateways",
                }
            },
        }
        # To validate a review kubectl lists the cluster's CRDs, which a student may not.
        create = ("create", "--validate=false", "-f", "-", "-o", "json")
        said = await self._run(*create, given=json.dumps(review))
        return not json.loads(said)["status"]["allowed"]

    def is_at_the_gateway(self, each: Object) -> bool:
        """Whether an object of the base says something of the gateway, which others share."""
        namespace = each["metadata"].get("namespace", self._where.namespace)
        return each["kind"] == "Gateway" or namespace != self._where.namespace

    async def put_back(self, objects: Sequence[Object]) -> None:
        """Replaces what is there of some objects, and makes what is not."""
        text = render.text_of(objects)
        there = {
            self._key(each)
            for each in _items(
                await self._run("get", "-f", "-", "--ignore-not-found", "-o", "json", given=text)
            )
        }
        for some, verb in (
            ([each for each in objects if self._key(each) in there], ("replace", "--save-config")),
            ([each for each in objects if self._key(each) not in there], ("apply",)),
        ):
            if some:
                await self._run(*verb, "-f", "-", given=render.text_of(some))

    async def upgrade(self, values: Mapping[str, Any]) -> None:
        """Upgrades the release to these values alone, also after an interrupted upgrade."""
        await self._kubectl("delete", "secrets", "--selector", PENDING_RELEASES)
        await self._helm(
            *("upgrade", "--install", RELEASE, str(CHART), "--reset-values", "--values", "-"),
            given=json.dumps(values),
        )

    async def made_by_helm(self) -> list[Object]:
        """All objects of the release."""
        text = await self._helm("get", "manifest", RELEASE)
        return [each for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each]

    async def delete_others(
        self, base: Sequence[Object], made: Sequence[Object], *, is_guest: bool
    ) -> None:
        """Deletes what belongs neither to the base nor to the release."""
        known = {self._key(each) for each in (*base, *made)}
        listed = ("api-resources", "--namespaced", "--verbs=list,delete", "-o", "name")
        names = await self._commands.run("kubectl", *listed)
        kinds = ",".join(name for name in names.split() if _KINDS.fullmatch(name))
        others = [
            each
            for each in _items(await self._kubectl("get", kinds, "-o", "json"))
            if self._key(each) not in known and _is_loose(each)
        ]
        workloads = {each["metadata"]["name"] for each in _deployments(made)}
        others += [
            each
            for each in _items(await self._kubectl("get", _MIXED_KINDS, "-o", "json"))
            if self._key(each) not in known and _is_of_a_lab(each, workloads)
        ]
        if not is_guest:
            others += [each for each in self._second_way_in() if self._key(each) not in known]
        if others:
            await self._run(
                *("delete", "--wait=false", "--ignore-not-found", "-f", "-"),
                given=render.text_of([_named(each) for each in others]),
            )
        for namespace, kind, label in self._elsewhere():
            if is_guest and namespace != self._where.namespace:
                continue
            mine = f"{label},meshmart/shop={self._where.namespace}"
            await self._commands.run(
                "kubectl", "-n", namespace, "delete", kind, "--selector", mine, "--wait=false"
            )

    def _elsewhere(self) -> Iterator[tuple[str, str, str]]:
        """Where a scenario or a lab makes something outside of the shop's namespace, and the label
        that it bears there.
        """
        yield self._where.stripe_namespace, "networkpolicies.networking.k8s.io", _SCENARIO_LABEL
        yield gateway_api_gateway(self._where).namespace, "secrets", LAB_LABEL
        if self._where.mesh == "istio":
            yield self._where.gateway.namespace, "envoyfilters.networking.istio.io", _SCENARIO_LABEL

    def _second_way_in(self) -> Iterator[Object]:
        """What mesh/istio/gateway-api has outside of the shop's namespace. The gateway's namespace
        stays: in a cluster with both meshes it is Traefik's, too.
        """
        if self._where.mesh == "istio":
            for each in render.rendered(self._where, "gateway-api"):
                if each["kind"] in {"Gateway", "ReferenceGrant"}:
                    yield each

    async def replace_changed(self, made: Sequence[Object]) -> None:
        """Takes back what was changed by hand: Helm keeps what is not in its chart."""
        text = render.text_of(
            [self._as_helm_has_it(each) for each in made if each["kind"] in _CHANGED_BY_HAND]
        )
        await self._run("replace", "-f", "-", given=text)

    async def take_labels_back(self, made: Sequence[Object]) -> None:
        """Takes labels off pods that their Deployments do not give them."""
        templates = [each["spec"]["template"]["metadata"]["labels"] for each in _deployments(made)]
        for pod in _items(await self._kubectl("get", "pods", "-o", "json")):
            labels: Mapping[str, str] = pod["metadata"].get("labels", {})
            for template in templates:
                if template.items() <= labels.items():
                    extra = [
                        name
                        for name in labels.keys() - template.keys()
                        if not _GIVEN_LABELS.fullmatch(name)
                    ]
                    if extra:
                        names = (f"{name}-" for name in extra)
                        await self._kubectl("label", "pod", pod["metadata"]["name"], *names)

    async def wait(self, made: Sequence[Object]) -> None:
        """Waits until all pods are those wanted now, and Linkerd has taken its routes."""
        timeout = f"--timeout={_ROLL_OUT_SECONDS:.0f}s"
        await asyncio.gather(
            *(
                self._kubectl("rollout", "status", f"deployment/{name}", timeout)
                for name in sorted(each["metadata"]["name"] for each in _deployments(made))
            )
        )
        if self._where.mesh == "linkerd":
            await self._kubectl("wait", *LINKERDS_ROUTES)

    def _as_helm_has_it(self, each: Object) -> Object:
        """An object of the release with what Helm adds to each, which is in no manifest."""
        metadata: Object = each["metadata"]
        namespace = metadata.get("namespace", self._where.namespace)
        helms = {
            "meta.helm.sh/release-name": RELEASE,
            "meta.helm.sh/release-namespace": self._where.namespace,
        }
        labels = {**_texts(metadata, "labels"), "app.kubernetes.io/managed-by": "Helm"}
        annotations = {**_texts(metadata, "annotations"), **helms}
        new: Object = {
            **metadata,
            "namespace": namespace,
            "labels": labels,
            "annotations": annotations,
        }
        return {**each, "metadata": new}

    def _key(self, each: Object) -> _Key:
        group, slash, _ = each["apiVersion"].partition("/")
        metadata = each["metadata"]
        namespace = metadata.get("namespace", self._where.namespace)
        return _Key(group if slash else "", each["kind"], namespace, metadata["name"])

    async def _kubectl(self, *arguments: str, given: str | None = None) -> str:
        namespace = self._where.namespace
        return await self._commands.run("kubectl", "-n", namespace, *arguments, given=given)

    async def _run(self, *arguments: str, given: str) -> str:
        """``kubectl`` with objects that say their own namespaces, of which -n must be none."""
        return await self._commands.run("kubectl", *arguments, given=given)

    async def _helm(self, *arguments: str, given: str | None = None) -> str:
        namespace = self._where.namespace
        return await self._commands.run("helm", "-n", namespace, *arguments, given=given)


def _texts(metadata: Object, name: str) -> dict[str, str]:
    """An object's labels or annotations, of which it may have none."""
    return metadata.get(name) or dict[str, str]()


def _items(said: str) -> list[Object]:
    """What ``kubectl get`` has found: a list, or of a file with one object that one."""
    found: Object = json.loads(said) if said.strip() else {"items": []}
    return found.get("items", [found])


def _is_loose(each: Object) -> bool:
    """Whether an object is neither made for another one nor the class's."""
    metadata = each["metadata"]
    return "ownerReferences" not in metadata and CLASS_LABEL not in (metadata.get("labels") or {})


def _deployments(made: Sequence[Object]) -> Iterator[Object]:
    return (each for each in made if each["kind"] == "Deployment")


def _is_of_a_lab(each: Object, workloads: set[str]) -> bool:
    """Whether a lab, a scenario or a student has made it: it is labelled, or stands in for one of
    the shop's workloads.
    """
    metadata = each["metadata"]
    if "ownerReferences" in metadata:
        return False
    labels: Mapping[str, str] = metadata.get("labels") or {}
    if LAB_LABEL in labels or _SCENARIO_LABEL in labels:
        return True
    spec: Object = each.get("spec") or {}
    stands_for: Mapping[str, str] = {
        "Service": spec.get("selector") or {},
        "Deployment": spec.get("template", {}).get("metadata", {}).get("labels") or {},
        "Pod": labels,
    }.get(each["kind"], {})
    return stands_for.get(_NAME_LABEL) in workloads


def _named(each: Object) -> Object:
    """As much of an object as it takes to delete it."""
    metadata = {name: each["metadata"][name] for name in ("name", "namespace")}
    return {"apiVersion": each["apiVersion"], "kind": each["kind"], "metadata": metadata}
