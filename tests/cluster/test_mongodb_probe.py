"""What MongoDB's probes ask, and which answers they take: the chart's command, run on this machine
against a server of the test.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress

import bson
import pytest

from tests.testkit.cluster import render

_HEADER_BYTES = 16
_OP_MSG = 2013
_KUBELETS_PATIENCE_SECONDS = 5.0


def command_of_the_probes() -> list[str]:
    """The one that all three have."""
    (mongodb,) = (
        each
        for each in render()
        if (each["kind"], each["metadata"]["name"]) == ("StatefulSet", "mongodb")
    )
    (container,) = mongodb["spec"]["template"]["spec"]["containers"]
    commands = [
        container[probe]["exec"]["command"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    ]
    assert commands[0] == commands[1] == commands[2]
    return commands[0]


def run_probe(port: int) -> subprocess.CompletedProcess[bytes]:
    """The command, at another port, within the time that the kubelet gives it."""
    *shell, script = command_of_the_probes()
    return subprocess.run(
        [*shell, script.replace("27017", str(port))],
        env={"PATH": "/usr/bin:/bin", "HOSTNAME": "127.0.0.1"},
        capture_output=True,
        timeout=_KUBELETS_PATIENCE_SECONDS,
        check=False,
    )


def message(document: Mapping[str, object]) -> bytes:
    """An answer of MongoDB: OP_MSG with one document."""
    body = struct.pack("<IB", 0, 0) + bson.encode(document)
    return struct.pack("<iiii", _HEADER_BYTES + len(body), 7, 1, _OP_MSG) + body


def is_well(answer: bytes) -> tuple[bool, bytes]:
    """Whether the probe takes that answer (nothing is silence), and what it asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                length, _, _, code = struct.unpack("<iiii", connection.recv(_HEADER_BYTES))
                assert code == _OP_MSG
                body = connection.recv(length - _HEADER_BYTES)
                asked.append(body[5:])
                connection.sendall(answer)
                with suppress(ConnectionResetError):  # it goes without having read all
                    connection.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        done = run_probe(port)
        thread.join()
    return done.returncode == 0, asked[0]


@pytest.mark.parametrize(
    ("answer", "well"),
    [
        (message({"ok": 1.0}), True),
        (message({"ok": 1.0, "operationTime": 1}), True),
        (message({"ok": 0.0, "errmsg": "the server shuts down", "code": 91}), False),
        (b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n", False),
        (b"", False),
    ],
    ids=["well", "member of a set", "refuses", "no MongoDB", "silent"],
)
def test_only_a_mongodb_that_answers_is_well(answer: bytes, well: bool) -> None:
    assert is_well(answer) == (well, bson.encode({"ping": 1, "$db": "admin"}))


def test_a_port_that_nobody_listens_at_is_not_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert run_probe(port).returncode != 0
