"""The private keys and trust anchors that mails of a connection are opened with."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import structlog

from services.decryptor.revocation import Revocations
from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex
from shared.errors import InvalidInput, PosthouseError, SecretUnreadable
from shared.revocations import Mode
from shared.storage import certificates, revocations
from shared.storage.certificates import SealedKey
from shared.storage.pool import Database, Session
from shared.storage.revocations import KnownRevocation, Version
from shared.storage.sender_keys import sender_certificates
from shared.vault import SecretPath, Vault

_log = structlog.get_logger(__name__)

#: Sets of certificates whose keys stay loaded: loading a key costs more than opening a mail.
_LOADED = 256
#: Seconds until new trust anchors count, and what was learned of revocations.
_TRUST_FRESH = 30.0


class Keyring:
    """Loads keys once for each version of a connection's certificates. Thread-safe."""

    def __init__(
        self, database: Database, vault: Vault, *, system_trust: bool, revocation: Mode = "off"
    ) -> None:
        self._database = database
        self._vault = vault
        self._system_trust = system_trust
        self._lock = threading.Lock()
        self._loaded: OrderedDict[tuple[object, ...], IdentityIndex] = OrderedDict()
        self._trust: tuple[float, TrustStore] | None = None
        self._revocation: Mode = revocation
        self._known: tuple[Version, list[KnownRevocation]] = (Version(0, None), [])

    def identities(self, certificate_ids: Sequence[int]) -> IdentityIndex:
        """Every key of these certificates that can be read; a broken one is logged and left out.

        Raises SecretKeyMissing where another decryptor may open what this one cannot.
        """
        if not certificate_ids:
            return IdentityIndex()
        with self._database.transaction() as session:
            found = certificates.get_many(session, certificate_ids)
            version = tuple((item.id, item.updated_at) for item in found)
            with self._lock:
                index = self._loaded.get(version)
                if index is not None:
                    self._loaded.move_to_end(version)
                    return index
            sealed = certificates.sealed_keys(session, [item.id for item in found])
        index = self._load(sealed)
        with self._lock:
            self._loaded[version] = index
            while len(self._loaded) > _LOADED:
                self._loaded.popitem(last=False)
        return index

    def trust(self) -> TrustStore:
        with self._lock:
            if self._trust is not None and time.monotonic() - self._trust[0] < _TRUST_FRESH:
                return self._trust[1]
        with self._database.transaction() as session:
            anchors = certificates.trust_anchor_ders(session)
            senders = sender_certificates(session)
            known = self._known_revocations(session)
        store = TrustStore.load(
            anchors,
            senders,
            system=self._system_trust,
            revocations=Revocations(known, mode=self._revocation),
        )
        with self._lock:
            self._trust = (time.monotonic(), store)
        return store

    def note_signers(self, trust: TrustStore) -> None:
        """Says which new certificates mails were believed by, as `trust` noted them. Never raises:
        a mail does not wait for what is only to be learned about its signer."""
        noted = trust.revocations.taken()
        if not noted:
            return
        try:
            with self._database.transaction() as session:
                revocations.note(session, noted)
        except PosthouseError as error:
            _log.warning("certificates of signers not noted", error=str(error))

    def _known_revocations(self, session: Session) -> list[KnownRevocation]:
        """All that is known, read anew where something changed."""
        if self._revocation == "off":
            return []
        version = revocations.version(session)
        if version != self._known[0]:
            self._known = (version, revocations.known(session))
        return self._known[1]

    def _load(self, sealed: Sequence[SealedKey]) -> IdentityIndex:
        readable: list[tuple[str, Literal["smime", "openpgp"], bytes, bytes]] = []
        for key in sealed:
            path = SecretPath("certificate", "private_key", str(key.id))
            try:
                private = self._vault.open(key.private_key, path)
                kind: Literal["smime", "openpgp"] = "openpgp" if key.kind == "openpgp" else "smime"
                IdentityIndex.load([(str(key.id), kind, key.certificate, private)])
            except (SecretUnreadable, InvalidInput) as error:
                _log.error("certificate not usable", certificate=key.id, error=str(error))
                continue
            readable.append((str(key.id), kind, key.certificate, private))
        return IdentityIndex.load(readable)
