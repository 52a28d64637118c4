"""Secrets at rest: passwords, tokens and private keys, sealed before they reach Postgres.

AES-256-GCM with a random 96-bit nonce. A sealed value is `1 | len(key id) | key id | nonce |
ciphertext and tag`; its additional data are the table, the column, the row and the key id, so that
a value copied to another row, column or table does not open. Each table and column has its own
key, derived with HKDF-SHA256 (RFC 5869) from the configured one; a service may have those of its
columns alone, from which neither the configured key nor another column's can be computed.
"""

from __future__ import annotations

import base64
import binascii
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.errors import InvalidInput, SecretKeyMissing, SecretUnreadable

_VERSION = 1
_NONCE = 12
#: Seconds for which a missing key is told after it was last needed.
_MISSING_TOLD = 300.0


@dataclass(frozen=True, slots=True)
class SecretPath:
    """Where a secret lives: it opens there and nowhere else."""

    table: str
    column: str
    row: str

    def data(self, key_id: str) -> bytes:
        return "|".join((self.table, self.column, self.row, key_id)).encode()


def password_path(connection_id: int) -> SecretPath:
    """Where the password of a connection lives."""
    return SecretPath("connection", "password", str(connection_id))


def login_certificate_path(connection_id: int) -> SecretPath:
    """Where the client certificate that a connection logs in with lives, with its key."""
    return SecretPath("connection", "client_certificate", str(connection_id))


def client_secret_path(credential_id: int) -> SecretPath:
    """Where the client secret of an OAuth2 credential lives."""
    return SecretPath("credential", "client_secret", str(credential_id))


def client_certificate_path(credential_id: int) -> SecretPath:
    """Where the client certificate with its key, or the service account's key, lives."""
    return SecretPath("credential", "client_certificate", str(credential_id))


def private_key_path(certificate_id: int) -> SecretPath:
    """Where the private key of an uploaded certificate lives."""
    return SecretPath("certificate", "private_key", str(certificate_id))


def tokens_path(connection_id: int) -> SecretPath:
    """Where the OAuth2 tokens of a connection live."""
    return SecretPath("authorisation", "cache", str(connection_id))


def totp_path(person_id: int) -> SecretPath:
    """Where the secret of a person's one-time codes lives."""
    return SecretPath("person", "totp_secret", str(person_id))


def signing_key_path(handler_id: int) -> SecretPath:
    """Where the key lives that a handler's events are signed with."""
    return SecretPath("handler", "signing_key", str(handler_id))


def former_signing_key_path(handler_id: int) -> SecretPath:
    """Where the one before it lives, while it is renewed."""
    return SecretPath("handler", "former_signing_key", str(handler_id))


def forward_path(column: str, handler_id: int) -> SecretPath:
    """Where a secret of a handler's forward lives: its address, header fields, certificate …"""
    return SecretPath("forward", column, str(handler_id))


def login_flow_path(state: str) -> SecretPath:
    """Where the secret half of a login that has started at a provider lives."""
    return SecretPath("oauth_flow", "flow", state)


@dataclass(frozen=True, slots=True)
class SecretKey:
    """One entry of POSTHOUSE_SECRET_KEYS: 32 octets for every column, or for one alone."""

    id: str
    octets: bytes = field(repr=False)
    column: tuple[str, str] | None = None

    @classmethod
    def parse(cls, entry: str) -> SecretKey:
        """`id:base64`, as `posthouse secrets new-key` prints it, or `id/table.column:base64`, as
        `posthouse secrets keys-of` does. Raises InvalidInput."""
        name, _, encoded = entry.partition(":")
        key_id, slash, of = name.partition("/")
        table, dot, column = of.partition(".")
        try:
            octets = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            octets = b""
        is_whole = not slash or (dot and table and column)
        if not key_id or len(key_id) > 64 or len(octets) != 32 or not is_whole:
            raise InvalidInput(
                "A secret key is not of the form id:base64 of 32 octets.",
                field="secret_keys",
                hint="`posthouse secrets new-key` prints one.",
            )
        return cls(key_id, octets, (table, column) if slash else None)

    def of(self, columns: Iterable[tuple[str, str]]) -> list[SecretKey]:
        """The keys of these columns (table, column), derived from this one."""
        if self.column is not None:
            return [self] if self.column in set(columns) else []
        return [SecretKey(self.id, _column_key(self.octets, *column), column) for column in columns]

    def __str__(self) -> str:
        """As `parse` takes it: this is the secret itself."""
        of = f"/{'.'.join(self.column)}" if self.column else ""
        return f"{self.id}{of}:{base64.b64encode(self.octets).decode()}"


