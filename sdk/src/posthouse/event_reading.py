"""The fields of an event, read tolerantly: a missing one has its default."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from posthouse.event_data import (
    Layer,
    Redelivery,
    Revocation,
    Security,
)

_LAYER = ("kind", "format", "verdict", "signer", "covers")


def read_security(fields: Mapping[str, Any]) -> Security:
    """The findings (`data.security`); every field of them stays in `details`."""
    return Security(
        encrypted=bool(fields.get("encrypted")),
        status=text_of(fields.get("status")) or "none",
        certificate=text_of(fields.get("certificate")),
        integrity=text_of(fields.get("integrity")) or "none",
        signature=text_of(fields.get("signature")) or "none",
        signer=text_of(fields.get("signer")),
        reason=text_of(fields.get("reason")),
        layers=tuple(
            Layer(*(text_of(one.get(name)) for name in _LAYER))
            for one in fields.get("layers") or ()
            if isinstance(one, Mapping)
        ),
        revocation=_read_revocation(fields.get("revocation")),
        details=dict(fields),
    )


def read_redelivery(fields: Any) -> Redelivery | None:
    """Why the event comes once more (`data.redelivery`). Raises ValueError, KeyError."""
    if not isinstance(fields, Mapping):
        return None
    at = datetime.fromisoformat(fields["time"])
    return Redelivery(int(fields["count"]), at, text_of(fields.get("reason")))


def _read_revocation(fields: Any) -> Revocation | None:
    if not isinstance(fields, Mapping):
        return None
    as_of, revoked_at = text_of(fields.get("as_of")), text_of(fields.get("revoked_at"))
    return Revocation(
        status=text_of(fields.get("status")) or "not-checked",
        source=text_of(fields.get("source")),
        as_of=datetime.fromisoformat(as_of) if as_of else None,
        reason=text_of(fields.get("reason")),
        revoked_at=datetime.fromisoformat(revoked_at) if revoked_at else None,
    )


def text_of(value: Any) -> str:
    """Tolerant of null and of numbers; a structure where text belongs is shown as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def texts_of(value: Sequence[Any] | str | None) -> tuple[str, ...]:
    """A list of texts, or one text alone."""
    if not value:
        return ()
    return (value,) if isinstance(value, str) else tuple(text_of(item) for item in value)
