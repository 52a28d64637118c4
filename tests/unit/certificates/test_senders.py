"""OpenPGP keys of senders that no signature can count by are refused, and named."""

from __future__ import annotations

import pytest

from shared.certificates.senders import parse_senders
from shared.errors import InvalidInput
from tests.unit.smime.gnupg import GnuPG

pytestmark = pytest.mark.promise("F3")


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("secp256k1", "on the curve secp256k1"),
        ("brainpoolP256r1", "on the curve brainpoolP256r1"),
        ("brainpoolP512r1", "on the curve brainpoolP512r1"),
        ("rsa1024", "RSA with 1024 bits"),
        ("dsa1024", "DSA with 1024 bits"),
        ("nistp256", ""),
        ("rsa2048", ""),
    ],
)
def test_a_key_of_a_kind_that_is_not_believed_is_named(
    kind: str, named: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    gnupg = GnuPG(tmp_path_factory.mktemp("gnupg"))
    try:
        gnupg("--quick-gen-key", "Alice <alice@example.org>", kind, "sign,cert", "never")
        key = gnupg("--armor", "--export", "alice@example.org")
    finally:
        gnupg.close()
    if not named:
        (sender,) = parse_senders(key)
        assert sender.emails == ("alice@example.org",)
        return
    with pytest.raises(InvalidInput) as refused:
        parse_senders(key)
    assert named in str(refused.value)
    assert refused.value.hint is not None
    assert "NIST" in refused.value.hint
