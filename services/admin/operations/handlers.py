"""Handlers: who takes which connections' mails, and how far behind they are."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from services.admin.auth.tokens import digest_of, new_signing_key, new_token
from services.admin.context import Context
from services.admin.operations.edit_conflicts import check_version
from services.admin.operations.forwards import set_forward
from shared.errors import Conflict, InvalidInput, NeedsPerson, NotFound, TryAgain
from shared.forwards import Forward
from shared.handlers import Handler, edit
from shared.quantities import counted
from shared.queueing.output import BrokerAccount
from shared.rules.ruleset import Rules
from shared.storage import connections, forwards, handler_queues, handlers, scheduling
from shared.storage.handler_queues import HeldMail, WaitingMail
from shared.storage.handlers import QueueState
from shared.storage.pool import Session
from shared.vault import former_signing_key_path, signing_key_path


@dataclass(frozen=True, slots=True)
class HandlerView:
    """A handler with its queue. `waiting` counts mails that are still to be published to it.

    `token`, `signing_key` and `forward_secret` are set once, in the answer that made them.
    """

    handler: Handler
    queue: QueueState
    waiting: int = 0
    token: str | None = None
    signing_key: str | None = None
    #: Where its events are passed on to; None: its program consumes the queue.
    forward: Forward | None = None
    #: Events wait that the endpoint did not take, and it did not take the last one either.
    forward_fails: bool = False
    forward_secret: str | None = None


@dataclass(frozen=True, slots=True)
class AtWork:
    """Of a handler that does not keep up: the mails in its consumers' hands, and those that wait
    longest. Where the broker does not tell which are in hand, these are among the latter."""

    in_hand: Sequence[HeldMail]
    waiting: Sequence[WaitingMail]


def whose_token(ctx: Context) -> Handler:
    """The handler whose token asks. Raises NotFound where a person asks."""
    if ctx.principal.handler_id is None:
        raise NotFound(
            "This is not a handler's token.",
            hint="Ask with the token that Posthouse showed when the handler was made.",
        )
    with ctx.transaction() as session:
        return handlers.get(session, ctx.principal.handler_id)


def search_handlers(ctx: Context, q: str = "") -> Sequence[HandlerView]:
    """All whose name or description holds `q`, by name."""
    with ctx.transaction() as session:
        found = handlers.search(session, q)
        queues = handlers.queues(session, [handler.id for handler in found])
        waiting = handlers.waiting(session)
        forwarded = forwards.of_handlers(session, [handler.id for handler in found])
        failing = forwards.failing(session, list(forwarded))
    return [
        HandlerView(
            h,
            queues[h.id],
            waiting.get(h.id, 0),
            forward=forwarded.get(h.id),
            forward_fails=h.id in failing,
        )
        for h in found
    ]


def get_handler(ctx: Context, handler_id: int) -> HandlerView:
    """Raises NotFound."""
    with ctx.transaction() as session:
        return _see(session, handler_id)


def work_in_hand(ctx: Context, handler_id: int) -> AtWork:
    """What a handler has in hand and what waits longest, when its queue was looked at last."""
    with ctx.transaction() as session:
        waiting = handler_queues.oldest_waiting(session, handler_id)
        return AtWork(handler_queues.in_hand(session, handler_id), waiting)


def create_handler(ctx: Context, changes: Mapping[str, Any]) -> HandlerView:
    """Raises InvalidInput, NameTaken. The answer holds token and signing key, once."""
    forward = _forward_of(changes)
    handler = edit(None, _own(changes))
    token, key = new_token(), new_signing_key()
    with ctx.transaction() as session:
        check_connections(session, handler.rules)
        new = handlers.insert(session, handler)
        handlers.write_token(session, new, digest_of(token))
        handlers.write_signing_keys(session, new, _sealed(ctx, new, key), None)
        scheduling.make_due_for_handler(session, new)
        secret = None if forward is None else set_forward(ctx, session, new, forward)
        view = _see(session, new)
        ctx.record(session, "create", f"handler/{new}", after=_audited(view))
        return replace(view, token=token, signing_key=key, forward_secret=secret)


def update_handler(ctx: Context, handler_id: int, changes: Mapping[str, Any]) -> HandlerView:
    """Raises NotFound, InvalidInput. The answer holds the secret of a new forward, once."""
    secret = None
    with ctx.transaction() as session:
        before = handlers.get(session, handler_id, lock=True)
        check_version(ctx, session, f"handler/{handler_id}", before)
        seen_before = _see(session, handler_id)
        after = edit(before, _own(changes))
        if after.rules != before.rules:
            check_connections(session, after.rules)
        handlers.update(session, after)
        if "forward" in changes:
            secret = set_forward(ctx, session, handler_id, _forward_of(changes))
        if not before.enabled or before.connection_ids != after.connection_ids:
            scheduling.make_due_for_handler(session, handler_id)
        view = _see(session, handler_id)
        ctx.record(
            session,
            "change",
            f"handler/{handler_id}",
            _audited(seen_before),
            _audited(replace(view, handler=after)),
        )
        return replace(view, forward_secret=secret)


def renew_token(ctx: Context, handler_id: int) -> HandlerView:
    """A new token for the handler; the old one stops working at once."""
    token = new_token()
    with ctx.transaction() as session:
        handlers.get(session, handler_id, lock=True)
        handlers.write_token(session, handler_id, digest_of(token))
        ctx.record(session, "renew token", f"handler/{handler_id}")
        return replace(_see(session, handler_id), token=token)


def renew_signing_key(ctx: Context, handler_id: int) -> HandlerView:
    """A new signing key. Events are signed with it and with the one before, until that is ended.

    Raises NotFound, SecretUnreadable.
    """
    key = new_signing_key()
    vault = ctx.app_state.vault
    with ctx.transaction() as session:
        handlers.get(session, handler_id, lock=True)
        before = handlers.signing_key(session, handler_id)
        former = None
        if before is not None:
            opened = vault.open(before, signing_key_path(handler_id))
            former = vault.seal(opened, former_signing_key_path(handler_id))
        handlers.write_signing_keys(session, handler_id, _sealed(ctx, handler_id, key), former)
        ctx.record(session, "renew signing key", f"handler/{handler_id}")
        return replace(_see(session, handler_id), signing_key=key)


def make_broker_account(ctx: Context, handler_id: int) -> BrokerAccount:
    """An account of the broker for the handler's program alone; its password is new.

    Asks the broker. Raises NotFound, TryAgain, NeedsPerson.
    """
    with ctx.transaction() as session:
        name = handlers.get(session, handler_id).name
    account = ctx.app_state.output.make_account(name, secrets.token_urlsafe(24))
    with ctx.transaction() as session:
        made = {"user": account.user, "made": account.made}
        ctx.record(session, "make broker account", f"handler/{handler_id}", after=made)
    return account


def end_former_signing_key(ctx: Context, handler_id: int) -> HandlerView:
    """Events are signed with the present key alone from now on. Raises NotFound."""
    with ctx.transaction() as session:
        handlers.get(session, handler_id, lock=True)
        present = handlers.signing_key(session, handler_id)
        handlers.write_signing_keys(session, handler_id, present, None)
        ctx.record(session, "end former signing key", f"handler/{handler_id}")
        return _see(session, handler_id)


def delete_handler(ctx: Context, handler_id: int, *, force: bool = False) -> None:
    """Raises NotFound; Conflict while events wait for it, unless `force`."""
    with ctx.transaction() as session:
        view = _see(session, handler_id)
        left = view.queue.backlog + view.waiting
        if left and not force:
            raise Conflict(
                f"{counted(left, 'mail waits', 'mails wait')} for this handler.",
                hint="Let it work them off (disable it so that no more come), or delete it with "
                "force=true: then they are not handed over to it.",
                code="in-use",
            )
        handlers.delete(session, handler_id)
        ctx.record(session, "delete", f"handler/{handler_id}", before=view.handler)
    with suppress(TryAgain, NeedsPerson):  # the account opens nothing that is filled any more
        ctx.app_state.output.remove_account(view.handler.name)


def _own(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if name != "forward"}


def _forward_of(changes: Mapping[str, Any]) -> Mapping[str, Any] | None:
    forward = changes.get("forward")
    if forward is not None and not isinstance(forward, Mapping):
        raise InvalidInput("'forward' is an object, or null.", field="forward")
    return forward


def _audited(view: HandlerView) -> dict[str, Any]:
    """A handler and its forward as the audit log has them; neither holds a secret."""
    fields = {name: getattr(view.handler, name) for name in Handler.__slots__}
    if view.forward is None:
        return fields
    plain = {name: getattr(view.forward, name) for name in Forward.__slots__ if name != "options"}
    return fields | {"forward": plain | view.forward.options.to_json()}


def check_connections(session: Session, rules: Rules) -> None:
    """A rule over a connection that is not there would never hold: a slip of the pen. In an
    expression a name in another case is one that is not there."""
    for location, name in rules.named_connections:
        found = connections.by_name(session, name)
        if found is None or (location == ("expression",) and found.name != name):
            names = connections.names(session).values()
            near = [found.name] if found else get_close_matches(name, names, 1)
            hint = f"Did you mean {near[0]!r}?" if near else ""
            raise InvalidInput(f"There is no connection {name!r}.", field="rules", hint=hint)


def _sealed(ctx: Context, handler_id: int, key: str) -> bytes:
    return ctx.app_state.vault.seal(key.encode(), signing_key_path(handler_id))


def _see(session: Session, handler_id: int) -> HandlerView:
    handler = handlers.get(session, handler_id)
    waiting = handlers.waiting(session).get(handler_id, 0)
    return HandlerView(
        handler,
        handlers.queues(session, [handler_id])[handler_id],
        waiting,
        forward=forwards.of_handler(session, handler_id),
        forward_fails=bool(forwards.failing(session, [handler_id])),
    )
