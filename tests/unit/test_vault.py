"""Sealed secrets open where they belong, and nowhere else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidInput, SecretKeyMissing, SecretUnreadable
from shared.storage.sealed_columns import SEALED_COLUMNS, columns_of
from shared.vault import SecretKey, SecretPath, Vault, new_key

HERE = SecretPath("connection", "password", "7")


@given(st.binary(max_size=4000))
def test_what_is_sealed_opens(secret: bytes) -> None:
    vault = Vault.from_settings([new_key()])
    sealed = vault.seal(secret, HERE)
    assert vault.open(sealed, HERE) == secret
    assert len(secret) < 8 or secret not in sealed
    assert vault.seal(secret, HERE) != sealed, "twice the same secret does not look the same"


@pytest.mark.promise("I7")
@pytest.mark.parametrize(
    "elsewhere",
    [
        SecretPath("connection", "password", "8"),
        SecretPath("connection", "token", "7"),
        SecretPath("credential", "password", "7"),
    ],
)
def test_a_swapped_ciphertext_is_refused(elsewhere: SecretPath) -> None:
    vault = Vault.from_settings([new_key()])
    with pytest.raises(SecretUnreadable):
        vault.open(vault.seal(b"secret", HERE), elsewhere)


def test_every_changed_octet_is_noticed() -> None:
    vault = Vault.from_settings([new_key()])
    sealed = vault.seal(b"secret", HERE)
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        # A changed key id names a key that nobody has.
        with pytest.raises((SecretUnreadable, SecretKeyMissing)):
            vault.open(bytes(changed), HERE)
        with pytest.raises(SecretUnreadable):
            vault.open(sealed[:position], HERE)


def test_keys_rotate() -> None:
    old, new = new_key(), new_key()
    sealed = Vault.from_settings([old]).seal(b"secret", HERE)
    both = Vault.from_settings([new, old])
    assert both.open(sealed, HERE) == b"secret"
    assert not both.is_current(sealed)
    assert both.is_current(both.seal(b"secret", HERE))
    with pytest.raises(SecretKeyMissing, match="missing") as caught:
        Vault.from_settings([new]).open(sealed, HERE)
    assert "POSTHOUSE_SECRET_KEYS" in caught.value.hint


@pytest.mark.parametrize(
    "entry",
    ["", "k1", "k1:short", ":" + "A" * 44, "k1:" + "!" * 44]
    + [f"k1:{base64.b64encode(bytes(size)).decode()}" for size in (16, 24, 31, 33, 64)],
)
def test_a_key_of_another_form_is_refused(entry: str) -> None:
    with pytest.raises(InvalidInput, match=r"secret key|no key"):
        Vault.from_settings([entry])


@pytest.mark.promise("I7")
@pytest.mark.parametrize("service", ["scheduler", "fetcher", "decryptor", "forwarder"])
def test_the_keys_of_a_service_open_its_columns_and_no_other(service: str) -> None:
    master = SecretKey.parse(new_key())
    whole = Vault([master])
    own = Vault.from_settings([str(key) for key in master.of(columns_of(service))])
    for column in SEALED_COLUMNS:
        path = SecretPath(column.table, column.column, "7")
        if service in column.readers:
            assert own.open(whole.seal(b"secret", path), path) == b"secret"
            assert whole.open(own.seal(b"secret", path), path) == b"secret"
        else:
            with pytest.raises(SecretKeyMissing):
                own.open(whole.seal(b"secret", path), path)
            with pytest.raises(SecretKeyMissing):
                own.seal(b"secret", path)


def test_the_key_of_a_column_is_that_of_no_other() -> None:
    """Whoever has one, whatever it calls itself, opens nothing else; the master does not show."""
    master = SecretKey.parse(new_key())
    columns = [(one.table, one.column) for one in SEALED_COLUMNS]
    keys = master.of(columns)
    assert len({key.octets for key in [master, *keys]}) == len(columns) + 1
    for key, column in zip(keys, columns, strict=True):
        assert key.of(columns) == [key]
        assert key.of([one for one in columns if one != column]) == []
        renamed = [SecretKey(key.id, key.octets, one) for one in columns if one != column]
        for other in renamed:
            assert other.column is not None
            path = SecretPath(*other.column, "7")
            with pytest.raises(SecretUnreadable):
                Vault([other]).open(Vault([master]).seal(b"secret", path), path)


def test_who_misses_a_key_says_so() -> None:
    old, new = new_key(), new_key()
    vault = Vault.from_settings([old])
    vault.check()
    with pytest.raises(SecretKeyMissing):
        vault.open(Vault.from_settings([new]).seal(b"secret", HERE), HERE)
    with pytest.raises(SecretKeyMissing, match=new.partition(":")[0]):
        vault.check()
