"""Forwards: where a handler's events are passed on to, the log of it, pause and resume."""

from __future__ import annotations

import json
import secrets as random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from posthouse.event_data import Connection
from posthouse.testing import make_event
from services.admin.context import Context
from shared.alerts.handlers import ForwardPaused, ForwardResumed
from shared.allowed_hosts import HostRules
from shared.errors import Conflict, NotFound
from shared.forward_editing import edit
from shared.forward_kinds import KINDS
from shared.forwarding.endpoint_clients import open_endpoint_client
from shared.forwarding.event_size import fitted
from shared.forwarding.outcome import ForwardOutcome
from shared.forwarding.unsealing import open_endpoint
from shared.forwards import Endpoint, Forward, Secrets
from shared.storage import alerts, forwards, handlers
from shared.storage.forwards import ForwardAttempt
from shared.storage.pool import Session
from shared.vault import forward_path
from shared.webhook_signatures import new_secret

_PERSON_PAUSED: Final = "Somebody paused it."


def set_forward(
    ctx: Context, session: Session, handler_id: int, changes: Mapping[str, Any] | None
) -> str | None:
    """What the field `forward` of a handler asks for; None ends it. Returns the signing secret
    where one was made, to be shown once. Raises InvalidInput."""
    before = forwards.of_handler(session, handler_id, lock=True)
    if changes is None:
        forwards.delete(session, handler_id)
        return None
    after, secrets = edit(before, changes)
    made = None
    if KINDS[after.kind].signs and not secrets.secret and not (before and before.has_secret):
        made = new_secret()
        secrets = replace(secrets, secret=made)
    if before is None:
        address = _sealed(ctx, handler_id, "address", str(secrets.address))
        key = ctx.app_state.vault.seal(random.token_bytes(32), forward_path("link_key", handler_id))
        forwards.insert(session, handler_id, after, address=address, link_key=key)
    else:
        forwards.change(session, handler_id, after)
    _write(ctx, session, handler_id, secrets)
    return made


def renew_secret(ctx: Context, handler_id: int) -> str:
    """A new signing secret. What is sent is signed with it and with the one before, until that is
    ended. Raises NotFound, SecretUnreadable, Conflict where nothing is signed."""
    secret = new_secret()
    vault = ctx.app_state.vault
    with ctx.transaction() as session:
        kind = KINDS[_of(session, handler_id, lock=True).kind]
        if not kind.signs:
            raise Conflict(f"Nothing is signed on its way to {kind.title}.")
        before = forwards.secret(session, handler_id)
        former = None
        if before is not None:
            opened = vault.open(before, forward_path("secret", handler_id))
            former = vault.seal(opened, forward_path("former_secret", handler_id))
        present = _sealed(ctx, handler_id, "secret", secret)
        forwards.write_secrets(session, handler_id, present, former)
        ctx.record(session, "renew forward secret", f"handler/{handler_id}")
    return secret


def end_former_secret(ctx: Context, handler_id: int) -> None:
    """What is sent is signed with the present secret alone from now on. Raises NotFound."""
    with ctx.transaction() as session:
        _of(session, handler_id, lock=True)
        forwards.write_secrets(session, handler_id, forwards.secret(session, handler_id), None)
        ctx.record(session, "end former forward secret", f"handler/{handler_id}")


def pause(ctx: Context, handler_id: int, reason: str = "") -> None:
    """Nothing is sent any more; its mails wait in the queue. Raises NotFound, Conflict."""
    with ctx.transaction() as session:
        _of(session, handler_id)
        if not forwards.pause(session, handler_id, ctx.principal.name, reason or _PERSON_PAUSED):
            raise Conflict("It is paused already.")
        ctx.record(session, "pause forward", f"handler/{handler_id}", after={"reason": reason})


def resume(ctx: Context, handler_id: int) -> None:
    """What waits is sent from now on. Raises NotFound, Conflict."""
    with ctx.transaction() as session:
        forward = _of(session, handler_id)
        if not forwards.resume(session, handler_id):
            raise Conflict("It is not paused.")
        name = handlers.get(session, handler_id).name
        paused = ForwardPaused(handler_id=handler_id, name=name, place="", reason="")
        if alerts.end_episode(session, paused.dedupe):
            resumed = ForwardResumed(handler_id=handler_id, name=name, place=forward.place)
            alerts.raise_transition(session, resumed)
        ctx.record(session, "resume forward", f"handler/{handler_id}")


