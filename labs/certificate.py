"""The certificate of a TLS server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

from cryptography import x509

_PATIENCE_SECONDS = 10.0


async def shown_at(address: str, host: str) -> x509.Certificate | None:
    """Returns the certificate that an address, ``127.0.0.1:8443``, has for a host; None without a
    TLS connection within ten seconds.
    """
    name, _, port = address.rpartition(":")
    # Any certificate is of interest, also a self-signed one.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            _, writer = await asyncio.open_connection(
                name, int(port), ssl=context, server_hostname=host
            )
    except (OSError, TimeoutError):
        return None
    encrypted: ssl.SSLObject = writer.get_extra_info("ssl_object")
    certificate = encrypted.getpeercert(binary_form=True)
    writer.transport.abort()
    return x509.load_der_x509_certificate(certificate) if certificate else None


def names_of(certificate: x509.Certificate) -> Sequence[str]:
    """Returns the DNS names of a certificate."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return found.value.get_values_for_type(x509.DNSName)


def is_for(certificate: x509.Certificate, host: str) -> bool:
    """Returns whether a certificate has a host's name, or ``*`` in place of its first label."""
    return not {host, f"*.{host.partition('.')[2]}"}.isdisjoint(names_of(certificate))
