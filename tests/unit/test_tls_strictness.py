"""Certificates of mail servers get the same verdict on every Python."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.mailbox.failures import Refused
from shared.mailbox.net import tls
from shared.mailbox.net.connect import Deadline
from shared.mailbox.net.https import trust
from shared.mailbox.net.tls import tls_context
from shared.mailbox.net.transcript import Transcript

Serve = Callable[[x509.Certificate, ec.EllipticCurvePrivateKey], int]


def made(
    *, key_usage: bool, key_ids: bool, critical: bool = True
) -> tuple[x509.Certificate, x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A private CA and the certificate of a server: with what RFC 5280 requires, or without."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Private CA")])
    host = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    ca = builder(name, ca_key.public_key()).add_extension(
        x509.BasicConstraints(True, None), critical
    )
    server = builder(host, key.public_key()).add_extension(
        x509.SubjectAlternativeName([x509.DNSName("localhost")]), False
    )
    if key_usage:
        signs = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        ca = ca.add_extension(signs, True)
    if key_ids:
        ca = ca.add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), False)
        server = server.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False
        )
    return ca.sign(ca_key, hashes.SHA256()), server.sign(ca_key, hashes.SHA256()), key


KINDS = {
    "as RFC 5280 has it": ({"key_usage": True, "key_ids": True}, None),
    "no key usage": ({"key_usage": False, "key_ids": True}, "key usage"),
    "no key identifiers": ({"key_usage": True, "key_ids": False}, "Key Identifier"),
    "not critical": ({"key_usage": True, "key_ids": True, "critical": False}, "critical"),
}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A TLS server on loopback that shakes hands and goes."""
    listeners: list[socket.socket] = []

    def start(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> int:
        file = tmp_path / "server.pem"
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def answer() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                try:
                    context.wrap_socket(sock, server_side=True).close()
                except OSError:
                    sock.close()

        threading.Thread(target=answer, daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    for listener in listeners:
        listener.close()


def shake_hands(port: int, context: ssl.SSLContext) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        tls.start_tls(sock, "localhost", context, Deadline(10), Transcript()).close()


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize("kind", KINDS)
def test_a_ca_given_by_hand_counts_as_it_is(kind: str, serve: Serve) -> None:
    ca, server, key = made(**KINDS[kind][0])
    port = serve(server, key)
    shake_hands(port, tls_context(True, pem(ca)))
    shake_hands(port, trust(pem(ca)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_ca_of_the_system_has_to_keep_the_rules_and_the_hint_names_the_one(
    kind: str, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, missing = KINDS[kind]
    ca, server, key = made(**options)
    port = serve(server, key)
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(pem(ca))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    tls._context.cache_clear()
    try:
        context = tls_context(True, None)
    finally:
        tls._context.cache_clear()
    if missing is None:
        shake_hands(port, context)
        return
    with pytest.raises(Refused) as caught:
        shake_hands(port, context)
    assert caught.value.code == "certificate-untrusted"
    assert caught.value.hint
    assert missing.lower() in caught.value.hint.lower()
    assert "give the CA's certificate" in caught.value.hint


def test_a_ca_given_by_hand_is_still_checked(serve: Serve) -> None:
    _, server, key = made(key_usage=True, key_ids=True)
    other, _, _ = made(key_usage=True, key_ids=True)
    with pytest.raises(Refused):
        shake_hands(serve(server, key), tls_context(True, pem(other)))
