"""Webhooks as rows: who is told of alerts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg import errors as pg

from shared.alerts.raised import Template
from shared.errors import Conflict, InvalidInput, NotFound
from shared.storage.pool import Session
from shared.storage.queries import Queries

_QUERIES = Queries("webhooks")

#: Where a webhook's secrets lie: seal and open them at `SecretPath("webhook", column, str(id))`.
WEBHOOK_TABLE: Final = "webhook"
#: (column, row id, plain text) → sealed value: what `Vault.seal` gives for that row.
Seal = Callable[[str, int, str], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Who is told. Its address and signing secret are never part of this value.

    `kinds`: of `shared.alerts.kinds.CHOICES`, none: every kind. `muted_until`: None where it is not
    muted.
    """

    id: int
    name: str
    template: Template
    kinds: tuple[str, ...]
    enabled: bool
    muted_until: datetime | None
    has_secret: bool
    created_at: datetime


def webhooks(session: Session) -> list[Webhook]:
    return [_webhook(row) for row in session.execute(_QUERIES["webhooks"])]


def webhook(session: Session, webhook_id: int) -> Webhook:
    """Raises NotFound."""
    row = session.execute(_QUERIES["webhook"], {"id": webhook_id}).fetchone()
    if row is None:
        raise NotFound(f"There is no webhook {webhook_id}.")
    return _webhook(row)


def create_webhook(
    session: Session,
    *,
    name: str,
    url: str,
    secret: str,
    template: Template,
    seal: Seal,
    kinds: Sequence[str] = (),
    enabled: bool = True,
    muted_until: datetime | None = None,
) -> Webhook:
    """Raises Conflict where the name is taken. An empty `secret` leaves the body unsigned."""
    row = session.execute(_QUERIES["new_webhook_id"]).fetchone()
    assert row is not None
    webhook_id = int(row[0])
    values = {
        "id": webhook_id,
        "name": _named(name),
        "url": seal("url", webhook_id, url),
        "secret": seal("secret", webhook_id, secret) if secret else None,
        "template": template.value,
        "kinds": list(kinds),
        "enabled": enabled,
        "muted_until": muted_until,
    }
    try:
        session.execute(_QUERIES["insert_webhook"], values)
    except pg.UniqueViolation as error:
        raise _taken(name) from error
    return webhook(session, webhook_id)


def update_webhook(
    session: Session,
    webhook_id: int,
    *,
    name: str,
    template: Template,
    kinds: Sequence[str],
    enabled: bool,
    muted_until: datetime | None,
    seal: Seal,
    url: str | None = None,
    secret: str | None = None,
) -> Webhook:
    """None leaves the address or the secret as it is, an empty secret removes it."""
    try:
        session.execute(
            _QUERIES["update_webhook"],
            {
                "id": webhook_id,
                "name": _named(name),
                "template": template.value,
                "kinds": list(kinds),
                "enabled": enabled,
                "muted_until": muted_until,
            },
        )
    except pg.UniqueViolation as error:
        raise _taken(name) from error
    if url is not None:
        sealed = seal("url", webhook_id, url)
        session.execute(_QUERIES["update_webhook_url"], {"id": webhook_id, "url": sealed})
    if secret is not None:
        hidden = seal("secret", webhook_id, secret) if secret else None
        session.execute(_QUERIES["update_webhook_secret"], {"id": webhook_id, "secret": hidden})
    return webhook(session, webhook_id)


def delete_webhook(session: Session, webhook_id: int) -> None:
    """Its lines of the execution log go with it. Raises NotFound."""
    if not session.execute(_QUERIES["delete_webhook"], {"id": webhook_id}).rowcount:
        raise NotFound(f"There is no webhook {webhook_id}.")


def _webhook(row: Sequence[Any]) -> Webhook:
    webhook_id, name, template, kinds, enabled, muted_until, has_secret, created_at = row
    return Webhook(
        id=webhook_id,
        name=name,
        template=Template(template),
        kinds=tuple(kinds),
        enabled=enabled,
        muted_until=muted_until,
        has_secret=has_secret,
        created_at=created_at,
    )


def _named(name: str) -> str:
    if not name.strip():
        raise InvalidInput("A webhook needs a name.", field="name")
    return name.strip()


def _taken(name: str) -> Conflict:
    return Conflict(f"There is a webhook {name!r} already.", hint="Choose another name.")
