"""TLS over a connected socket: contexts, client certificates, and what a failed handshake means."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import tempfile
from functools import lru_cache

from shared.mailbox.failures import Refused, Unreachable
from shared.mailbox.net.connect import Deadline
from shared.mailbox.net.transcript import Transcript

# OpenSSL's X509_V_ERR_* numbers (x509_vfy.h).
_EXPIRED = {9, 10}  # not yet valid, expired
_WRONG_HOST = {62, 63, 64}
#: X509_V_ERR_PATHLEN_INVALID_FOR_NON_CA to X509_V_ERR_EXTENSIONS_REQUIRE_VERSION_3: what only
#: VERIFY_X509_STRICT looks at.
_NOT_STRICT = range(80, 94)


@lru_cache(maxsize=256)
def _context(verify: bool, ca_digest: bytes, ca_certificate: str | None) -> ssl.SSLContext:
    # Loading the system's authorities takes milliseconds and a megabyte: one context for all.
    context = ssl.create_default_context(cadata=ca_certificate)
    set_strictness(context, given=bool(ca_certificate))
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def set_strictness(context: ssl.SSLContext, *, given: bool) -> None:
    """The same checks of certificates on every Python. `given`: the CA was given by hand.

    From 3.13 on, Python's default context refuses certificates that break the letter of RFC 5280
    (VERIFY_X509_STRICT): CAs without key usage, certificates without key identifiers, as many a
    private CA makes them. Authorities of the system are held to it on every version; whoever gives
    a CA by hand knows it, and its certificates are taken as OpenSSL takes them otherwise.
    """
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if given:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    else:
        context.verify_flags |= ssl.VERIFY_X509_STRICT


def tls_context(
    verify: bool, ca_certificate: str | None, client_certificate: str | None = None
) -> ssl.SSLContext:
    """A context that trusts the system's authorities, or only the private one that is given.

    `client_certificate` is shown to servers that ask for one.
    """
    digest = hashlib.sha256((ca_certificate or "").encode()).digest()
    try:
        if client_certificate:
            fresh = _context.__wrapped__(verify, digest, ca_certificate)
            return identified(fresh, client_certificate)
        return _context(verify, digest, ca_certificate)
    except (ssl.SSLError, ValueError) as error:
        raise Refused(
            "The private CA certificate of this connection cannot be read.",
            step="tls",
            code="ca-unreadable",
            hint="Give the CA's certificate in PEM form.",
        ) from error


def identified(context: ssl.SSLContext, client_certificate: str) -> ssl.SSLContext:
    """Loads a client certificate (PEM with its private key) into a context of one's own.

    OpenSSL's binding takes files only: one in memory where the system has that, else one that
    nobody else may read and that is gone at once.
    """
    try:
        if hasattr(os, "memfd_create"):
            number = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
            with open(number, "wb") as file:
                file.write(client_certificate.encode())
                file.flush()
                context.load_cert_chain(f"/proc/self/fd/{number}")
        else:
            with tempfile.NamedTemporaryFile() as kept:
                kept.write(client_certificate.encode())
                kept.flush()
                context.load_cert_chain(kept.name)
    except (ssl.SSLError, ValueError) as error:
        raise Refused(
            "The client certificate of this connection cannot be used.",
            step="tls",
            code="client-certificate-unreadable",
            hint="Give certificate and private key that belong together, in PEM form.",
        ) from error
    return context


def client_certificate_refused(host: str, error: ssl.SSLError, *, given: bool) -> Refused | None:
    """The error where a server ended TLS over the client's certificate, else None.

    The words are OpenSSL's for the alerts of RFC 8446 section 6.2 (certificate_required,
    bad_certificate, unknown_ca, certificate_expired …).
    """
    reason = str(error.reason or "")
    if "ALERT" not in reason or not ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return None
    return Refused(
        f"{host} does not take the client certificate: {reason.replace('_', ' ').lower()}."
        if given
        else f"{host} asks for a client certificate, and this connection has none.",
        step="tls",
        code="client-certificate-refused",
        hint="Those who run the server say which authority must have signed it, and until when it "
        "must be valid.",
    )


_BROKEN_STARTTLS = (
    "The server offers STARTTLS and cannot do it: those who run it must mend its certificate or "
    "key. Until then try TLS on its own port."
)


def start_tls(
    sock: socket.socket,
    host: str,
    context: ssl.SSLContext,
    deadline: Deadline,
    log: Transcript,
    *,
    agreed: bool = False,
    shown: bool = False,
) -> ssl.SSLSocket:
    """TLS over a connected socket, with the server's certificate checked for `host`.

    `agreed`: the server has just said yes to STARTTLS. `shown`: `context` has a client certificate.
    """
    sock.settimeout(deadline.left())
    name = host.strip("[]")
    try:
        wrapped = context.wrap_socket(sock, server_hostname=name)
    except ssl.SSLCertVerificationError as error:
        raise _certificate_error(host, error) from error
    except TimeoutError as error:
        raise Unreachable(
            f"{host} did not finish the TLS handshake within {deadline.seconds:g} s.",
            step="tls",
            code="tls-failed",
            hint=_BROKEN_STARTTLS
            if agreed
            else "Perhaps this port does not start with TLS: try STARTTLS, or another port.",
        ) from error
    except (OSError, ValueError) as error:
        if isinstance(error, ssl.SSLError):
            refused = client_certificate_refused(host, error, given=shown)
            if refused is not None:
                raise refused from error
        plain = isinstance(error, ssl.SSLError) and error.reason in (
            "WRONG_VERSION_NUMBER",
            "RECORD_LAYER_FAILURE",
        )
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise Unreachable(
            f"{host} agreed to STARTTLS, and then TLS failed: {reason}."
            if agreed
            else f"TLS with {host} failed: {reason}.",
            step="tls",
            code="tls-failed",
            hint=_BROKEN_STARTTLS
            if agreed and plain
            else "This port does not start with TLS: try STARTTLS, or another port."
            if plain
            else "The server and Posthouse have no TLS version or cipher in common, or it is down.",
        ) from error
    cipher = wrapped.cipher()
    log.note(f"TLS: {wrapped.version()}, {cipher[0] if cipher else '?'}")
    return wrapped


def _certificate_error(host: str, error: ssl.SSLCertVerificationError) -> Unreachable | Refused:
    reason = error.verify_message.rstrip(".")
    if error.verify_code in _EXPIRED:
        # Heals as soon as the server gets a new one, so this is tried again.
        return Unreachable(
            f"The certificate of {host} is not valid at this time: {reason}.",
            step="tls",
            code="certificate-expired",
            hint="Those who run the server must renew its certificate.",
        )
    if error.verify_code in _WRONG_HOST:
        return Refused(
            f"The certificate of the server is not for {host}: {reason}.",
            step="tls",
            code="certificate-wrong-host",
            hint="Use the host name that the certificate is made for.",
        )
    if error.verify_code in _NOT_STRICT:
        return Refused(
            f"A certificate of {host} breaks the rules for certificates: {reason}.",
            step="tls",
            code="certificate-untrusted",
            hint="The private CA makes certificates without an extension that RFC 5280 requires "
            f"({reason}): renew them with it, or give the CA's certificate in the connection, "
            "which then takes them as they are.",
        )
    return Refused(
        f"The certificate of {host} is not trusted: {reason}.",
        step="tls",
        code="certificate-untrusted",
        hint="If the server has a private CA, give the CA's certificate in the connection: under "
        "More, private certificate authority; in commands and the API, ca_certificate.",
    )
