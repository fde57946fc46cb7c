"""A small model of what Linkerd's policy resources mean, for the requests of the shop.

A request belongs to the rule that fits it best, of all routes on the Server of its port: the one
with the longest path that fits, then one that names the method; of equals the first one, by age and
name, and a rule without matches fits everything. Whoever an AuthorizationPolicy of that route or of
the Server names may send it. Nobody may reach a port that has no Server, since the pods' default
policy is `deny`. (https://linkerd.io/2/reference/authorization-policy/, and linkerd2-proxy's
linkerd/http/route.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import yaml

KUBELET = "kubelet"
_POLICY = "policy.linkerd.io"

Object = Mapping[str, Any]


class Fit(NamedTuple):
    """How closely a rule fits; the greatest wins."""

    path: tuple[int, int]
    names_method: bool


class LinkerdRules:
    """The resources of some files.

    :ivar objects: all of them.
    """

    def __init__(self, *files: Path) -> None:
        self.objects: list[Object] = [
            document
            for file in files
            for document in yaml.load_all(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        ]

    def of_kind(self, *kinds: str) -> Iterator[Object]:
        """All resources of some kinds."""
        return (each for each in self.objects if each["kind"] in kinds)

    @cached_property
    def _by_name(self) -> Mapping[tuple[str, str], Object]:
        return {(each["kind"], each["metadata"]["name"]): each for each in self.objects}

    def server_of(self, workload: str, port_name: str) -> Object | None:
        """What guards a port of a workload's pods."""
        found = [
            server
            for server in self.of_kind("Server")
            if server["spec"]["podSelector"]["matchLabels"].items() <= _labels(workload)
            and server["spec"]["port"] == port_name
        ]
        assert len(found) < 2, f"of two Servers for one port Linkerd takes the older one: {found}"
        return found[0] if found else None

    def passes(
        self, identity: str, workload: str, port_name: str, method: str = "", path: str = ""
    ) -> bool:
        """Whether a caller may send a request.

        :param identity: ``NAMESPACE/SERVICE_ACCOUNT``, or KUBELET for who has no certificate.
        """
        server = self.server_of(workload, port_name)
        if server is None:
            return False
        judged = [("Server", server["metadata"]["name"])]
        if server["spec"]["proxyProtocol"] != "opaque":
            route = self._route(server, method, path)
            if route is None:
                return False
            judged.append((route["kind"], route["metadata"]["name"]))
        return any(
            fnmatchcase(identity, pattern)
            for kind, name in judged
            for pattern in self._allowed(kind, name)
        )

    def _route(self, server: Object, method: str, path: str) -> Object | None:
        kind = "GRPCRoute" if server["spec"]["proxyProtocol"] == "gRPC" else "HTTPRoute"
        best: tuple[Fit, Object] | None = None
        for route in sorted(self.of_kind(kind), key=lambda each: each["metadata"]["name"]):
            parents = [
                (parent.get("group"), parent.get("kind"), parent["name"])
                for parent in route["spec"]["parentRefs"]
            ]
            if (_POLICY, "Server", server["metadata"]["name"]) not in parents:
                continue
            for rule in route["spec"]["rules"]:
                fit = _best_fit(rule.get("matches", ()), kind, method, path)
                if fit is not None and (best is None or fit > best[0]):
                    best = fit, route
        return best[1] if best else None

    def _allowed(self, kind: str, name: str) -> Iterator[str]:
        for policy in self.of_kind("AuthorizationPolicy"):
            target = policy["spec"]["targetRef"]
            if (target["kind"], target["name"]) != (kind, name):
                continue
            # All of the references would have to hold; here each policy has one.
            (reference,) = policy["spec"]["requiredAuthenticationRefs"]
            authentication = self._by_name[reference["kind"], reference["name"]]
            if reference["kind"] == "NetworkAuthentication":
                yield KUBELET
                continue
            for identity in authentication["spec"]["identityRefs"]:
                if identity["kind"] == "Namespace":
                    yield f"{identity['name']}/*"
                    continue
                own = authentication["metadata"]["namespace"]
                yield f"{identity.get('namespace', own)}/{identity['name']}"


def _labels(workload: str) -> Set[tuple[str, str]]:
    """Those of a pod of the chart's that Servers select by."""
    labels = {"app.kubernetes.io/name": workload, "app.kubernetes.io/part-of": "meshmart"}
    return labels.items()


def _best_fit(matches: Sequence[Object], kind: str, method: str, path: str) -> Fit | None:
    if not matches:
        return Fit((0, 0) if kind == "GRPCRoute" else (1, 0), names_method=False)
    if kind == "GRPCRoute":
        fits = (_rpc_fit(match["method"], path) for match in matches)
    else:
        fits = (_http_fit(match, method, path) for match in matches)
    return max((fit for fit in fits if fit is not None), default=None)


def _rpc_fit(wanted: Object, path: str) -> Fit | None:
    service, _, rpc = path.removeprefix("/").partition("/")
    if (service, rpc) != (wanted["service"], wanted["method"]):
        return None
    return Fit((len(service), len(rpc)), names_method=False)


def _http_fit(match: Object, method: str, path: str) -> Fit | None:
    assert match.keys() <= {"method", "path"}, match
    if method != match.get("method", method):
        return None
    value = match["path"]["value"]
    match match["path"]["type"]:
        case "Exact":
            length = len(value) if path == value else None
        case "RegularExpression":
            length = len(path) if re.fullmatch(value, path) else None
        case kind:
            assert (kind, value) == ("PathPrefix", "/"), match
            length = 1
    return None if length is None else Fit((length, 0), names_method="method" in match)
