"""What is called `valid` is what other readers show: the same author, the same text."""

from __future__ import annotations

from collections.abc import Iterator
from encodings import aliases
from pathlib import Path
from random import Random
from unicodedata import category

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from webencodings.labels import LABELS

from services.decryptor.decoding_ambiguity import ALIKE, is_shown_alike
from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex
from tests.rig.forged_mails import BOSS, MALLORY, Forger
from tests.rig.honest_mails import HONEST
from tests.rig.reader_agreement import disagreement
from tests.rig.signature_attacks import ATTACKS, attack
from tests.servers.readers import ForeignReaders

pytestmark = pytest.mark.promise("F2")
CASES = Path(__file__).parents[2] / "unit" / "smime" / "cases" / "forged"

#: How the labels of character sets begin whose characters are one octet each.
ONE_OCTET = ("iso-8859", "iso8859", "iso_8859", "windows-", "cp", "latin", "koi8", "tis-620", "us-")


@pytest.fixture(scope="module")
def readers() -> Iterator[ForeignReaders]:
    with ForeignReaders() as started:
        yield started


@pytest.fixture(scope="module")
def forger() -> Forger:
    return Forger()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spool")


def test_there_are_at_least_three_other_readers(readers: ForeignReaders) -> None:
    seen = readers.read(b"From: a@x.example\r\nContent-Type: text/plain\r\n\r\nHello\r\n")
    assert {"email", "mailparser", "postal-mime"} <= set(seen)
    assert {(one.authors, one.text.strip()) for one in seen.values()} == {
        (("a@x.example",), "Hello")
    }


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(random=st.randoms(use_true_random=True))
def test_generated_mails(
    random: Random,
    forger: Forger,
    readers: ForeignReaders,
    folder: Path,
) -> None:
    mail = forger.mail(random)
    security, problem = disagreement(mail, forger.identities, forger.trust, readers, folder)
    assert not problem, f"{security}\n{mail!r}"


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(name: str, forger: Forger, readers: ForeignReaders, tmp_path: Path) -> None:
    """The kinds of "Johnny, you are fired!" (USENIX Security 2019), and our own."""
    mail, allowed = attack(name, forger)
    security, problem = disagreement(mail, forger.identities, forger.trust, readers, tmp_path)
    assert not problem, f"{security}\n{mail!r}"
    assert security.signature in allowed, security.reason


@pytest.mark.parametrize("who", [BOSS, MALLORY])
def test_honest_mails_are_valid(
    who: str, forger: Forger, readers: ForeignReaders, tmp_path: Path
) -> None:
    text = b"Content-Type: text/plain; charset=utf-8\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
    header = b"From: Some Body <" + who.encode() + b">\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
    for body in (
        forger.opaque(who, text),
        forger.multipart(who, text),
        forger.multipart(who, text, openpgp=True),
        forger.encrypted(text, who),
        forger.encrypted(forger.multipart(who, text)),
    ):
        security, problem = disagreement(
            header + body, forger.identities, forger.trust, readers, tmp_path
        )
        assert security.signature == "valid", security.reason
        assert not problem


@pytest.mark.parametrize("name", HONEST)
def test_mails_of_common_programs_are_valid(
    name: str, forger: Forger, readers: ForeignReaders, tmp_path: Path
) -> None:
    raw = HONEST[name](forger)
    security, problem = disagreement(raw, forger.identities, forger.trust, readers, tmp_path)
    assert security.signature == "valid", security.reason
    assert not problem


@pytest.mark.parametrize("path", sorted(CASES.glob("*.eml")), ids=lambda path: path.stem)
def test_forged_cases(path: Path, readers: ForeignReaders, tmp_path: Path) -> None:
    authority, boss = [(CASES / name).read_bytes() for name in ("ca.pem", "boss.asc")]
    trust = TrustStore.load([authority], [boss], system=False)
    security, problem = disagreement(path.read_bytes(), IdentityIndex(()), trust, readers, tmp_path)
    assert not problem, security
    assert (security.signature == "valid") is path.stem.endswith("honest")


