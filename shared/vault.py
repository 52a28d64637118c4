"""Secrets at rest: passwords, tokens and private keys, sealed before they reach Postgres.

AES-256-GCM with a random 96-bit nonce. A sealed value is `1 | len(key id) | key id | nonce |
ciphertext and tag`; its additional data are the table, the column, the row and the key id, so that
a value copied to another row, column or table does not open. Each table and column has its own
key, derived with HKDF-SHA256 (RFC 5869) from the configured one.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.errors import InvalidInput, SecretUnreadable

_VERSION = 1
_NONCE = 12


@dataclass(frozen=True, slots=True)
class Place:
    """Where a secret lives: it opens there and nowhere else."""

    table: str
    column: str
    row: str

    def data(self, key_id: str) -> bytes:
        return "|".join((self.table, self.column, self.row, key_id)).encode()


def password_place(connection_id: int) -> Place:
    """Where the password of a connection lives."""
    return Place("connection", "password", str(connection_id))


def client_secret_place(credential_id: int) -> Place:
    """Where the client secret of an OAuth2 credential lives."""
    return Place("credential", "client_secret", str(credential_id))


def client_certificate_place(credential_id: int) -> Place:
    """Where the client certificate with its key, or the service account's key, lives."""
    return Place("credential", "client_certificate", str(credential_id))


def private_key_place(certificate_id: int) -> Place:
    """Where the private key of an uploaded certificate lives."""
    return Place("certificate", "private_key", str(certificate_id))


def tokens_place(connection_id: int) -> Place:
    """Where the OAuth2 tokens of a connection live."""
    return Place("authorisation", "cache", str(connection_id))


def totp_place(person_id: int) -> Place:
    """Where the secret of a person's one-time codes lives."""
    return Place("person", "totp_secret", str(person_id))


def login_flow_place(state: str) -> Place:
    """Where the secret half of a login that has started at a provider lives."""
    return Place("oauth_flow", "flow", state)


class Vault:
    """Seals with the first key, opens with any of them."""

    def __init__(self, keys: Sequence[tuple[str, bytes]]) -> None:
        if not keys:
            raise InvalidInput("There is no key to seal secrets with.", field="secret_keys")
        self._keys = dict(keys)
        self._active = keys[0][0]
        self._derived: dict[tuple[str, str, str], AESGCM] = {}

    @classmethod
    def from_settings(cls, entries: Sequence[str]) -> Vault:
        """`entries` are `id:base64 of 32 bytes`, as `posthouse secrets new-key` prints them."""
        keys = []
        for entry in entries:
            key_id, _, encoded = entry.partition(":")
            try:
                key = base64.b64decode(encoded, validate=True)
            except binascii.Error:
                key = b""
            if not key_id or len(key_id) > 64 or len(key) != 32:
                raise InvalidInput(
                    "A secret key is not of the form id:base64 of 32 bytes.",
                    field="secret_keys",
                    hint="`posthouse secrets new-key` prints one.",
                )
            keys.append((key_id, key))
        return cls(keys)

    def seal(self, secret: bytes, place: Place) -> bytes:
        nonce = os.urandom(_NONCE)
        name = self._active.encode()
        sealed = self._cipher(self._active, place).encrypt(nonce, secret, place.data(self._active))
        return bytes([_VERSION, len(name)]) + name + nonce + sealed

    def open(self, sealed: bytes, place: Place) -> bytes:
        """Raises SecretUnreadable where the key is gone or the value is not from this place."""
        key_id, nonce, ciphertext = self._split(sealed)
        if key_id not in self._keys:
            raise SecretUnreadable(
                f"A secret in {place.table} is sealed with key {key_id!r}, which is missing.",
                hint="Add that key to POSTHOUSE_SECRET_KEYS (after the first), or enter it again.",
            )
        try:
            return self._cipher(key_id, place).decrypt(nonce, ciphertext, place.data(key_id))
        except InvalidTag as error:
            raise SecretUnreadable(
                f"A secret in {place.table} (row {place.row}) was changed or moved; it is shut.",
                hint="Enter it again.",
            ) from error

    def at(self, place: Place) -> PlacedVault:
        """This vault for one secret alone, for those who need not know where it lives."""
        return PlacedVault(self, place)

    def is_current(self, sealed: bytes) -> bool:
        """Whether the first key sealed this: `secrets rotate` seals the others anew."""
        return self._split(sealed)[0] == self._active

    def _cipher(self, key_id: str, place: Place) -> AESGCM:
        slot = (key_id, place.table, place.column)
        if slot not in self._derived:
            info = f"posthouse {place.table}.{place.column}".encode()
            kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info)
            self._derived[slot] = AESGCM(kdf.derive(self._keys[key_id]))
        return self._derived[slot]

    @staticmethod
    def _split(sealed: bytes) -> tuple[str, bytes, bytes]:
        if len(sealed) < 2 or sealed[0] != _VERSION or len(sealed) < 2 + sealed[1] + _NONCE + 16:
            raise SecretUnreadable("A stored secret is not in a form this version can read.")
        end = 2 + sealed[1]
        return (
            sealed[2:end].decode("utf-8", "replace"),
            sealed[end : end + _NONCE],
            sealed[end + _NONCE :],
        )


@dataclass(frozen=True, slots=True)
class PlacedVault:
    """Seals and opens one secret."""

    _vault: Vault
    _place: Place

    def seal(self, secret: bytes) -> bytes:
        return self._vault.seal(secret, self._place)

    def open(self, sealed: bytes) -> bytes:
        return self._vault.open(sealed, self._place)


def new_key() -> str:
    """A fresh entry for POSTHOUSE_SECRET_KEYS."""
    return f"k{os.urandom(3).hex()}:{base64.b64encode(os.urandom(32)).decode()}"
