"""Logging in with a client certificate (EXTERNAL), at a real Dovecot that asks for one."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    load_pem_private_key,
    pkcs12,
)

from shared.connections import Connection, Mode, TransportSecurity
from shared.mailbox.base import Login, Mailbox
from shared.mailbox.doctor.examine import examine
from shared.mailbox.doctor.reporting import report
from shared.mailbox.failures import StepFailed
from shared.mailbox.open import open_mailbox
from shared.microsoft_certificates import pem_of
from tests.rig.mails import mail
from tests.rig.stack import Stack
from tests.servers.certificates import Authority, ServerIdentity
from tests.servers.dovecot import Dovecot

pytestmark = pytest.mark.promise("M3")
_EXTERNAL = "passdb {\n driver = static\n args = nopassword=y\n mechanisms = external\n}"


def asking_for_certificates(authority: Authority) -> str:
    return "\n".join(
        [
            f"ssl_ca = <{authority.certificate}",
            "ssl_verify_client_cert = yes",
            "ssl_require_crl = no",
            "auth_ssl_require_client_cert = yes",
            "auth_ssl_username_from_cert = yes",
            _EXTERNAL,
        ]
    )


@pytest.fixture(scope="module")
def strict_dovecot(authority: Authority) -> Iterator[Dovecot]:
    """A server that lets nobody log in without a certificate of the authority."""
    with Dovecot(
        tls=authority.issue("localhost", "127.0.0.1"),
        mechanisms=("plain", "login", "external"),
        extra=asking_for_certificates(authority),
        lmtp=True,
    ) as server:
        yield server


@pytest.fixture
def user(strict_dovecot: Dovecot) -> Iterator[str]:
    name = f"user-{uuid.uuid4().hex[:8]}"
    yield name
    strict_dovecot.forget_user(name)


def identity_of(identity: ServerIdentity) -> str:
    return identity.certificate.read_text() + identity.key.read_text()


def to(server: Dovecot, authority: Authority, user: str, mode: Mode, security: str) -> Connection:
    tls = security == "tls"
    ports = (server.imaps_port, server.imap_port, server.pop3s_port, server.pop3_port)
    return Connection(
        name="by certificate",
        mode=mode,
        host="localhost",
        port=ports[(0 if tls else 1) + (0 if mode is Mode.IMAP else 2)],
        security=TransportSecurity(security),
        ca_certificate=authority.pem,
        username=user,
        has_client_certificate=True,
        timeout_ms=5000,
    )


def opened(connection: Connection, login: Login) -> Mailbox:
    return open_mailbox(connection, login, read_timeout_s=10)


def refused(connection: Connection, login: Login) -> Any:
    with pytest.raises(StepFailed) as caught:
        opened(connection, login)
    return caught.value


@pytest.mark.parametrize("security", ["tls", "starttls"])
@pytest.mark.parametrize("mode", [Mode.IMAP, Mode.POP3])
def test_a_certificate_alone_opens_the_mailbox(
    strict_dovecot: Dovecot, authority: Authority, user: str, mode: Mode, security: str
) -> None:
    pem = identity_of(authority.issue(user, client=True))
    mailbox = opened(
        to(strict_dovecot, authority, user, mode, security), Login(user, client_certificate=pem)
    )
    try:
        assert mailbox.open("").total == 0
        assert "PRIVATE KEY" not in "\n".join(mailbox.transcript)
    finally:
        mailbox.close()


@pytest.mark.parametrize("mode", [Mode.IMAP, Mode.POP3])
def test_a_server_may_want_certificate_and_password(
    strict_dovecot: Dovecot, authority: Authority, user: str, mode: Mode
) -> None:
    connection = to(strict_dovecot, authority, user, mode, "tls")
    pem = identity_of(authority.issue(user, client=True))
    opened(connection, Login(user, "secret", client_certificate=pem)).close()
    assert refused(connection, Login(user, "secret")).code in (
        "login-refused",
        "client-certificate-refused",
    )


def test_a_certificate_of_somebody_else_opens_nothing_of_ours(
    strict_dovecot: Dovecot, authority: Authority, user: str
) -> None:
    pem = identity_of(authority.issue(f"{user}-other", client=True))
    connection = to(strict_dovecot, authority, user, Mode.IMAP, "tls")
    assert refused(connection, Login(user, client_certificate=pem)).step == "login"


@pytest.mark.parametrize("mode", [Mode.IMAP, Mode.POP3])
def test_a_certificate_that_the_server_does_not_trust_is_told(
    strict_dovecot: Dovecot,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
    user: str,
    mode: Mode,
) -> None:
    foreign = Authority(tmp_path_factory.mktemp("foreign"), "Somebody else")
    pem = identity_of(foreign.issue(user, client=True))
    error = refused(
        to(strict_dovecot, authority, user, mode, "tls"), Login(user, client_certificate=pem)
    )
    assert error.code in ("client-certificate-refused", "login-refused")
    assert error.hint


def test_a_server_without_external_is_told_and_no_empty_password_is_sent(
    dovecot: Dovecot, authority: Authority, mail_user: str
) -> None:
    pem = identity_of(authority.issue(mail_user, client=True))
    for mode in (Mode.IMAP, Mode.POP3):
        connection = to(dovecot, authority, mail_user, mode, "tls")
        error = refused(connection, Login(mail_user, client_certificate=pem))
        assert error.code == "login-method-missing"
        assert "password" in error.hint


def test_the_doctor_logs_in_by_it(strict_dovecot: Dovecot, authority: Authority, user: str) -> None:
    strict_dovecot_connection = to(strict_dovecot, authority, user, Mode.IMAP, "tls")
    pem = identity_of(authority.issue(user, client=True))

    def again(wanted: Connection, *, mechanism: str = "", fresh: bool = False) -> Mailbox:
        return opened(wanted, Login(user, client_certificate=pem, mechanism=mechanism))

    found = report(examine(strict_dovecot_connection, again, seconds=60))
    assert found.healthy, found.sentences
    assert "AUTHENTICATE EXTERNAL" in {row.form for row in found.rows}


@pytest.mark.parametrize("mode", ["imap", "pop3"])
def test_a_whole_run_logs_in_with_the_sealed_certificate(
    strict_dovecot: Dovecot,
    authority: Authority,
    user: str,
    mode: str,
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    strict_dovecot.deliver_lmtp([user], [mail(number, 300) for number in range(3)])
    pem = identity_of(authority.issue(user, client=True))
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    connection = to(strict_dovecot, authority, user, Mode(mode), "tls")
    stack.add_connection(
        password="",
        name=user,
        mode=mode,
        host="localhost",
        port=connection.port,
        ca_certificate=authority.pem,
        username=user,
        client_certificate=pem,
    )
    stack.wait_settled(3)
    (row,) = stack.query("SELECT client_certificate, password FROM connection")
    assert row[1] is None
    assert b"PRIVATE KEY" not in bytes(row[0])


def test_pfx_with_its_password_is_taken(authority: Authority) -> None:
    identity = authority.issue("erika", client=True)
    key = load_pem_private_key(identity.key.read_bytes(), None)
    certificate = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    sealed = pkcs12.serialize_key_and_certificates(
        b"erika",
        key,  # type: ignore[arg-type]
        certificate,
        None,
        BestAvailableEncryption(b"pfx-password"),
    )
    pem = pem_of("pfx-password:" + base64.b64encode(sealed).decode())
    assert "PRIVATE KEY" in pem
    assert "BEGIN CERTIFICATE" in pem