def test_every_character_of_the_sets_that_count_is_shown_alike(readers: ForeignReaders) -> None:
    """All but those of gb18030 beyond the first plane of Unicode."""
    second = (*range(0x40, 0x7F), *range(0x80, 0xFF))
    pairs = [bytes((a, b)) for a in range(0x81, 0xFF) for b in second]
    high = range(0xA1, 0xFF)
    longer = {
        "euc-jp": [bytes((0x8F, a, b)) for a in high for b in high],
        "gb18030": [chr(one).encode("gb18030") for one in range(0x10000) if one >> 11 != 27],
    }
    head = b"From: a@x.example\r\nContent-Transfer-Encoding: 8bit\r\n"
    for label in (one for one in ALIKE if one not in ("utf-8", "iso-2022-jp")):
        shown: list[bytes] = []
        ones = [bytes((octet,)) for octet in range(0x21, 0x100)]
        more = [] if label.startswith(ONE_OCTET) else pairs + longer.get(label, [])
        for unit in ones + more:
            try:
                text = unit.decode(label)
            except UnicodeDecodeError:
                continue
            if len(text) != 1 or text.isspace() or category(text) == "Cc":
                continue
            if is_shown_alike(text, label, unit):
                shown.append(unit)
        assert len(shown) >= 90, label
        kind = b"Content-Type: text/plain; charset=" + label.encode() + b"\r\n\r\n"
        for start in range(0, len(shown), 4000):
            units = shown[start : start + 4000]
            seen = readers.read(head + kind + b"\r\n".join(units) + b"\r\n")
            expected = [unit.decode(label) for unit in units]
            for reader, one in seen.items():
                wrong = [
                    pair
                    for pair in zip(one.text.split(), expected, strict=True)
                    if pair[0] != pair[1]
                ]
                assert not wrong, (label, reader)


def signed_by_the_boss(forger: Forger, content: bytes, author: str = BOSS) -> bytes:
    header = f"From: {author}\r\nSubject: x\r\nMIME-Version: 1.0\r\n".encode()
    return header + forger.multipart(BOSS, content)


def test_every_label_of_a_character_set(
    forger: Forger, readers: ForeignReaders, tmp_path: Path
) -> None:
    """A label that one reader knows and another does not."""
    found: list[str] = []
    for label in sorted({*aliases.aliases, *aliases.aliases.values(), *LABELS}):
        for text in ("Pay \\100 ~ {now}", "Grüße", "Плати", "支払う"):
            try:
                octets = text.encode(label)
            except (LookupError, UnicodeError):
                octets = text.encode()
            content = f"Content-Type: text/plain; charset={label}\r\n".encode()
            content += b"Content-Transfer-Encoding: 8bit\r\n\r\n" + octets + b"\r\n"
            mail = signed_by_the_boss(forger, content)
            _, problem = disagreement(mail, forger.identities, forger.trust, readers, tmp_path)
            if problem:
                found.append(f"{label}: {problem}")
    assert not found


@pytest.mark.parametrize(
    "author",
    [
        "\N{KELVIN SIGN}@corp.example",
        "b\N{LATIN SMALL LETTER LONG S}s@corp.example",
        "The\x85Boss <boss@corp.example>",
        "The\N{LINE SEPARATOR}Boss <boss@corp.example>",
        "=?utf-16?b?bQBAAHgA?= <boss@corp.example>",
        "=?cp037?b?lIGTk5aZqA==?= <boss@corp.example>",
        "=?rot13?q?znyybel=40rivy.rknzcyr?= <boss@corp.example>",
        "=?hz-gb-2312?q?~{!!~}?= <boss@corp.example>",
        '"=?utf-8?q?=22_=3Cmallory=40evil.example=3E=2C?=" <boss@corp.example>',
        '"x <mallory@evil.example>" <boss@corp.example>',
        "=?utf-8?b?eA0KRnJvbTogbWFsbG9yeUBldmlsLmV4YW1wbGU=?= <boss@corp.example>",
        "Boss (=?utf-8?b?IikgPG1hbGxvcnlAZXZpbC5leGFtcGxlPg==?=) <boss@corp.example>",
        "=?utf-8?q?mallory=40?= =?utf-8?q?evil.example?= <boss@corp.example>",
        "mallory(at)evil.example <boss@corp.example>",
        "boss@corp.example;",
        "*boss* `boss` <boss@corp.example>",
        "The Boss J.<boss@corp.example>",
    ],
)
def test_odd_authors(author: str, forger: Forger, readers: ForeignReaders, tmp_path: Path) -> None:
    mail = signed_by_the_boss(forger, b"Content-Type: text/plain\r\n\r\nPay\r\n", author)
    security, problem = disagreement(mail, forger.identities, forger.trust, readers, tmp_path)
    assert not problem, security
