"""A certificate for trying the shop over HTTPS: prints the Secret that the gateway reads.

``python tools/certificate.py istio | kubectl apply -f -``. It vouches for itself: browsers ask
first. For another shop than the one in ``ecommerce``: ``--namespace`` and ``--host``.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import json
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAMESPACE = "ecommerce"
_VALID = datetime.timedelta(days=90)


def host_of(namespace: str) -> str:
    """The host of the shop in a namespace, where none is given: two shops never share one."""
    return f"{namespace}.example.com"


HOST = host_of(NAMESPACE)


class Certificate(NamedTuple):
    """Both as PEM."""

    certificate: bytes
    key: bytes

    @property
    def certificate_and_key(self) -> bytes:
        """One file with both."""
        return self.certificate + self.key


def self_signed(host: str) -> Certificate:
    """A certificate for one host, which vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Certificate(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


# Where each mesh's gateway reads its certificate: base/gateway.yaml.
SECRET_NAMESPACE = {"istio": "istio-system", "linkerd": "shop-ingress"}


def secret(certificate: Certificate, namespace: str, *, shop: str = NAMESPACE) -> str:
    """The Secret that the gateway in a namespace reads for the shop in the namespace `shop`."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": f"{shop}-tls-secret", "namespace": namespace},
            "data": {
                "tls.crt": base64.b64encode(certificate.certificate).decode(),
                "tls.key": base64.b64encode(certificate.key).decode(),
            },
        }
    )


def main() -> None:
    """Prints the Secret."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mesh", choices=tuple(SECRET_NAMESPACE))
    parser.add_argument("--namespace", default=NAMESPACE, help="the shop's")
    parser.add_argument("--host", help="NAMESPACE.example.com, if it is not given")
    parser.add_argument("--gateway-namespace", help="where the gateway reads it")
    given = parser.parse_args()
    namespace = given.gateway_namespace or SECRET_NAMESPACE[given.mesh]
    host = given.host or host_of(given.namespace)
    print(secret(self_signed(host), namespace, shop=given.namespace))


if __name__ == "__main__":
    main()
