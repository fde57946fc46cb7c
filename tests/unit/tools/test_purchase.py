"""What `helm test` runs buys through a gateway whose certificate nobody vouches for."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tools.certificate import self_signed

ROOT = Path(__file__).parents[3]
HOST = "student-07.example.com"
ORDER = {"order_id": "o-1", "state": "confirmed", "total_cents": 1200, "currency": "EUR"}


@contextmanager
def gateway(folder: Path, hosts: set[str]) -> Generator[str]:
    """``HOST:PORT`` of one that takes orders; notes for which hosts, in TLS and in HTTP."""

    class Gateway(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            hosts.add(self.headers["host"])
            is_registration = self.path == "/api/auth/register"
            answer = json.dumps({"access_token": "a"} if is_registration else ORDER).encode()
            self.send_response(201)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as it is called
            """Says nothing."""

    def note(_socket: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        hosts.add(name or "")

    file = folder / "certificate.pem"
    file.write_bytes(self_signed(HOST).certificate_and_key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    tls.sni_callback = note
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_it_asks_the_gateway_for_the_shops_host(tmp_path: Path) -> None:
    hosts: set[str] = set()
    with gateway(tmp_path, hosts) as address:
        done = subprocess.run(
            [sys.executable, str(ROOT / "helm/files/purchase.py"), f"https://{HOST}", "30"],
            env={**os.environ, "GATEWAY": address},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout.startswith("order o-1 confirmed: 12.00 EUR"), done.stderr
    assert hosts == {HOST}
