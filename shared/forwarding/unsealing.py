"""Opens the secrets of a forward."""

from __future__ import annotations

import json

from shared.forwards import Endpoint
from shared.storage.forwards import SealedForward
from shared.vault import (
    Vault,
    former_signing_key_path,
    forward_path,
    signing_key_path,
)


def open_endpoint(sealed: SealedForward, vault: Vault) -> Endpoint:
    """The endpoint as it is spoken to. Raises SecretUnreadable, SecretKeyMissing."""

    def opened(column: str, value: bytes | None) -> str:
        if value is None:
            return ""
        return vault.open(value, forward_path(column, sealed.handler_id)).decode()

    secrets = (opened("secret", sealed.secret), opened("former_secret", sealed.former_secret))
    return Endpoint(
        kind=sealed.kind,
        address=opened("address", sealed.address),
        options=sealed.options,
        secrets=tuple(secret for secret in secrets if secret),
        headers=json.loads(opened("headers", sealed.headers) or "{}"),
        client_certificate=opened("client_certificate", sealed.client_certificate),
        credentials=json.loads(opened("credentials", sealed.credentials) or "{}"),
        link_key=vault.open(sealed.link_key, forward_path("link_key", sealed.handler_id)),
    )


def open_signing_keys(sealed: SealedForward, vault: Vault) -> list[str]:
    """The keys that the handler's events are signed with, the present one first. Raises as
    `open_endpoint` does."""
    sealed_keys = (
        (sealed.signing_key, signing_key_path),
        (sealed.former_signing_key, former_signing_key_path),
    )
    return [
        vault.open(key, path(sealed.handler_id)).decode()
        for key, path in sealed_keys
        if key is not None
    ]
