"""Why a signature that is right does not count: old digests and keys, carriage returns, forms."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.decryptor.openpgp.refused_signatures import has_bare_cr
from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex
from tests.unit.smime.gnupg import GnuPG
from tests.unit.smime.mails import ENTITY, HEADER, Opener

pytestmark = pytest.mark.promise("F2")
SIGNER = "alice@example.org"
#: For a short DSA key GnuPG would take SHA-1.
SHA256 = ("--enable-dsa2", "--digest-algo", "SHA256")
PLAIN = b"Content-Type: text/plain; charset=utf-8\r\n\r\n"


@pytest.fixture(scope="module", params=["rsa2048", "dsa1024"])
def owner(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GnuPG]:
    gnupg = GnuPG(tmp_path_factory.mktemp("gnupg"))
    gnupg("--quick-gen-key", f"Alice <{SIGNER}>", request.param, "sign,cert", "never")
    yield gnupg
    gnupg.close()


@pytest.fixture
def opens(owner: GnuPG, tmp_path_factory: pytest.TempPathFactory) -> Opener:
    trust = TrustStore.load(senders=[owner("--export", SIGNER)], system=False)
    return Opener(IdentityIndex(()), trust, tmp_path_factory.mktemp("spool"))


def detached(owner: GnuPG, *options: str, content: bytes = ENTITY) -> bytes:
    made = owner("--armor", "--detach-sign", *options, data=content)
    return (
        HEADER + b'Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n' + content
        + b"\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\n" + made + b"\r\n--s--\r\n"
    )  # fmt: skip


def in_the_text(owner: GnuPG, *options: str, text: bytes = b"aus K\n- dashed\n") -> bytes:
    return HEADER + PLAIN + owner("--clearsign", *options, data=text)


@pytest.mark.parametrize("digest", ["RIPEMD160", "SHA1"])
def test_a_signature_by_an_old_digest_is_right_and_named(
    digest: str, owner: GnuPG, opens: Opener
) -> None:
    for raw in (
        detached(owner, "--digest-algo", digest),
        in_the_text(owner, "--digest-algo", digest),
    ):
        with opens(raw) as opened:
            assert opened.security.signature == "untrusted", opened.security
            assert "The signature uses" in opened.security.reason
        changed = raw.replace(b"aus K", b"aus k", 1)
        assert changed != raw
        with opens(changed) as opened:
            assert opened.security.signature == "invalid", opened.security


def test_carriage_returns_in_a_signed_text_are_named(owner: GnuPG, opens: Opener) -> None:
    """Sequoia ends a line there and GnuPG does not, so each refuses what the other signs."""
    content = PLAIN + b"Pay\r4711\r\n"
    for raw in (
        detached(owner, *SHA256, "--textmode", content=content),
        in_the_text(owner, *SHA256, text=b"Pay\r4711\n"),
    ):
        with opens(raw) as opened:
            assert opened.security.signature == "untrusted", opened.security
            assert "carriage returns" in opened.security.reason


def test_a_text_whose_lines_are_not_escaped_is_named(owner: GnuPG, opens: Opener) -> None:
    with opens(in_the_text(owner, "--not-dash-escaped")) as opened:
        assert opened.security.signature == "invalid", opened.security
        assert "NotDashEscaped" in opened.security.reason


@pytest.mark.parametrize(
    ("pieces", "found"),
    [
        ([], False),
        ([b"a\r\nb", b"\r\n"], False),
        ([b"a\r", b"\nb"], False),
        ([b"a\r", b"", b"\nb"], False),
        ([b"a\r", b"b"], True),
        ([b"a\rb"], True),
        ([b"a\r\r\n"], True),
        ([b"a", b"\r"], True),
    ],
)
def test_a_carriage_return_alone(pieces: list[bytes], found: bool) -> None:
    assert has_bare_cr(pieces) is found
