"""What is called `valid` is what other readers show: the same author, the same text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex
from tests.rig.agreeing import disagreement
from tests.rig.attacks import ATTACKS, attack
from tests.rig.forging import BOSS, MALLORY, Forger
from tests.servers.readers import ForeignReaders

pytestmark = pytest.mark.promise("F2")
CASES = Path(__file__).parents[2] / "unit" / "smime" / "cases" / "forged"


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


@pytest.mark.parametrize("path", sorted(CASES.glob("*.eml")), ids=lambda path: path.stem)
def test_forged_cases(path: Path, readers: ForeignReaders, tmp_path: Path) -> None:
    authority, boss = [(CASES / name).read_bytes() for name in ("ca.pem", "boss.asc")]
    trust = TrustStore.load([authority], [boss], system=False)
    security, problem = disagreement(path.read_bytes(), IdentityIndex(()), trust, readers, tmp_path)
    assert not problem, security
    assert (security.signature == "valid") is path.stem.endswith("honest")
