"""The verdict on a certification path is that of `openssl verify`, but for what is listed here."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from services.decryptor.trust import Trust, TrustStore
from shared.certificates.purposes import why_no_trust_anchor
from shared.certificates.uploads import addresses
from tests.unit.smime import chains
from tests.unit.smime.chains import (
    ANY,
    ANY_AND_MAIL,
    EMAIL,
    ENCIPHER,
    LEAF,
    MAIL,
    MIDDLE,
    ROOT,
    SERVER,
    UNKNOWN,
    Link,
    excluded,
    having,
    issued,
    permitted,
    without,
)

pytestmark = pytest.mark.promise("F3")

BASIC, USAGE = x509.BasicConstraints, x509.KeyUsage
ROOTS = {
    "usual": ROOT,
    "RSA": replace(ROOT, key="rsa"),
    "RSA of 1024 bits": replace(ROOT, key="rsa1024"),
    "brainpool": replace(ROOT, key="brainpool"),
    "Ed25519": replace(ROOT, key="ed25519"),
    "version 1": Link(version_1=True),
    "signed with SHA-1": replace(ROOT, sha1=True, key="rsa"),
    "no basic constraints": without(ROOT, BASIC),
    "no extensions": without(ROOT, BASIC, USAGE),
    "no key usage": without(ROOT, USAGE),
    "basic constraints say no": having(ROOT, BASIC(False, None)),
    "may not sign certificates": having(ROOT, chains.SIGN),
    "for mail": having(ROOT, MAIL),
    "for any use": having(ROOT, ANY),
    "for any use and mail": having(ROOT, ANY_AND_MAIL),
    "of Netscape's type for servers": replace(ROOT, extensions=(chains.netscape(0x04),)),
    "of Netscape's type for mail": replace(ROOT, extensions=(chains.netscape(0x02),)),
    "for servers": having(ROOT, SERVER),
    "for one level": having(ROOT, BASIC(True, 0)),
    "expired": replace(ROOT, days=(-800, -1)),
    "for example.org": having(ROOT, permitted("example.org")),
    "for another domain": having(ROOT, permitted("example.net")),
    "for hosts of example.org": having(ROOT, permitted(".example.org")),
    "for alice": having(ROOT, permitted(EMAIL)),
    "not for example.org": having(ROOT, excluded("example.org")),
    "not for bob": having(ROOT, excluded("bob@example.org")),
    "with something unknown": replace(
        having(ROOT, UNKNOWN), critical=(*ROOT.critical, x509.UnrecognizedExtension)
    ),
}
MIDDLES = {
    "none": None,
    "usual": MIDDLE,
    "RSA of 1024 bits": replace(MIDDLE, key="rsa1024"),
    "brainpool": replace(MIDDLE, key="brainpool"),
    "signed with SHA-1": replace(MIDDLE, sha1=True),
    "no basic constraints": without(MIDDLE, BASIC),
    "no extensions": without(MIDDLE, BASIC, USAGE),
    "basic constraints say no": having(MIDDLE, BASIC(False, None)),
    "may not sign certificates": having(MIDDLE, chains.SIGN),
    "for mail": having(MIDDLE, MAIL),
    "for any use": having(MIDDLE, ANY),
    "for any use and mail": having(MIDDLE, ANY_AND_MAIL),
    "of Netscape's type for servers": replace(MIDDLE, extensions=(chains.netscape(0x04),)),
    "for servers": having(MIDDLE, SERVER),
    "expired": replace(MIDDLE, days=(-800, -1)),
    "for another domain": having(MIDDLE, permitted("example.net")),
    "for example.org": having(MIDDLE, permitted("example.org")),
    "not for alice": having(MIDDLE, excluded(EMAIL)),
    "with something unknown": replace(
        having(MIDDLE, UNKNOWN), critical=(*MIDDLE.critical, x509.UnrecognizedExtension)
    ),
}
LEAVES = {
    "usual": LEAF,
    "brainpool": replace(LEAF, key="brainpool"),
    "RSA of 1024 bits": replace(LEAF, key="rsa1024"),
    "signed with SHA-1": replace(LEAF, sha1=True),
    "address in the subject": replace(
        without(LEAF, x509.SubjectAlternativeName), subject_email=EMAIL
    ),
    "another address in the subject": replace(LEAF, subject_email="alice@example.net"),
    "UTF-8 address": having(LEAF, chains.utf8_mailbox("ålice@example.org")),
    "UTF-8 address that is ASCII": having(LEAF, chains.utf8_mailbox(EMAIL)),
    "any use": having(LEAF, ANY),
    "any use and mail": having(LEAF, ANY_AND_MAIL),
    "of Netscape's type for servers": having(LEAF, chains.netscape(0x40)),
    "of Netscape's type for clients": having(LEAF, chains.netscape(0x80)),
    "of Netscape's type for mail": having(LEAF, chains.netscape(0x20)),
    "no purpose": without(LEAF, x509.ExtendedKeyUsage),
    "for servers": having(LEAF, SERVER),
    "for enciphering": having(LEAF, ENCIPHER),
    "no key usage": without(LEAF, USAGE),
    "expired": replace(LEAF, days=(-800, -1)),
    "with something unknown": replace(
        having(LEAF, UNKNOWN), critical=(*LEAF.critical, x509.UnrecognizedExtension)
    ),
}

#: What is judged otherwise than by `openssl verify -purpose smimesign`: (place, kind) → why.
STRICTER = {
    ("root", "RSA of 1024 bits"): "OpenSSL asks for no length at its default level",
    ("middle", "RSA of 1024 bits"): "OpenSSL asks for no length at its default level",
    ("leaf", "RSA of 1024 bits"): "OpenSSL asks for no length at its default level",
    ("root", "of Netscape's type for mail"): "nothing else says that it is an authority",
    ("middle", "signed with SHA-1"): "two certificates can have the same SHA-1 digest",
    ("leaf", "signed with SHA-1"): "two certificates can have the same SHA-1 digest",
}
LAXER = {
    ("leaf", "any use"): "RFC 8550 section 4.4.4: a receiver takes emailProtection or any use",
}


def leaves_below(root: str, middle: str) -> list[str]:
    """Every deviation alone, and every two of them together."""
    left = 2 - (root != "usual") - (middle not in ("usual", "none"))
    return list(LEAVES) if left else ["usual"]


def expected(root: str, middle: str, leaf: str, said: dict[tuple[str, str, str], bool]) -> bool:
    if root == "Ed25519":  # what it signs has no digest that could be weak
        weak = "signed with SHA-1"
        middle = "usual" if middle == weak else middle
        leaf = "usual" if (middle, leaf) == ("none", weak) else leaf
    places = {("root", root), ("middle", middle), ("leaf", leaf)}
    if places & STRICTER.keys():
        return False
    if places & LAXER.keys():
        leaf = "usual"
    return said[root, middle, leaf]


class Made:
    """Paths by the names of their kinds, and what openssl says of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: dict[tuple[str, str, str], bool] = {}
        self.above: dict[tuple[str, str], list[x509.Certificate]] = {}
        self.leaves: dict[tuple[str, str, str], x509.Certificate] = {}

    def add(self, root: str, middle: str, leaves: list[str]) -> None:
        if (root, middle) not in self.above:
            between = MIDDLES[middle]
            links = [ROOTS[root], *([between] if between else [])]
            self.above[root, middle] = issued(links, self.folder)
        above = self.above[root, middle]
        missing = [leaf for leaf in leaves if (root, middle, leaf) not in self.leaves]
        if not missing:
            return
        for leaf in missing:
            path = [ROOT] * len(above) + [LEAVES[leaf]]
            self.leaves[root, middle, leaf] = issued(path, self.folder, above)[-1]
        certificates = [self.leaves[root, middle, leaf] for leaf in missing]
        for leaf, right in zip(
            missing, chains.openssl_says(above, certificates, self.folder), strict=True
        ):
            self.said[root, middle, leaf] = right

    def judged(self, root: str, middle: str, leaf: str) -> Trust:
        self.add(root, middle, [leaf])
        authority, *between = self.above[root, middle]
        return TrustStore([authority]).judge(self.leaves[root, middle, leaf], between, None)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("paths"))


