"""Encrypted content is found where it is: opened where it stands alone, else named."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from pysequoia import SignatureMode, Tsk
from pysequoia import encrypt as pgp_encrypt
from pysequoia import sign as pgp_sign

from services.decryptor.opening import MailLimits, may_be_secured
from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex
from shared.mail.region import region
from shared.mail.structure import entity
from tests.unit.smime.mails import (
    ENTITY,
    HEADER,
    TEXT,
    Opener,
    encrypt,
    pkcs7_entity,
    sign,
)
from tests.unit.smime.pki import Holder
from tests.unit.smime.test_openpgp import Person, multipart_encrypted, multipart_signed
from tests.unit.smime.test_openpgp_keys import opener as key_opener

pytestmark = pytest.mark.promise("F3")
EMPTY = b"Content-Type: text/plain; charset=us-ascii\r\n\r\n\r\n"
FOOTER = b"Content-Type: text/plain\r\n\r\n-- \r\nsent by a list\r\n"


def mixed(*parts: bytes, kind: bytes = b"mixed", boundary: bytes = b"m") -> bytes:
    return (
        b"Content-Type: multipart/" + kind + b"; boundary=" + boundary + b"\r\n\r\n"
        + b"".join(b"--" + boundary + b"\r\n" + one + b"\r\n" for one in parts)
        + b"--" + boundary + b"--\r\n"
    )  # fmt: skip


@pytest.fixture(scope="module")
def bob() -> Person:
    return Person("bob@example.org")


@pytest.fixture
def pgp(bob: Person, tmp_path: Path) -> Opener:
    identities = IdentityIndex.load([bob.stored("bob")])  # type: ignore[list-item]
    return Opener(identities, TrustStore(), tmp_path)


def rearranged(bob: Person) -> dict[str, bytes]:
    """What is left of PGP/MIME behind servers that know it not."""
    message = pgp_encrypt(ENTITY, [bob.public])
    version = b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
    data = b"Content-Type: application/octet-stream; name=encrypted.asc\r\n\r\n" + message
    encoded = (
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
        b"Content-Disposition: attachment; filename=msg.asc\r\n\r\n" + base64.encodebytes(message)
    )
    return {
        "Exchange": mixed(EMPTY, version, data),
        "Exchange, base64": mixed(
            EMPTY, version.replace(b"\r\n\r\n", b"\r\nContent-Disposition: attachment\r\n\r\n"),
            encoded,
        ),
        "without the text": mixed(version, data),
        "the text behind": mixed(version, data, EMPTY),
        "an empty text in quoted-printable": mixed(
            EMPTY.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"),
            version, data,
        ),
        "an empty text in base64": mixed(
            EMPTY.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\nDQo="),
            version, data,
        ),
        "a text of no-break spaces": mixed(
            b"Content-Type: text/plain; charset=utf-8\r\n\r\n\xc2\xa0\r\n\xc2\xa0", version, data
        ),
        "an empty text of HTML": mixed(
            b"Content-Type: text/html; charset=us-ascii\r\n\r\n<!DOCTYPE html><html><head>\r\n"
            b'<meta http-equiv="Content-Type" content="text/html; charset=us-ascii"></head>\r\n'
            b'<body><p class="MsoNormal">&nbsp;</p><br/></body></html>', version, data,
        ),
        "a multipart of one part": mixed(multipart_encrypted(message)),
        "an empty text, then PGP/MIME": mixed(EMPTY, multipart_encrypted(message)),
        "a multipart in a multipart": mixed(mixed(multipart_encrypted(message), boundary=b"n")),
        "one part, lines of OpenPGP": mixed(b"Content-Type: text/plain\r\n\r\n" + message),
        "lines of OpenPGP in a file": mixed(data),
        "the whole mail is the file": data,
    }  # fmt: skip


@pytest.mark.parametrize("name", rearranged(Person("x@example.org")))
def test_rearranged_openpgp_is_opened(name: str, pgp: Opener, bob: Person) -> None:
    raw = HEADER + rearranged(bob)[name]
    assert may_be_secured(entity(region(raw)), raw)
    with pgp(raw) as opened:
        assert opened.security.status == "decrypted", opened.security.reason
        assert isinstance(opened.content, bytes)
        assert TEXT in opened.content
        assert b"sent by a list" not in opened.content


def test_a_multipart_of_one_smime_part_is_opened(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    sealed = pkcs7_entity(encrypt("-aes-256-gcm", holders["rsa"].cert))
    alice = holders["alice"]
    signed = pkcs7_entity(sign(alice.cert, alice.key), "signed-data")
    gateway = b"Content-Type: multipart/mixed; boundary=m\r\n\r\nfrom a gateway\r\n--m\r\n"
    for raw in (
        mixed(sealed),
        mixed(sealed, kind=b"related"),
        mixed(EMPTY, sealed),
        mixed(sealed, EMPTY, kind=b"alternative"),
        mixed(EMPTY, mixed(sealed, boundary=b"n")),
        gateway + sealed,
    ):
        with opener(HEADER + raw) as opened:
            assert opened.security.status == "decrypted", opened.security.reason
            assert opened.content == HEADER + ENTITY
    with opener(HEADER + mixed(signed)) as opened:
        assert opened.security.signature == "valid", opened.security.reason
        assert opened.content == HEADER + ENTITY


def beside(holders: dict[str, Holder], bob: Person) -> dict[str, bytes]:
    sealed = pkcs7_entity(encrypt("-aes256", holders["rsa"].cert))
    message = pgp_encrypt(ENTITY, [bob.public])
    octets = sealed.replace(
        b"application/pkcs7-mime; smime-type=enveloped-data;", b"application/octet-stream;"
    )
    lines = b"Content-Type: text/plain\r\n\r\n" + message
    nothing = b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\nnothing"
    return {
        "a footer": mixed(sealed, FOOTER),
        "a disclaimer before": mixed(FOOTER, sealed),
        "html": mixed(sealed, b"Content-Type: text/html\r\n\r\n<p>confidential</p>"),
        "deep": mixed(FOOTER, mixed(sealed, kind=b"related", boundary=b"n")),
        "the media type lost": mixed(octets, FOOTER),
        "its name in Q": mixed(
            FOOTER, octets.replace(b"smime.p7m", b"=?iso-8859-1?Q?smime=2Ep7m?=")
        ),
        "its name in B": mixed(
            FOOTER, octets.replace(b"smime.p7m", b"=?UTF-8?B?c21pbWUucDdt?=")
        ),
        "PGP/MIME and a footer": mixed(multipart_encrypted(message), FOOTER),
        "rearranged PGP/MIME and a text": mixed(
            FOOTER, b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n",
            b"Content-Type: application/octet-stream\r\n\r\n" + message,
        ),
        "rearranged PGP/MIME and a picture": mixed(
            b"Content-Type: text/html\r\n\r\n<p><img alt=Pay src=x></p>",
            b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n",
            b"Content-Type: application/octet-stream\r\n\r\n" + message,
        ),
        "rearranged PGP/MIME and base64 that goes on": mixed(
            b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\nDQo=UGF5",
            b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n",
            b"Content-Type: application/octet-stream\r\n\r\n" + message,
        ),
        "lines of OpenPGP and a footer": mixed(lines, FOOTER),
        "lines of OpenPGP in base64": mixed(
            b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            + base64.encodebytes(message), FOOTER,
        ),
        "lines of OpenPGP in html": mixed(
            b"Content-Type: text/html\r\n\r\n<pre>" + message + b"</pre>", FOOTER
        ),
        "lines of OpenPGP in markdown": mixed(
            b"Content-Type: text/markdown\r\n\r\nHello\r\n" + message, FOOTER
        ),
        "an armour without its type": mixed(
            FOOTER, b"Content-Type: application/octet-stream\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(message),
        ),
        "the media type of RFC 7193": mixed(
            sealed.replace(b"application/pkcs7-mime", b"application/cms"), FOOTER
        ),
        "in a forwarded mail": mixed(
            FOOTER, b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n" + sealed
        ),
        "an unreadable structure": mixed(nothing, FOOTER),
    }  # fmt: skip


BESIDE = (
    "a footer", "a disclaimer before", "html", "deep", "the media type lost",
    "its name in Q", "its name in B",
    "PGP/MIME and a footer", "rearranged PGP/MIME and a text",
    "rearranged PGP/MIME and a picture", "rearranged PGP/MIME and base64 that goes on",
    "lines of OpenPGP and a footer",
    "lines of OpenPGP in base64", "lines of OpenPGP in html", "lines of OpenPGP in markdown",
    "an armour without its type", "the media type of RFC 7193", "in a forwarded mail",
    "an unreadable structure",
)  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_encrypted_beside_other_parts_is_named(
    name: str, opener: Opener, holders: dict[str, Holder], bob: Person
) -> None:
    cases = beside(holders, bob)
    assert tuple(cases) == BESIDE
    raw = HEADER + cases[name]
    assert may_be_secured(entity(region(raw.partition(b"\r\n\r\n")[0])), raw)
    with opener(raw) as opened:
        assert opened.security.encrypted
        assert opened.security.status == "unsupported"
        assert "other parts" in opened.security.reason
        assert opened.content is None, "it is never merged with what lies beside it"
        assert [one.kind for one in opened.security.layers] == ["encryption"]


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Type: application/pkcs7-mime",
        b"Content-Disposition: attachment; filename=a.P7M",
        b"Content-Type: application/PGP",
        b"Content-Disposition: attachment; filename=a.pgp",
        b"Content-Disposition: attachment; filename=a.gpg",
        b"Content-Type: application/ms-tnef",
        b"Content-Disposition: attachment; filename=WinMail.dat",
        b"Content-Type: application/cms",
        b"Content-Disposition: attachment; filename==?x?Q?a=2Ep7m?=",
        b"Content-Disposition: attachment; filename==?x?B?c21pbWUucDdt?=",
        b"-----BEGIN PGP MESSAGE-----",
        b"LS0tLS1CRUdJTiBQR1AgTUVTU0FHRS0tLS0t",
    ],
)
def test_a_mark_is_found_wherever_it_lies_among_lines_of_base64(line: bytes) -> None:
    """Those lines are looked through in pieces, and passed over where nothing else is in them."""
    whole = entity(region(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"))
    behind = b"\r\n" + b"A" * 40_000
    lost = [
        size
        for size in (*range(7, 40_000, 997), *range(8192 - 90, 8192 + 10), *range(16_380, 16_390))
        if not may_be_secured(whole, b"A" * size + b"\r\n" + line + behind)
    ]
    assert lost == []
    assert not may_be_secured(
        whole, b"A" * 9000 + b"\r\nContent-Type: image/gif; name=a.b" + behind
    )


@pytest.mark.parametrize("shape", ["html", "html in base64", "enriched", "a forwarded mail alone"])
def test_what_is_encrypted_in_a_mail_of_one_part_is_named(
    shape: str, pgp: Opener, bob: Person
) -> None:
    """A program in the browser writes into HTML; a gateway sends a mail as a content."""
    message = pgp_encrypt(ENTITY, [bob.public])
    text = b"<p>Hello</p><pre>" + message + b"</pre>\r\n"
    raw = (
        HEADER
        + {
            "html": b"Content-Type: text/html\r\n\r\n" + text,
            "html in base64": b"Content-Type: text/html\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(text),
            "enriched": b"Content-Type: text/enriched\r\n\r\n" + text,
            "a forwarded mail alone": b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n"
            + multipart_encrypted(message),
        }[shape]
    )
    assert may_be_secured(entity(region(raw.partition(b"\r\n\r\n")[0])), raw)
    with pgp(raw) as opened:
        assert opened.security.encrypted
        assert opened.security.status == "unsupported"
        assert "not opened" in opened.security.reason
        assert opened.content is None


def test_lines_whose_hyphens_are_quoted(pgp: Opener, bob: Person, alice: Person) -> None:
    """KMail writes the first hyphen of a line as `=2D` in quoted-printable."""
    known = [str(alice.public).encode()]
    pgp.trust = TrustStore.load(senders=known, system=False)
    kind = (
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    )
    signed = pgp_sign(alice.secret.signer(), b"Hello\n", mode=SignatureMode.CLEAR)
    for message, status, word in (
        (pgp_encrypt(b"Hello\n", [bob.public]), "decrypted", "none"),
        (signed, "none", "valid"),
    ):
        lines = message.replace(b"=", b"=3D").replace(b"\n-", b"\n=2D").replace(b"-", b"=2D", 1)
        raw = HEADER + kind + lines
        assert may_be_secured(entity(region(raw)), raw)
        with pgp(raw) as opened:
            assert opened.security.status == status, opened.security
            assert opened.security.signature == word, opened.security
            assert isinstance(opened.content, bytes)
            assert opened.content.endswith(b"\r\n\r\nHello\n")
        with pgp(HEADER + mixed(kind + lines, FOOTER)) as opened:
            assert opened.security.encrypted == (status == "decrypted")
            assert opened.security.signature in ("none", "partial")


def test_an_ordinary_html_text_and_a_forwarded_mail_have_nothing_to_tell(pgp: Opener) -> None:
    for whole in (
        b"Content-Type: text/html\r\n\r\n<p>-----BEGIN PGP PUBLIC KEY BLOCK-----</p>",
        b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\npgp and .p7m\r\n",
    ):
        with pgp(HEADER + whole) as opened:
            assert not opened.security.encrypted
            assert opened.content is None


@pytest.mark.parametrize("kind", ["detached", "opaque", "lines"])
def test_what_is_signed_beside_other_parts_is_partial(
    kind: str, pgp: Opener, opener: Opener, bob: Person, holders: dict[str, Holder]
) -> None:
    alice = holders["alice"]
    if kind == "opaque":
        used, part = opener, pkcs7_entity(sign(alice.cert, alice.key), "signed-data")
    else:
        used, part = pgp, multipart_signed(bob)
        used.trust = TrustStore.load(senders=[str(bob.public).encode()], system=False)
        if kind == "lines":
            part = b"Content-Type: text/plain\r\n\r\n" + pgp_sign(
                bob.secret.signer(), b"Hello\n", mode=SignatureMode.CLEAR
            )
    with used(HEADER + mixed(part, FOOTER)) as opened:
        assert opened.security.signature == "partial", opened.security.reason
        assert opened.security.signer in ("alice@example.org", "bob@example.org")
        assert opened.security.layers[0].covers == "part"
        assert opened.content is None


def test_ordinary_multiparts_have_nothing_to_tell(opener: Opener) -> None:
    for raw in (
        mixed(FOOTER, FOOTER),
        mixed(FOOTER),
        mixed(b"Content-Type: application/octet-stream; name=smime.p7s\r\n\r\nx", FOOTER),
        mixed(),
        b"Content-Type: multipart/mixed\r\n\r\nno boundary",
    ):
        with opener(HEADER + raw) as opened:
            assert not opened.security.encrypted
            assert opened.security.signature == "none"
            assert opened.content is None


@pytest.mark.promise("C4")
def test_the_ratio_of_openpgp_is_bounded(pgp: Opener, bob: Person) -> None:
    """gpg compresses what it encrypts; so does who attacks."""
    message = pgp_encrypt(ENTITY + b"0" * 3_000_000, [bob.public])
    assert len(message) < 6_000_000
    with pgp(HEADER + multipart_encrypted(message), MailLimits(ratio=0)) as opened:
        assert opened.security.status == "failed"
        assert opened.content is None


@pytest.mark.promise("F3")
def test_a_second_encrypted_message_in_a_part_is_not_dropped(tmp_path: Path) -> None:
    """Sequoia reads the first and says nothing of the rest."""
    bob = Tsk.generate("bob@example.org")
    first = pgp_encrypt(ENTITY, [bob.extract_certificate()])
    second = pgp_encrypt(b"and another thing", [bob.extract_certificate()])
    opens = key_opener(str(bob).encode(), tmp_path)
    with opens(HEADER + multipart_encrypted(first)) as opened:
        assert (opened.security.status, opened.security.reason) == ("decrypted", "")
    with opens(HEADER + multipart_encrypted(first + b"\n" + second)) as opened:
        assert opened.security.status == "unsupported"
        assert "Several" in opened.security.reason
        assert opened.content is None
    for around in (b"Please pay\n" + first, first + b"\nPlease pay\n"):
        with opens(HEADER + multipart_encrypted(around)) as opened:
            assert opened.content == HEADER + ENTITY
            assert "text around" in opened.security.reason
