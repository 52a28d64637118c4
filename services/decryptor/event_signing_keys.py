"""The keys that events are signed with, as the ledger keeps them: sealed."""

from __future__ import annotations

from shared.storage.deliveries import DeliveryTarget
from shared.vault import Vault, former_signing_key_path, signing_key_path

#: Opened keys that are kept, so that a batch does not open them once a mail.
_KEPT = 4096


class EventSigningKeys:
    """Opens handlers' signing keys. Thread-safe."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._opened: dict[tuple[int, bytes], str] = {}

    def keys_of(self, target: DeliveryTarget) -> list[str]:
        """The present key, and the former one in a renewal. Raises SecretUnreadable,
        SecretKeyMissing."""
        sealed_keys = (
            (target.signing_key, signing_key_path),
            (target.former_signing_key, former_signing_key_path),
        )
        keys = []
        for sealed, path in sealed_keys:
            if sealed is None:
                continue
            known = self._opened.get((target.handler_id, sealed))
            if known is None:
                known = self._vault.open(sealed, path(target.handler_id)).decode()
                if len(self._opened) >= _KEPT:
                    self._opened.clear()
                self._opened[target.handler_id, sealed] = known
            keys.append(known)
        return keys
