from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex
from tests.unit.smime.mails import Opener
from tests.unit.smime.pki import Holder, Pki, ec_key, ed25519_key, index, rsa_key, x25519_key
from tests.unit.smime.test_openpgp import Person

CURVES: Mapping[str, ec.EllipticCurve] = {
    "p256": ec.SECP256R1(),
    "p384": ec.SECP384R1(),
    "p521": ec.SECP521R1(),
    "brainpool256": ec.BrainpoolP256R1(),
    "brainpool384": ec.BrainpoolP384R1(),
    "brainpool512": ec.BrainpoolP512R1(),
}


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def holders(pki: Pki) -> dict[str, Holder]:
    """Receivers by kind of key, `alice` who signs, and `stranger` whose key is not here."""
    made = {name: pki.holder(name, ec_key(curve)) for name, curve in CURVES.items()}
    for name in ("rsa", "alice", "stranger"):
        made[name] = pki.holder(name, rsa_key())
    made["x25519"] = pki.holder("x25519", x25519_key())
    made["alice-ec"] = pki.holder("alice-ec", ec_key(ec.SECP256R1()), email="alice@example.org")
    made["alice-ed"] = pki.holder("alice-ed", ed25519_key(), email="Alice@Example.ORG")
    return made


@pytest.fixture(scope="session")
def receivers(holders: dict[str, Holder]) -> list[Holder]:
    return [holders[name] for name in ("rsa", "x25519", *CURVES)]


@pytest.fixture
def opener(pki: Pki, receivers: list[Holder], tmp_path: Path) -> Opener:
    """Opens with every receiver's key; trusts the authority of the tests."""
    return Opener(index(*receivers), pki.trust, tmp_path)


@pytest.fixture(scope="module")
def alice() -> Person:
    return Person("alice@example.org")


@pytest.fixture(scope="module")
def bob() -> Person:
    return Person("bob@example.org")


@pytest.fixture
def knowing(alice: Person, bob: Person, tmp_path: Path) -> Opener:
    trust = TrustStore.load(senders=[bytes(alice.public)], system=False)
    return Opener(IdentityIndex.load([bob.stored("bob")]), trust, tmp_path)  # type: ignore[list-item]
