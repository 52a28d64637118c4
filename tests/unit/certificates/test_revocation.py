"""Revocation lists and answers of responders, made by OpenSSL: what counts, and what does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from shared.certificates.revocation import (
    Unusable,
    by_list,
    by_responder,
    check_list,
    issuer_key,
    list_addresses,
    question,
    read_list,
    responder_addresses,
)
from shared.revocations import Revocation, of_path
from tests.servers.openssl_ca import Issued, OpensslCa

DAY = timedelta(days=1)
LIST, RESPONDER = "http://crl.example.org/ca.crl", "http://ocsp.example.org/"


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def ca(tmp_path: Path) -> OpensslCa:
    return OpensslCa(tmp_path / "ca")


def read(data: bytes, ca: OpensslCa, issued: Issued, at: datetime | None = None) -> Revocation:
    found = read_list(data)
    period = check_list(found, ca.certificate, at or now())
    return by_list(found, issued.certificate, period)


def heard(data: bytes, ca: OpensslCa, issued: Issued, at: datetime | None = None) -> Revocation:
    return by_responder(data, issued.certificate, ca.certificate, at or now())


def test_a_list_says_good_and_revoked_and_on_hold(ca: OpensslCa) -> None:
    good, stolen, held = (ca.issue(f"{n}@example.org") for n in ("good", "stolen", "held"))
    ca.revoke(stolen, "keyCompromise")
    ca.revoke(held, "certificateHold")
    data = ca.published()
    assert read(data, ca, good).status == "good"
    found = read(data, ca, stolen)
    assert (found.status, found.source, found.reason) == ("revoked", "crl", "keyCompromise")
    assert found.revoked_at is not None
    assert found.is_final
    found = read(data, ca, held)
    assert (found.status, found.reason, found.is_final) == ("revoked", "certificateHold", False)
    pem = x509.load_der_x509_crl(data).public_bytes(serialization.Encoding.PEM)
    assert read(pem, ca, stolen).status == "revoked"


def test_a_list_counts_in_its_time_only(ca: OpensslCa) -> None:
    alice = ca.issue("alice@example.org")
    data = ca.published("-crldays", "7")
    found = read(data, ca, alice)
    assert found.next_update is not None
    assert found.at(now()).status == "good"
    assert found.at(now() + 8 * DAY).status == "unknown", "what was good is not good for ever"
    with pytest.raises(Unusable, match="out of date"):
        read(data, ca, alice, now() + 8 * DAY)
    with pytest.raises(Unusable, match="of the future"):
        read(data, ca, alice, now() - DAY)


def test_a_list_of_another_authority_with_the_same_name_does_not_count(
    ca: OpensslCa, tmp_path: Path
) -> None:
    alice = ca.issue("alice@example.org")
    twin = OpensslCa(tmp_path / "twin")
    assert twin.certificate.subject == ca.certificate.subject
    assert issuer_key(twin.certificate) != issuer_key(ca.certificate)
    with pytest.raises(Unusable, match="not signed by the authority"):
        read(twin.published(), ca, alice)
    other = OpensslCa(tmp_path / "other", "Somebody Else")
    with pytest.raises(Unusable, match="of another authority"):
        read(other.published(), ca, alice)


def test_a_list_of_an_authority_that_may_sign_none_does_not_count(tmp_path: Path) -> None:
    ca = OpensslCa(tmp_path / "ca", usage="keyCertSign")
    with pytest.raises(Unusable, match="does not allow it to sign lists"):
        read(ca.published(), ca, ca.issue("alice@example.org"))


@pytest.mark.parametrize(
    ("extensions", "why"),
    [
        (
            "issuingDistributionPoint = critical, @point\n[point]\nindirectCRL = TRUE",
            "of other auth",
        ),
        (
            "issuingDistributionPoint = critical, @point\n[point]\nonlysomereasons = keyCompromise",
            "a part only",
        ),
        ("issuingDistributionPoint = critical, @point\n[point]\nonlyCA = TRUE", "another kind"),
        (
            "issuingDistributionPoint = critical, @point\n[point]\n"
            "fullname = URI:http://crl.example.org/other.crl",
            "does not name",
        ),
        ("deltaCRL = critical, DER:020101", "changes only"),
        ("1.2.3.4 = critical, DER:0500", "not known here"),
    ],
    ids=["indirect", "some-reasons", "authorities", "another-point", "delta", "unknown-critical"],
)
def test_a_list_that_does_not_cover_the_certificate_says_nothing(
    ca: OpensslCa, extensions: str, why: str
) -> None:
    alice = ca.issue("alice@example.org", lists=[LIST])
    with pytest.raises(Unusable, match=why):
        read(ca.published(extensions=extensions), ca, alice)


def test_a_list_for_the_point_that_the_certificate_names_counts(ca: OpensslCa) -> None:
    alice = ca.issue("alice@example.org", lists=[LIST])
    extensions = f"issuingDistributionPoint = critical, @point\n[point]\nfullname = URI:{LIST}"
    assert read(ca.published(extensions=extensions), ca, alice).status == "good"


@pytest.mark.parametrize("data", [b"", b"\x30\x00", b"-----BEGIN X509 CRL-----\n", b"<html>"])
def test_what_is_no_list_says_nothing(ca: OpensslCa, data: bytes) -> None:
    with pytest.raises(Unusable):
        read(data, ca, ca.issue("alice@example.org"))
    with pytest.raises(Unusable):
        heard(data, ca, ca.issue("bob@example.org"))


def test_a_responder_says_good_and_revoked_and_that_it_does_not_know(ca: OpensslCa) -> None:
    good, stolen = ca.issue("good@example.org"), ca.issue("stolen@example.org")
    ca.revoke(stolen, "keyCompromise")
    answer = ca.answer(question(good.certificate, ca.certificate), "-ndays", "2")
    found = heard(answer, ca, good)
    assert (found.status, found.source) == ("good", "ocsp")
    answer = ca.answer(question(stolen.certificate, ca.certificate))
    found = heard(answer, ca, stolen)
    assert (found.status, found.reason) == ("revoked", "keyCompromise")
    (ca.folder / "index.txt").write_text("")
    answer = ca.answer(question(good.certificate, ca.certificate))
    with pytest.raises(Unusable, match="does not know"):
        heard(answer, ca, good)


def test_an_answer_for_another_certificate_does_not_count(ca: OpensslCa, tmp_path: Path) -> None:
    alice, bob = ca.issue("alice@example.org"), ca.issue("bob@example.org")
    answer = ca.answer(question(bob.certificate, ca.certificate))
    with pytest.raises(Unusable, match="another certificate"):
        heard(answer, ca, alice)
    twin = OpensslCa(tmp_path / "twin")
    same = twin.issue("alice@example.org")
    assert same.certificate.serial_number == alice.certificate.serial_number
    answer = twin.answer(question(same.certificate, twin.certificate))
    with pytest.raises(Unusable):
        heard(answer, ca, alice)


def test_an_old_answer_that_is_played_again_does_not_count(ca: OpensslCa) -> None:
    alice = ca.issue("alice@example.org")
    old = ca.answer(question(alice.certificate, ca.certificate), "-nmin", "60")
    before = heard(old, ca, alice)
    with pytest.raises(Unusable, match="out of date"):
        heard(old, ca, alice, now() + timedelta(hours=2))
    ca.revoke(alice, "superseded")
    known = heard(ca.answer(question(alice.certificate, ca.certificate)), ca, alice)
    assert known.status == "revoked"
    assert not before.is_newer(known), "not even while its own time lasts"
    assert known.at(now() + 900 * DAY).status == "revoked"


def test_an_answer_without_an_end_counts_for_a_day(ca: OpensslCa) -> None:
    alice = ca.issue("alice@example.org")
    found = heard(ca.answer(question(alice.certificate, ca.certificate)), ca, alice)
    assert found.at(now() + timedelta(hours=23)).status == "good"
    assert found.at(now() + timedelta(hours=25)).status == "unknown"


@pytest.mark.parametrize(("purpose", "counts"), [("OCSPSigning", True), ("emailProtection", False)])
def test_a_responder_answers_for_whom_it_was_appointed(
    ca: OpensslCa, purpose: str, counts: bool
) -> None:
    alice = ca.issue("alice@example.org")
    responder = ca.issue(
        "Responder", extensions=f"keyUsage = digitalSignature\nextendedKeyUsage = {purpose}\n"
    )
    answer = ca.answer(question(alice.certificate, ca.certificate), signer=responder)
    if counts:
        assert heard(answer, ca, alice).status == "good"
        with pytest.raises(Unusable, match="of the responder is not valid"):
            heard(answer, ca, alice, now() - 1 * DAY)
    else:
        with pytest.raises(Unusable, match="not meant for answers"):
            heard(answer, ca, alice)


def test_a_responder_that_another_authority_appointed_does_not_count(
    ca: OpensslCa, tmp_path: Path
) -> None:
    alice = ca.issue("alice@example.org")
    twin = OpensslCa(tmp_path / "twin")
    extensions = "keyUsage = digitalSignature\nextendedKeyUsage = OCSPSigning\n"
    stranger = twin.issue("Responder", extensions=extensions)
    answer = ca.answer(question(alice.certificate, ca.certificate), signer=stranger)
    with pytest.raises(Unusable, match="not appointed"):
        heard(answer, ca, alice)


def test_whom_a_certificate_names_is_asked_over_http_alone(ca: OpensslCa) -> None:
    alice = ca.issue(
        "alice@example.org",
        lists=["ldap://dir.example.org/cn=ca", LIST, "file:///etc/passwd", "http://a:b@host/"],
        responders=[RESPONDER, "ftp://example.org/"],
    )
    assert list_addresses(alice.certificate) == (LIST,)
    assert responder_addresses(alice.certificate) == (RESPONDER,)
    many = ca.issue("bob@example.org", lists=[f"http://h{n}.example.org/" for n in range(20)])
    assert len(list_addresses(many.certificate)) == 4
    plain = ca.issue("carol@example.org")
    assert list_addresses(plain.certificate) == responder_addresses(plain.certificate) == ()


def test_a_path_is_as_good_as_its_worst_certificate() -> None:
    good = Revocation("good", "crl", now(), now() + DAY)
    older = good._replace(as_of=now() - DAY)
    revoked = Revocation("revoked", "ocsp", now(), None, "keyCompromise", now())
    assert of_path([]) is None
    assert of_path([good, older]) == older, "as old as its oldest word"
    assert of_path([good, Revocation("unknown"), Revocation()]) == Revocation("unknown")
    assert of_path([good, revoked, Revocation("unknown")]) == revoked
    assert Revocation.from_json(revoked.to_json()) == revoked


def test_what_is_revoked_for_good_is_not_taken_back() -> None:
    revoked = Revocation("revoked", "crl", now(), now() + DAY, "superseded", now())
    later = Revocation("good", "crl", now() + DAY, now() + 2 * DAY)
    assert not later.is_newer(revoked)
    held = revoked._replace(reason="certificateHold")
    assert later.is_newer(held)
    assert not later._replace(as_of=now() - DAY).is_newer(held), "an older word ends no hold"


def test_an_authority_is_its_name_and_its_key(ca: OpensslCa) -> None:
    again = (
        x509.CertificateBuilder()
        .subject_name(ca.certificate.subject)
        .issuer_name(ca.certificate.subject)
        .public_key(ca.certificate.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - DAY)
        .not_valid_after(now() + DAY)
        .sign(
            serialization.load_pem_private_key(ca.key.read_bytes(), None),  # type: ignore[arg-type]
            hashes.SHA256(),
        )
    )
    assert issuer_key(again) == issuer_key(ca.certificate)