def attempts(
    ctx: Context,
    handler_id: int,
    *,
    before: int | None = None,
    outcome: str = "",
    limit: int = 50,
) -> Sequence[ForwardAttempt]:
    """The delivery log, newest first. Raises NotFound."""
    with ctx.transaction() as session:
        handlers.get(session, handler_id)
        return forwards.attempts(session, handler_id, before=before, outcome=outcome, limit=limit)


def send_test(
    ctx: Context, handler_id: int | None, changes: Mapping[str, Any] | None = None
) -> ForwardOutcome:
    """Sends one made-up event, once: to what is saved, changed by `changes`, which are not saved.

    Without a saved secret it is signed with the one given, else with one that nobody has. Raises
    NotFound, InvalidInput, SecretUnreadable, Refused where certificates cannot be read.
    """
    endpoint = _endpoint(ctx, handler_id, changes)
    event = make_event(
        subject="Test of Posthouse",
        sender="test@posthouse.example",
        sender_name="Posthouse",
        text="This is a test: no mail is behind it.\n",
        connection=Connection(0, "Test", "imap", "test@posthouse.example"),
        sequence=0,
        id=str(uuid.uuid4()),
    )
    settings = ctx.app_state.settings
    client = open_endpoint_client(endpoint, HostRules.of(settings))
    try:
        body = fitted(event.to_json(), event.id, endpoint, handler_id or 0, settings.public_url)
        outcome = client.send(event.id, body)
    finally:
        client.close()
    with ctx.transaction() as session:
        subject = f"handler/{handler_id}" if handler_id else "handler/new"
        ctx.record(session, "test forward", subject, after={"status": outcome.status})
    return outcome


def _endpoint(ctx: Context, handler_id: int | None, changes: Mapping[str, Any] | None) -> Endpoint:
    saved: Endpoint | None = None
    current: Forward | None = None
    if handler_id is not None:
        with ctx.transaction() as session:
            handlers.get(session, handler_id)
            current = forwards.of_handler(session, handler_id)
            for sealed in forwards.sealed(session, handler_id):
                saved = open_endpoint(sealed, ctx.app_state.vault)
    if not changes and saved is not None:
        return saved
    after, secrets = edit(current, changes or {})
    base = saved or Endpoint(kind=after.kind, address="", link_key=random.token_bytes(32))
    chosen = (secrets.secret,) if secrets.secret else base.secrets or (new_secret(),)
    return replace(
        base,
        kind=after.kind,
        options=after.options,
        address=base.address if secrets.address is None else secrets.address,
        secrets=chosen,
        headers=base.headers if secrets.headers is None else secrets.headers,
        client_certificate=base.client_certificate
        if secrets.client_certificate is None
        else secrets.client_certificate,
        credentials=base.credentials if secrets.credentials is None else secrets.credentials,
    )


def _write(ctx: Context, session: Session, handler_id: int, secrets: Secrets) -> None:
    if secrets.address is not None:
        sealed = _sealed(ctx, handler_id, "address", secrets.address)
        forwards.write_address(session, handler_id, sealed)
    if secrets.secret is not None:
        sealed = _sealed(ctx, handler_id, "secret", secrets.secret)
        forwards.write_secrets(session, handler_id, sealed, None)
    if secrets.headers is not None:
        text = json.dumps(dict(secrets.headers))
        given = _sealed(ctx, handler_id, "headers", text) if secrets.headers else None
        forwards.write_headers(session, handler_id, given)
    if secrets.client_certificate is not None:
        pem = secrets.client_certificate
        given = _sealed(ctx, handler_id, "client_certificate", pem) if pem else None
        forwards.write_client_certificate(session, handler_id, given)
    if secrets.credentials is not None:
        text = json.dumps(dict(secrets.credentials))
        given = _sealed(ctx, handler_id, "credentials", text) if secrets.credentials else None
        forwards.write_credentials(session, handler_id, given)


def _of(session: Session, handler_id: int, *, lock: bool = False) -> Forward:
    found = forwards.of_handler(session, handler_id, lock=lock)
    if found is None:
        raise NotFound(f"Handler {handler_id} is not forwarded.")
    return found


def _sealed(ctx: Context, handler_id: int, column: str, text: str) -> bytes:
    return ctx.app_state.vault.seal(text.encode(), forward_path(column, handler_id))
