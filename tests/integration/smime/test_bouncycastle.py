"""What a second implementation produces opens too: Bouncy Castle, which Java mail software uses.

Between them, the openssl command and Bouncy Castle write what nearly every sender uses; where they
differ (GCM in EnvelopedData, the digests of OAEP, chunks of seven bytes), so do senders.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.smime.mails import ENTITY, HEADER, TEXT, Opener, body, mail
from tests.unit.smime.pki import Holder, Pki, ec_key, ed25519_key, index, rsa_key

JARS = [f"/usr/share/java/{name}.jar" for name in ("bcprov", "bcutil", "bcpkix")]
CURVES: Mapping[str, ec.EllipticCurve] = {
    "p256": ec.SECP256R1(),
    "p384": ec.SECP384R1(),
    "p521": ec.SECP521R1(),
    "brainpool256": ec.BrainpoolP256R1(),
    "brainpool384": ec.BrainpoolP384R1(),
}
OURS = ("rsa", *CURVES)


def java(*arguments: str | Path) -> None:
    done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    made = Pki(tmp_path_factory.mktemp("keys"))
    for name in ("rsa", "stranger"):
        made.holder(name, rsa_key())
    for name, curve in CURVES.items():
        made.holder(name, ec_key(curve))
    made.holder("sender-rsa", rsa_key(), email="alice@example.org")
    made.holder("sender-p256", ec_key(ec.SECP256R1()), email="alice@example.org")
    made.holder("sender-ed25519", ed25519_key(), email="alice@example.org")
    return made


@pytest.fixture(scope="module")
def made(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One CMS structure of every kind, by name."""
    folder = tmp_path_factory.mktemp("bouncy")
    classes, out, content = folder / "classes", folder / "out", folder / "content"
    out.mkdir()
    content.write_bytes(ENTITY)
    source = Path(__file__).with_name("BouncyMails.java")
    path = ":".join(JARS)
    java("javac", "-cp", path, "-d", classes, source)
    java("java", "-cp", f"{path}:{classes}", "BouncyMails", pki.folder, content, out)
    return {file.stem: file.read_bytes() for file in out.iterdir()}


@pytest.fixture
def opener(pki: Pki, tmp_path: Path) -> Opener:
    ours: list[Holder] = [pki.holders[name] for name in OURS]
    return Opener(index(*ours), pki.trust, tmp_path)


@pytest.mark.promise("C2")
def test_everything_encrypted_opens(made: dict[str, bytes], opener: Opener) -> None:
    failed: dict[str, str] = {}
    count = 0
    for name, cms in made.items():
        if name.startswith(("signed", "bare", "detached", "compressed")):
            continue
        count += 1
        with opener(mail(cms)) as opened:
            if opened.security.status != "decrypted" or opened.content != HEADER + ENTITY:
                failed[name] = opened.security.reason
                continue
            aead = name.startswith("auth") or "gcm" in name
            assert (opened.security.integrity == "aead") == aead, name
    assert failed == {}
    assert count > 110


@pytest.mark.promise("C2")
def test_compressed(made: dict[str, bytes], opener: Opener) -> None:
    """It opens, and goes out as it came: a few octets may unpack to a full store."""
    with opener(mail(made["compressed"], "compressed-data")) as opened:
        assert opened.content is None
        (layer,) = opened.security.layers
    assert (layer.kind, layer.verdict) == ("compression", "opened")


@pytest.mark.promise("C3")
def test_everything_signed_is_valid(made: dict[str, bytes], opener: Opener) -> None:
    for name, cms in made.items():
        if name.startswith(("signed", "bare")):
            with opener(mail(cms, "signed-data")) as opened:
                assert opened.security.signature == "valid", (name, opened.security.reason)
                assert body(opened) == TEXT
            at = cms.index(TEXT[:20])
            with opener(mail(cms[:at] + b"?" + cms[at + 1 :], "signed-data")) as opened:
                assert opened.security.signature == "invalid", name


@pytest.mark.promise("C3")
def test_detached_signatures(made: dict[str, bytes], opener: Opener) -> None:
    names = [name for name in made if name.startswith("detached")]
    assert len(names) > 5
    for name in names:
        raw = (
            HEADER + b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n" + ENTITY
            + b"\r\n--b\r\nContent-Type: application/pkcs7-signature\r\n"
            b"Content-Transfer-Encoding: binary\r\n\r\n" + made[name] + b"\r\n--b--\r\n"
        )  # fmt: skip
        with opener(raw) as opened:
            assert opened.security.signature == "valid", (name, opened.security.reason)
        with opener(raw.replace(b"aus K", b"aus k", 1)) as opened:
            assert opened.security.signature == "invalid", name


@pytest.mark.promise("C4")
def test_damage_is_a_fact(made: dict[str, bytes], opener: Opener) -> None:
    for name, cms in made.items():
        for place in range(7, len(cms), max(1, len(cms) // 9)):
            damaged = bytearray(cms)
            damaged[place] ^= 0x10
            for raw in (bytes(damaged), cms[:place]):
                with opener(mail(raw)) as opened:
                    assert "analysed" not in opened.security.reason, name
                    if opened.security.integrity == "aead":
                        assert opened.content == HEADER + ENTITY, name
