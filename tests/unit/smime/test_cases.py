"""Mails that were read wrongly, each for a kind (`cases/README.md`), with their right values."""

from __future__ import annotations

from email import message_from_bytes, policy
from pathlib import Path

import pytest

from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex, parse_certificate
from tests.unit.smime.mails import Opener

CASES = Path(__file__).parent / "cases"
VERDICTS = {
    "00-honest": "valid",
    "01-plain-spoof": "mismatch",
    "02-inner-from": "mismatch",
    "03-two-authors": "mismatch",
    "04-encoded-word": "mismatch",
    "22-genuine+part-in-preamble-by-CR": "partial",
    "23-boundary-twice-with-star": "invalid",
    "40-honest": "valid",
    "41-text-after-then-fake-end": "invalid",
}


@pytest.fixture(scope="module")
def identities() -> IdentityIndex:
    passwords = {"Alice.p12": "nss", "Bob.p12": "nss", "pgp-two-subkeys.asc": None}
    parsed = [
        (name, parse_certificate((CASES / "decrypt" / name).read_bytes(), password))
        for name, password in passwords.items()
    ]
    return IdentityIndex.load(
        (name, one.kind, one.certificate, one.private_key) for name, one in parsed
    )


@pytest.fixture
def case_opener(identities: IdentityIndex, tmp_path: Path) -> Opener:
    files = [(CASES / "forged" / name).read_bytes() for name in ("ca.pem", "boss.asc")]
    return Opener(identities, TrustStore.load(files[:1], files[1:], system=False), tmp_path)


@pytest.mark.promise("F2")
@pytest.mark.parametrize("name", VERDICTS)
def test_forged(name: str, case_opener: Opener) -> None:
    with case_opener((CASES / "forged" / f"{name}.eml").read_bytes()) as opened:
        assert opened.security.signature == VERDICTS[name], opened.security.reason
        if VERDICTS[name] == "valid":
            assert isinstance(opened.content, bytes)
            assert b"EVIL" not in opened.content
            assert b"Please pay invoice 4711" in opened.content
        else:
            assert opened.security.reason


def test_every_case_is_asked_for() -> None:
    assert {one.stem for one in (CASES / "forged").glob("*.eml")} == set(VERDICTS)


@pytest.mark.promise("F3")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("headerless-gcm", "Dear support,\n\nplease see order 4711.\n\nBye\n"),
        ("headerless-pgpmime", "Dear support,\n\nplease see order 4711.\n\nBye\n"),
        ("headerless-opaque-signed", "Dear support,\n\nplease see order 4711.\n\nBye\n"),
        ("headerless-cbc-colon", "Invoice: 4711\nTotal: 12\n"),
    ],
)
def test_a_content_without_header_comes_out_whole(
    name: str, text: str, case_opener: Opener
) -> None:
    with case_opener((CASES / "decrypt" / f"{name}.eml").read_bytes()) as opened:
        assert isinstance(opened.content, bytes), opened.security.reason
        mail = message_from_bytes(opened.content, policy=policy.default)
        assert mail.get_content_type() == "text/plain"
        assert mail.get_content().replace("\r\n", "\n") == text
        assert mail["subject"]
        if "signed" not in name:
            assert opened.security.status == "decrypted"
