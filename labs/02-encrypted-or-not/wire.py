"""Reads along on the wire of the pod in which it runs: ``python -c WIRE SECONDS WORD``.

Needs the right to open a raw socket (NET_RAW). Looks at what comes to the service from outside of
the pod, before the pod's own proxy sees it, and prints as JSON

    {"encrypted": how many pieces of TLS came, "readable": the lines that have WORD in them}
"""

import json
import socket
import struct
import sys
import time

_EVERY_PROTOCOL = 0x0003  # ETH_P_ALL, in linux/if_ether.h
_TCP = 6
_IPV6_HEADER_BYTES = 40
_PACKET_BYTES = 65_535
_LOOK_SECONDS = 0.2
# The service's port, and that by which Linkerd's proxies reach each other.
_PORTS = {3000, 4143}
# What a piece of TLS begins with: a handshake or data, of version 3.x (RFC 8446 §5.1).
_TLS = (b"\x16\x03", b"\x17\x03")


def data_of(packet: bytes) -> tuple[int, bytes]:
    """The port to which an IP packet goes by TCP, and what it carries; 0 for any other packet."""
    version = packet[0] >> 4
    if version == 4 and packet[9] == _TCP:
        tcp = packet[(packet[0] & 15) * 4 :]
    elif version == 6 and packet[6] == _TCP:
        tcp = packet[_IPV6_HEADER_BYTES:]
    else:
        return 0, b""
    (port,) = struct.unpack("!H", tcp[2:4])
    return port, tcp[(tcp[12] >> 4) * 4 :]


def main(seconds: float, word: bytes) -> None:
    encrypted = 0
    readable: set[str] = set()
    until = time.monotonic() + seconds
    kind = socket.SOCK_DGRAM  # without what is below IP
    with socket.socket(socket.AF_PACKET, kind, socket.htons(_EVERY_PROTOCOL)) as wire:
        wire.settimeout(_LOOK_SECONDS)
        while time.monotonic() < until:
            try:
                packet, (interface, *_) = wire.recvfrom(_PACKET_BYTES)
            except TimeoutError:
                continue
            port, data = data_of(packet)
            if interface == "lo" or port not in _PORTS:
                continue
            encrypted += data.startswith(_TLS)
            lines = data.split(b"\r\n")
            readable |= {line.decode("ascii", "replace") for line in lines if word in line}
    print(json.dumps({"encrypted": encrypted, "readable": sorted(readable)}))


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2].encode())
