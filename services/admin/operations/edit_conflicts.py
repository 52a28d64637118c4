"""Two people who change one thing see it: a change may say which version it was made of.

A version is an entity tag (RFC 9110 section 8.8.3) of what can be edited. The API gives it as
`ETag` and takes it as `If-Match`, forms carry it in a hidden field.
"""

from __future__ import annotations

from dataclasses import asdict
from hashlib import blake2b
from typing import Final

from services.admin.context import Context
from shared.connections import Connection
from shared.credentials import Credential
from shared.errors import ChangedMeanwhile
from shared.handlers import Handler
from shared.people import Person
from shared.storage import audit
from shared.storage.audit import Entry
from shared.storage.pool import Session
from shared.storage.webhooks import Webhook

Versioned = Connection | Credential | Handler | Person | Webhook
#: What changes without anybody changing it.
_BY_ITSELF: Final = frozenset({"last_login_at"})


#: Entries of the audit log that are looked through for the last change: others are tests.
_LOOKED_THROUGH: Final = 10


def version_of(value: Versioned) -> str:
    """16 hexadecimal digits that are others once somebody changed it."""
    fields = {name: one for name, one in asdict(value).items() if name not in _BY_ITSELF}
    return blake2b(repr(fields).encode(), digest_size=8).hexdigest()


def check_version(ctx: Context, session: Session, subject: str, stored: Versioned) -> None:
    """Raises ChangedMeanwhile where the request is about another version than the stored one."""
    if ctx.expected and ctx.expected != version_of(stored):
        raise changed_meanwhile(session, subject, named=True)


def changed_meanwhile(session: Session, subject: str, *, named: bool = False) -> ChangedMeanwhile:
    """The error that says who changed it last, when, and what, as the audit log has it."""
    entries = audit.entries(session, subject=subject, limit=_LOOKED_THROUGH)
    last = next((entry for entry in entries if entry.after is not None), None)
    return ChangedMeanwhile(
        f"{_sentence(last) if last else 'Somebody else changed this'}, after you had opened it.",
        hint="Look at it, then save again: that puts what you entered in its place.",
        named=named,
    )


def _sentence(entry: Entry) -> str:
    before, after = entry.before or {}, entry.after or {}
    names = [name for name in after if name not in ("updated_at", "created_at")][:5]
    changes = ", ".join(f"{name} from {before.get(name)!r} to {after[name]!r}" for name in names)
    done = "changed this" if entry.action == "change" else f"did “{entry.action}” here"
    when = f"{entry.actor} {done} at {entry.at:%Y-%m-%d %H:%M} UTC"
    return f"{when} ({changes[:600]})" if changes else when
