"""Certificates of cameras: which are trusted, and why one is rejected.

FFmpeg checks the certificate itself, with the same file, each time it connects. It reports only
that the connection failed, so each handshake is made here first, where the reason is known.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgevid.media.logins import ANSWER_S, deadline
from edgevid.media.unavailable import Reason, Unavailable

STORES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS
)
"""The system's trusted issuers. The one that PyAV's wheels look for exists on Fedora only."""
SAVE = "save its certificate and name the file with tls_ca"
_WHY = {
    9: "its certificate is not valid yet; check the clocks of the camera and of this machine",
    10: "its certificate has expired; renew it on the camera",
    18: f"its certificate is self-signed; {SAVE}",
    19: f"the issuer of its certificate is not trusted; {SAVE}",
    20: f"the issuer of its certificate is not trusted; {SAVE}",
    21: f"the issuer of its certificate is not trusted; {SAVE}",
    62: f"its certificate is for another host; use the name in it, or {SAVE}",
    64: f"its certificate is for another host; use the name in it, or {SAVE}",
}
"""OpenSSL's error number -> message."""
_OTHER_HOST = {62, 64}


def trusted_file(own: Path | None) -> str:
    """The file of trusted certificates.

    Args:
        own: The file of this camera; None: the system's.

    Returns:
        Its path.

    Raises:
        Unavailable: There is none.
    """
    if own is not None:
        if not os.access(own, os.R_OK):
            raise Unavailable(Reason.CERTIFICATE, f"tls_ca {own} cannot be read; check its name")
        return str(own)
    given = os.environ.get("SSL_CERT_FILE")
    found = next(filter(os.path.isfile, filter(None, (given, *STORES))), None)
    if found is None:
        why = "this machine has no trusted issuers; install ca-certificates, or give tls_ca"
        raise Unavailable(Reason.CERTIFICATE, why)
    return found


def shake_hands(
    connect: Any, host: str, own: Path | None, *, insecure: bool
) -> tuple[socket.socket, dict[str, str]]:
    """Make the TLS handshake as FFmpeg will.

    Args:
        connect: Opens a connection to the host, a `socket.socket`.
        host: The name or address that the certificate must be for. A certificate that is itself in
            ``own`` is this camera's, whatever names are in it.
        own: The file with the camera's certificate or its issuer's; None: the system's issuers.
        insecure: Check nothing.

    Returns:
        The connection, and FFmpeg's options for the same checks.

    Raises:
        OSError: The connection fails.
        Unavailable: The certificate is not trusted.
    """
    if insecure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return _wrapped(context, connect(), host), {"tls_verify": "0"}
    file = trusted_file(own)
    options = {"tls_verify": "1", "ca_file": file}
    try:
        context = ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError):
        why = f"tls_ca {file} holds no certificate; use a file in the PEM format"
        raise Unavailable(Reason.CERTIFICATE, why) from None
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        return _wrapped(context, connect(), host), options
    except ssl.SSLCertVerificationError as error:
        if own is None or error.verify_code not in _OTHER_HOST:
            raise _untrusted(error) from None
        failed = error
    context.check_hostname = False
    try:
        peer = _wrapped(context, connect(), host)
    except ssl.SSLCertVerificationError as error:
        raise _untrusted(error) from None
    name = _name_in(peer)
    if peer.getpeercert(binary_form=True) in set(_certificates(Path(file))) and name:
        return peer, {**options, "verifyhost": name}
    peer.close()
    raise _untrusted(failed)


def _wrapped(context: ssl.SSLContext, peer: socket.socket, host: str) -> ssl.SSLSocket:
    try:
        with deadline(peer, ANSWER_S):
            return context.wrap_socket(peer, server_hostname=host)
    except BaseException as error:
        peer.close()
        if isinstance(error, ValueError) and not isinstance(error, ssl.SSLError):
            raise Unavailable(Reason.UNREACHABLE, "its host name is not valid for TLS") from None
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLCertVerificationError):
            reason = error.reason or error.strerror
            why = f"the TLS handshake failed ({reason}); check scheme and port"
            raise Unavailable(Reason.REFUSED, why) from None
        raise


def _untrusted(error: ssl.SSLCertVerificationError) -> Unavailable:
    why = _WHY.get(error.verify_code, f"its certificate is not trusted ({error.verify_message})")
    return Unavailable(Reason.CERTIFICATE, why)


def _name_in(peer: ssl.SSLSocket) -> str:
    """A name for which FFmpeg accepts the peer's certificate; empty if it has none."""
    found: Any = peer.getpeercert() or {}
    for _, name in found.get("subjectAltName", ()):
        return str(name)
    for part in found.get("subject", ()):
        for kind, name in part:
            if kind == "commonName":
                return str(name)
    return ""


def _certificates(file: Path) -> Iterator[bytes]:
    text = file.read_text(errors="replace")
    end = ssl.PEM_FOOTER
    for part in text.split(end)[:-1]:
        with suppress(ValueError):
            yield ssl.PEM_cert_to_DER_cert(part[part.index(ssl.PEM_HEADER) :] + end)
