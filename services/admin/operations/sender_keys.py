"""Senders whose signatures count without a trust anchor: their certificates and OpenPGP keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from services.admin.context import Context
from shared import input_fields as typed
from shared.certificates.senders import (
    ParsedSender,
    is_revoked,
    merge_newer_copy,
    parse_sender_upload,
)
from shared.errors import NameTaken
from shared.storage import sender_keys
from shared.storage.sender_keys import SenderKey


def list_sender_keys(ctx: Context) -> Sequence[SenderKey]:
    """All of them, by name."""
    with ctx.transaction() as session:
        found = sender_keys.sender_keys(session)
    return [
        dataclasses.replace(one, revoked=is_revoked(one.kind, one.certificate)) for one in found
    ]


def add_sender_keys(ctx: Context, data: bytes, *, name: str = "") -> Sequence[int]:
    """Adds every certificate or OpenPGP key of a file; returns their ids.

    The name is the first address where none is given. An OpenPGP key that is known gets what a
    newer copy adds to it, and keeps its name where none is given. Raises InvalidInput where one of
    them could never make a signature count, NameTaken where it is there and nothing is new.
    """
    wanted = typed.text("name", name, 0, 200)
    new: list[int] = []
    senders = parse_sender_upload(data)
    with ctx.transaction() as session:
        for given in senders:
            known = {one.fingerprint: one for one in sender_keys.sender_keys(session)}
            there = known.get(given.fingerprint)
            sender = given if there is None else _newer(there, given)
            named = wanted or (there.name if there else sender.emails[0][:200])
            values = dataclasses.asdict(sender) | {"name": named}
            if there is not None:
                sender_keys.delete_sender_key(session, there.id)
            added = sender_keys.insert_sender_key(session, **values)
            after = {field: value for field, value in values.items() if field != "certificate"}
            after["emails"] = list(sender.emails)
            if there is None:
                ctx.record(session, "create", f"sender-key/{added}", after=after)
            else:
                before = {field: getattr(there, field) for field in after}
                ctx.record(session, "change", f"sender-key/{added}", before, after)
            new.append(added)
    return new


def _newer(there: SenderKey, given: ParsedSender) -> ParsedSender:
    newer = merge_newer_copy(there.certificate, given)
    if newer is None:
        raise NameTaken(
            f"This sender is known already, as {there.name!r}.",
            hint="The file has nothing that is new.",
        )
    return newer


def delete_sender_key(ctx: Context, sender_id: int) -> None:
    """Raises NotFound."""
    with ctx.transaction() as session:
        name = sender_keys.delete_sender_key(session, sender_id)
        ctx.record(session, "delete", f"sender-key/{sender_id}", before={"name": name})
