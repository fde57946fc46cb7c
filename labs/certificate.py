"""The certificate that somebody sees who comes in."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

from cryptography import x509

_PATIENCE_SECONDS = 10.0


async def shown_at(address: str, host: str) -> x509.Certificate | None:
    """What ``127.0.0.1:8443`` shows whoever asks for a host; None when no TLS comes about."""
    name, _, port = address.rpartition(":")
    # It is looked at, whoever vouches for it.
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
    """The hosts that a certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return found.value.get_values_for_type(x509.DNSName)


def is_for(certificate: x509.Certificate, host: str) -> bool:
    """Whether it is for a host, by its name or by ``*`` in the place of the first label."""
    return not {host, f"*.{host.partition('.')[2]}"}.isdisjoint(names_of(certificate))
