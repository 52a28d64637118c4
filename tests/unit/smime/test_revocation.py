"""What is known of revocation, in the verdict of a mail."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from services.decryptor.revocation import Revocations
from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex
from shared.mail_security import Security
from shared.revocations import Mode, Revocation
from shared.storage.revocations import KnownRevocation
from tests.servers.openssl_ca import Issued, OpensslCa
from tests.unit.smime.mails import HEADER, Opener, multipart_signed

DAY = timedelta(days=1)
NOW = datetime.now(UTC)
GOOD = Revocation("good", "crl", NOW - DAY, NOW + DAY)
REVOKED = Revocation("revoked", "crl", NOW - DAY, NOW + DAY, "keyCompromise", NOW - DAY)


class Mailbox:
    """Signed mails of alice, whose authority stands below one that is trusted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = OpensslCa(folder / "root")
        self.middle = OpensslCa(folder / "middle", "Example Issuing", self.root)
        self.alice = self.middle.issue("alice@example.org")

    def open(self, raw: bytes, revocations: Revocations, *roots: x509.Certificate) -> Security:
        trust = TrustStore(roots or [self.root.certificate], revocations=revocations)
        with Opener(IdentityIndex(), trust, self.folder)(raw) as opened:
            return opened.security

    def mail(self, signer: Issued | None = None) -> bytes:
        one = signer or self.alice
        return HEADER + multipart_signed(one.cert, one.key, "-certfile", self.middle.cert)


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Mailbox:
    return Mailbox(tmp_path_factory.mktemp("mailbox"))


def known(*found: tuple[x509.Certificate, Revocation], mode: Mode = "background") -> Revocations:
    rows: Iterable[KnownRevocation] = [
        KnownRevocation(certificate.fingerprint(hashes.SHA256()), NOW, one)
        for certificate, one in found
    ]
    return Revocations(rows, mode=mode)


def test_a_revoked_signer_is_never_valid(mailbox: Mailbox) -> None:
    """Whatever time of signing is claimed, as whoever has a stolen key claims what he likes."""
    alice, middle = mailbox.alice.certificate, mailbox.middle.certificate
    raw = mailbox.mail()
    before = mailbox.open(raw, known((alice, GOOD), (middle, GOOD)))
    assert before.signature == "valid"
    assert before.revocation is not None
    assert (before.revocation.status, before.revocation.as_of) == ("good", GOOD.as_of)
    later = REVOKED._replace(revoked_at=NOW + DAY)
    for found in (REVOKED, later, REVOKED._replace(reason="certificateHold")):
        after = mailbox.open(raw, known((alice, found), (middle, GOOD)))
        assert (after.signature, after.revocation) == ("revoked", found)
        assert "was revoked on" in after.reason


def test_a_revoked_authority_on_the_way_counts_as_well(mailbox: Mailbox) -> None:
    rows = ((mailbox.alice.certificate, GOOD), (mailbox.middle.certificate, REVOKED))
    assert mailbox.open(mailbox.mail(), known(*rows)).signature == "revoked"


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (None, "not-checked"),
        (Revocation("unknown", reason="The host does not answer."), "unknown"),
        (GOOD._replace(next_update=NOW - timedelta(hours=1)), "unknown"),
    ],
    ids=["nobody-asked", "no-answer", "out-of-date"],
)
def test_what_is_not_known_lowers_no_verdict_unless_it_is_required(
    mailbox: Mailbox, found: Revocation | None, status: str
) -> None:
    alice, middle = mailbox.alice.certificate, mailbox.middle.certificate
    rows = [(middle, GOOD), *([(alice, found)] if found else [])]
    told = mailbox.open(mailbox.mail(), known(*rows))
    assert told.revocation is not None
    assert (told.signature, told.revocation.status) == ("valid", status)
    strict = mailbox.open(mailbox.mail(), known(*rows, mode="require"))
    assert strict.signature == "untrusted"
    assert "not revoked" in strict.reason
    rows = [(middle, GOOD), (alice, GOOD)]
    assert mailbox.open(mailbox.mail(), known(*rows, mode="require")).signature == "valid"


def test_nobody_is_asked_about_who_is_not_believed(mailbox: Mailbox) -> None:
    """Addresses of certificates are the choice of strangers until an authority vouches for them."""
    raw = mailbox.mail()
    stranger = OpensslCa(mailbox.folder / "stranger", "Stranger")
    asked = known()
    assert mailbox.open(raw, asked, stranger.certificate).signature == "untrusted"
    assert mailbox.open(raw.replace(b"Gr", b"gr", 1), asked).signature == "invalid"
    assert asked.taken() == []
    assert mailbox.open(raw, asked).signature == "valid"
    mailbox.open(raw, asked)
    noted = [x509.load_der_x509_certificate(one.certificate) for one in asked.taken()]
    assert noted == [mailbox.alice.certificate, mailbox.middle.certificate]
    assert asked.taken() == []


def test_nothing_is_noted_where_it_is_switched_off(mailbox: Mailbox) -> None:
    alice = mailbox.alice.certificate
    off = known((alice, REVOKED), mode="off")
    told = mailbox.open(mailbox.mail(), off)
    assert (told.signature, told.revocation) == ("valid", Revocation())
    assert off.taken() == []


def test_a_sender_that_the_administrator_knows_needs_no_authority(mailbox: Mailbox) -> None:
    asked = known((mailbox.alice.certificate, REVOKED))
    trust = TrustStore(senders=[mailbox.alice.certificate], revocations=asked)
    with Opener(IdentityIndex(), trust, mailbox.folder)(mailbox.mail()) as opened:
        assert (opened.security.signature, opened.security.revocation) == ("valid", None)
    assert asked.taken() == []


def test_the_ledger_keeps_what_was_known(mailbox: Mailbox) -> None:
    security = mailbox.open(mailbox.mail(), known((mailbox.alice.certificate, REVOKED)))
    kept = Security.from_json(security.to_json())
    assert kept.revocation is not None
    assert security.revocation is not None
    assert kept.revocation == security.revocation._replace(next_update=None)