@pytest.mark.parametrize("root", ROOTS)
def test_every_path_as_openssl_says(root: str, made: Made) -> None:
    for middle in MIDDLES:
        for each in {root, "usual"}:
            for between in {middle, "usual"}:
                made.add(each, between, leaves_below(each, between))
        for leaf in leaves_below(root, middle):
            answer = made.judged(root, middle, leaf)
            wanted = expected(root, middle, leaf, made.said)
            assert answer.trusted == wanted, (root, middle, leaf, answer.reason)
            assert answer.trusted or answer.reason


def test_the_addresses_of_a_certificate_are_those_that_openssl_takes(tmp_path: Path) -> None:
    """The subject's where no alternative name has one: with both, an authority may have checked
    the alternative names alone."""
    for kind in ("usual", "address in the subject", "another address in the subject"):
        leaf = issued([ROOT, LEAVES[kind]], tmp_path)[-1]
        for address in (EMAIL, "alice@example.net"):
            said = subprocess.run(
                ["openssl", "x509", "-noout", "-checkemail", address],
                input=leaf.public_bytes(serialization.Encoding.PEM),
                capture_output=True,
                check=False,
            ).stdout
            taken = f"Email {address} does match".encode() in said
            assert taken or b"does NOT match" in said
            assert (address in addresses(leaf)) == taken, (kind, address)


