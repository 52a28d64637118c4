"""What an administrator gives over the API is what the decryptor believes."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.decryptor.keyring import Keyring
from shared.certificates import IdentityIndex
from shared.certificates.senders import parse_senders
from shared.storage import certificates, sender_keys
from shared.storage.pool import Database
from shared.vault import Vault, new_key
from tests.unit.smime.mails import HEADER, Opener
from tests.unit.smime.mails import multipart_signed as smime_signed
from tests.unit.smime.pki import Pki, rsa_key
from tests.unit.smime.test_openpgp import Person, multipart_signed


@pytest.mark.promise("F3")
def test_the_decryptor_believes_senders_and_authorities_that_were_given(
    database_url: str, tmp_path: Path
) -> None:
    pki = Pki(tmp_path)
    alice = pki.holder("alice", rsa_key())
    person = Person("alice@example.org")
    vault = Vault.from_settings([new_key()])

    def verdicts(database: Database) -> list[str]:
        trust = Keyring(database, vault, system_trust=False).trust()
        found: list[str] = []
        for signed in (multipart_signed(person), smime_signed(alice.cert, alice.key, "-nocerts")):
            with Opener(IdentityIndex(), trust, tmp_path)(HEADER + signed) as opened:
                found.append(opened.security.signature)
        return found

    with Database(database_url, size=2) as database:
        assert verdicts(database) == ["untrusted", "untrusted"]
        for data in (str(person.public).encode(), alice.cert.read_bytes()):
            [sender] = parse_senders(data)
            with database.transaction() as session:
                sender_keys.insert_sender_key(
                    session,
                    kind=sender.kind,
                    name="Alice",
                    subject=sender.subject,
                    emails=sender.emails,
                    fingerprint=sender.fingerprint,
                    not_after=sender.not_after,
                    certificate=sender.certificate,
                )
        assert verdicts(database) == ["valid", "valid"]
        with database.transaction() as session:
            assert certificates.trust_anchors(session) == []
