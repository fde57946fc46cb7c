"""Lab 02: what its check says of a wire that can be read, and of plain text that is served."""

from __future__ import annotations

import json
import re
import runpy
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from labs.errors import CommandFailed
from labs.lab import LABS
from labs.meshed import Probed
from labs.visitor import Answer
from tests.unit.labs.fake import PretendedShop, findings_of
from tools.mesh.render import MeshName

_LINE = "GET /api/products?limit=1&q=word HTTP/1.1"
_HUNG_UP = "ServerDisconnectedError('Server disconnected')"
_NO_WAY = "ConnectionTimeoutError('Connection timeout to host http://user-service:3000/metrics')"


@dataclass
class Shop02(PretendedShop):
    """A shop in a mesh, somebody at its gateway, and an outsider in the cluster.

    :ivar plain: what comes of the outsider's request to a service in plain text, where it is not
        what the mesh does with such requests.
    :ivar detail: of its failed requests.
    """

    encrypted: int = 30
    readable: Sequence[str] = ()
    catalogue: int = 200
    plain: Mapping[str, str] = field(default_factory=dict[str, str])
    detail: str = _HUNG_UP
    has_wire: bool = True
    has_outsider: bool = True

    async def send(self, method: str, path: str) -> Answer:
        return Answer(self.catalogue, None, None)

    async def kubectl(self, *arguments: str) -> str:
        if not self.has_wire:
            raise CommandFailed("container wire is not valid for pod product-service")
        return json.dumps({"encrypted": self.encrypted, "readable": self.readable})

    async def probe(
        self, pod: str, container: str, requests: Sequence[Mapping[str, Any]]
    ) -> list[Probed]:
        if not self.has_outsider:
            raise CommandFailed('pods "outsider" not found')
        refusal = "failed" if self.mesh == "istio" else "denied"
        return [self._probed(request, refusal) for request in requests]

    def _probed(self, request: Mapping[str, Any], refusal: str) -> Probed:
        if "database" in request:
            outcome = self.plain.get("mongodb", "failed")
            return Probed(cast("Any", outcome), "ServerSelectionTimeoutError('closed')", "")
        target = request.get("url") or request["target"]
        outcome = next((each for name, each in self.plain.items() if name in target), refusal)
        return Probed(cast("Any", outcome), self.detail if outcome == "failed" else "", "")


@pytest.mark.parametrize("mesh", ["istio", "linkerd"])
async def test_what_is_right_is_told_right(mesh: MeshName) -> None:
    told = Shop02(mesh)

    findings = await findings_of("02", told)

    assert [each.is_right for each in findings] == [True] * 5, findings
    assert told.cancelled == 1, "what a check has bought is for sale again"


_BROKEN = [
    (Shop02(readable=[_LINE]), "can be read on the network: GET /api/products"),
    (Shop02(encrypted=0), "no traffic to product was seen"),
    (Shop02(has_wire=False), "no traffic to product was seen"),
    (Shop02(plain={"mongodb": "answered"}), "is answered in plain text by mongodb"),
    (Shop02("linkerd", plain={"inventory": "answered"}), "answered in plain text by inventory"),
    (Shop02(plain={"user": "denied"}), "refused, but only after user has read"),
    (Shop02(detail=_NO_WAY), "does not reach .*user"),
    (Shop02("linkerd", plain={"user": "failed"}, detail=_NO_WAY), "does not reach user"),
    (Shop02(has_outsider=False), "the pod outsider does not run"),
    (Shop02(catalogue=503), "searches of the catalogue are answered .* times 503"),
    (Shop02(order=503), r"a customer cannot buy \(the answer is 503\)"),
]


@pytest.mark.parametrize(("told", "sentence"), _BROKEN, ids=map(str, range(len(_BROKEN))))
async def test_what_is_wrong_is_told_wrong(told: Shop02, sentence: str) -> None:
    wrong = [each for each in await findings_of("02", told) if not each.is_right]

    assert any(re.search(sentence, each.what) for each in wrong), wrong
    assert all(each.look for each in wrong), "it says where to look"


@pytest.mark.parametrize("version", [4, 6])
def test_the_wires_reader_finds_what_a_packet_carries(version: int) -> None:
    data_of = runpy.run_path(str(LABS / "02-encrypted-or-not/wire.py"))["data_of"]
    ports = struct.pack("!HH", 40_000, 3000)
    tcp = ports + bytes(8) + bytes([8 << 4]) + bytes(7) + bytes(12) + b"GET / HTTP/1.1\r\n"
    version_4 = bytes([0x45]) + bytes(8) + bytes([6]) + bytes(10)
    version_6 = bytes([0x60]) + bytes(5) + bytes([6]) + bytes(33)

    packet = (version_4 if version == 4 else version_6) + tcp
    assert data_of(packet) == (3000, b"GET / HTTP/1.1\r\n")

    datagram = packet.replace(bytes([6]), bytes([17]), 1)
    assert data_of(datagram) == (0, b"")
