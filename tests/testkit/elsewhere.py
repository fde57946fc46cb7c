"""Shops of which everything is called otherwise than in the files of mesh/, and what in manifests
still speaks of the files' own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tools.mesh.render import IngressGateway, Shop

ISTIO = Shop(
    namespace="student-07",
    host="student-07.example.org",
    gateway=IngressGateway("edge", {"istio": "edge"}, "edge-account"),
    trust_domain="td.example",
    stripe_namespace="student-07-stripe",
)
LINKERD = Shop(
    mesh="linkerd",
    namespace="student-07",
    host="student-07.example.org",
    gateway=IngressGateway("edge", {}, "edge-account"),
    stripe_namespace="student-07-stripe",
)


def strings(value: Any) -> Iterator[str]:
    """All texts in an object, names of fields among them."""
    if isinstance(value, dict):
        for key, each in value.items():  # pyright: ignore[reportUnknownVariableType]  parsed YAML
            yield key
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:  # pyright: ignore[reportUnknownVariableType]  parsed YAML
            yield from strings(each)
    elif isinstance(value, str):
        yield value


# What only the shop of the files is called, or its gateway. istiod stays in istio-system.
_OLD = (
    "ecommerce",
    "cluster.local/ns/",
    "ingressgateway",
    "shop-ingress",
    "traefik",
    ".stripe.svc",
)
_CLASS = {"gatewayClassName": "traefik"}  # whichever shop it is


def left_behind(objects: list[Any]) -> list[str]:
    """What still speaks of the shop of the files."""
    return [
        text
        for each in objects
        for text in strings(_without_class(each))
        if any(old in text for old in _OLD) or text == "istio-system"
    ]


def _without_class(each: Any) -> Any:
    spec = each.get("spec", {})
    if spec.items() >= _CLASS.items():
        return {**each, "spec": {key: spec[key] for key in spec if key not in _CLASS}}
    return each