def _column_key(master: bytes, table: str, column: str) -> bytes:
    info = f"posthouse {table}.{column}".encode()
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(master)


class Vault:
    """Seals with the first key, opens with any of them. Thread-safe."""

    def __init__(self, keys: Sequence[SecretKey]) -> None:
        if not keys:
            raise InvalidInput("There is no key to seal secrets with.", field="secret_keys")
        self._active = keys[0].id
        self._masters = {key.id: key.octets for key in keys if key.column is None}
        self._ciphers = {
            (key.id, *key.column): AESGCM(key.octets) for key in keys if key.column is not None
        }
        self._missed: dict[str, float] = {}

    @classmethod
    def from_settings(cls, entries: Sequence[str]) -> Vault:
        """`entries` are what `SecretKey.parse` takes."""
        return cls([SecretKey.parse(entry) for entry in entries])

    def seal(self, secret: bytes, path: SecretPath) -> bytes:
        nonce = os.urandom(_NONCE)
        name = self._active.encode()
        sealed = self._cipher(self._active, path).encrypt(nonce, secret, path.data(self._active))
        return bytes([_VERSION, len(name)]) + name + nonce + sealed

    def open(self, sealed: bytes, path: SecretPath) -> bytes:
        """Raises SecretKeyMissing where the key is not here, SecretUnreadable where the value is
        not from this row and column or was changed."""
        key_id, nonce, ciphertext = self._split(sealed)
        try:
            return self._cipher(key_id, path).decrypt(nonce, ciphertext, path.data(key_id))
        except InvalidTag as error:
            raise SecretUnreadable(
                f"A secret in {path.table} (row {path.row}) was changed or moved; it is shut.",
                hint="Enter it again.",
            ) from error

    def at(self, path: SecretPath) -> BoundVault:
        """This vault for one secret alone, for those who need not know where it lives."""
        return BoundVault(self, path)

    def check(self) -> None:
        """Raises SecretKeyMissing where a key was missing lately: what it sealed waits."""
        since = time.monotonic() - _MISSING_TOLD
        if missing := sorted(key for key, at in tuple(self._missed.items()) if at > since):
            raise SecretKeyMissing(
                f"Stored secrets are sealed with a key that is missing here: {', '.join(missing)}.",
                hint="Add it to POSTHOUSE_SECRET_KEYS (behind the first), or enter them again.",
            )

    def is_current(self, sealed: bytes) -> bool:
        """Whether the first key sealed this: `secrets rotate` seals the others anew."""
        return self._split(sealed)[0] == self._active

    def _cipher(self, key_id: str, path: SecretPath) -> AESGCM:
        cipher_of = (key_id, path.table, path.column)
        cipher = self._ciphers.get(cipher_of)
        if cipher is None:
            master = self._masters.get(key_id)
            if master is None:
                self._missed[key_id] = time.monotonic()
                raise SecretKeyMissing(
                    f"A secret in {path.table} needs the key {key_id!r} for {path.column}, which "
                    "is missing here.",
                    hint="Add it to POSTHOUSE_SECRET_KEYS (behind the first), or enter the secret "
                    "again.",
                )
            cipher = self._ciphers[cipher_of] = AESGCM(_column_key(master, path.table, path.column))
        return cipher

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
class BoundVault:
    """Seals and opens one secret."""

    _vault: Vault
    _place: SecretPath

    def seal(self, secret: bytes) -> bytes:
        return self._vault.seal(secret, self._place)

    def open(self, sealed: bytes) -> bytes:
        return self._vault.open(sealed, self._place)


def new_key() -> str:
    """A fresh entry for POSTHOUSE_SECRET_KEYS."""
    return str(SecretKey(f"k{os.urandom(3).hex()}", os.urandom(32)))