def test_authority_that_cannot_count_is_known_before(made: Made) -> None:
    """What an upload takes vouches for somebody; what it refuses could not."""
    for root in ROOTS:
        counts = made.judged(root, "none", "usual").trusted
        why = why_no_trust_anchor(made.above[root, "none"][0])
        limited = any(isinstance(one, x509.NameConstraints) for one in ROOTS[root].extensions)
        if limited or root in ("expired", "with something unknown"):
            continue  # they count at another time, or for others
        assert (why == "") == counts, (root, why)
    for root, word in (
        ("no extensions", "basic constraints"),
        ("for servers", "not meant for mail"),
        ("for any use", "meant for any use, and not for mail"),
        ("RSA of 1024 bits", "1024"),
        ("may not sign certificates", "key usage"),
    ):
        assert word in why_no_trust_anchor(made.above[root, "none"][0])


def test_reasons_name_what_is_wrong(made: Made) -> None:
    for root, middle, leaf, word in (
        ("for another domain", "none", "usual", "subtree"),
        ("usual", "for another domain", "address in the subject", "subtree"),
        ("usual", "for servers", "usual", "not meant for mail"),
        ("usual", "signed with SHA-1", "usual", "SHA1"),
        ("usual", "RSA of 1024 bits", "usual", "1024"),
    ):
        answer = made.judged(root, middle, leaf)
        assert word in answer.reason, answer


def test_post_quantum_path(tmp_path: Path) -> None:
    """ML-DSA all the way down; the openssl command of the tests does not know it."""
    made = issued([replace(one, key="mldsa") for one in (ROOT, MIDDLE, LEAF)], tmp_path)
    assert TrustStore([made[0]]).judge(made[-1], made[1:-1], None).trusted
    assert not TrustStore([made[0]]).judge(made[-1], [], None).trusted
    assert why_no_trust_anchor(made[0]) == ""


def test_utf8_address_in_ascii_is_no_address(made: Made) -> None:
    """RFC 9598 section 3: an ASCII local part goes into rfc822Name, where constraints see it."""
    for leaf, read in (
        ("UTF-8 address that is ASCII", ()),
        ("UTF-8 address", ("ålice@example.org",)),
    ):
        made.add("usual", "none", [leaf])
        assert addresses(made.leaves["usual", "none", leaf]) == read


def test_sender_given_by_the_administrator(tmp_path: Path) -> None:
    made = issued([ROOT, LEAF], tmp_path)
    alone = TrustStore(senders=[made[1]])
    assert alone.judge(made[1], [], None).trusted
    other = issued([ROOT, LEAF], tmp_path)[1]
    assert not alone.judge(other, [], None).trusted, "only this very certificate"


def test_sender_vouches_for_nobody_else(tmp_path: Path) -> None:
    """A sender's certificate that is marked as an authority is none."""
    made = issued([having(ROOT, MAIL), LEAF], tmp_path)
    assert not TrustStore(senders=[made[0]]).judge(made[1], [], None).trusted


def test_authorities_of_the_system_do_not_vouch_silently(tmp_path: Path) -> None:
    made = issued([ROOT, MIDDLE, LEAF], tmp_path)
    answer = TrustStore(system=[made[0]]).judge(made[2], [made[1]], None)
    assert answer.trusted
    assert "web servers" in answer.reason
    both = TrustStore([made[0]], system=[made[0]]).judge(made[2], [made[1]], None)
    assert (both.trusted, both.reason) == (True, "")
    assert both.path == [made[2], made[1], made[0]]
