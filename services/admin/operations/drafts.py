"""A connection as it would be saved, and its mailbox: opened in bounded time, and left as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from services.admin.context import Context
from services.admin.operations.credentials import refuse_misfit
from services.admin.operations.tag_rights import refuse_beyond
from services.admin.work_progress import say
from shared.connection_editing import ConnectionEdit, edit
from shared.connections import Connection
from shared.errors import InvalidInput
from shared.mailbox.base import Folder, FolderStatus, Mailbox
from shared.microsoft_certificates import client_certificate_of, pem_of
from shared.storage import connections

T = TypeVar("T")


@dataclass(slots=True)
class Progress:
    """How far the work got, for when nobody can wait any longer."""

    step: str = ""
    status: FolderStatus | None = None
    transcript: Sequence[str] = field(default_factory=tuple)


def draft(
    ctx: Context, changes: Mapping[str, Any], connection_id: int | None = None
) -> ConnectionEdit:
    """A connection as it would be saved; nothing is. A name is not needed yet.

    With `connection_id` it is that connection, changed, with its stored password unless another
    is given.
    """
    values = dict(changes)
    if connection_id is None:
        values.setdefault("name", "not saved yet")
        if values["name"] == "":
            values["name"] = "not saved yet"
        made = checked_edit(None, values)
        if made.connection.credential_id is not None or made.connection.certificate_ids:
            refuse_beyond(ctx, None, made.connection)
        with ctx.transaction() as session:
            refuse_misfit(session, made.connection)
        return made
    with ctx.transaction() as session:
        before = connections.get(session, connection_id)
        made = checked_edit(before, values)
        refuse_beyond(ctx, before, made.connection)  # first: the other one names the credential
        refuse_misfit(session, made.connection)
    refuse_moved_password(before, made)
    return made


def checked_edit(current: Connection | None, changes: Mapping[str, Any]) -> ConnectionEdit:
    """`edit`, with a client certificate that belongs to its key. Raises InvalidInput."""
    wanted = edit(current, changes)
    if wanted.client_certificate:
        client_certificate_of(pem_of(wanted.client_certificate))
    return wanted


def folders(
    ctx: Context, changes: Mapping[str, Any] | None = None, connection_id: int | None = None
) -> list[Folder]:
    """The folders of the mailbox, to pick one from. Raises what opening the mailbox raises."""
    wanted = draft(ctx, changes or {}, connection_id)
    kind = wanted.connection.kind
    if not kind.has_folders:
        raise InvalidInput(f"{kind.title} knows no folders.", field="folder")

    def listed(mailbox: Mailbox) -> list[Folder]:
        say("Logged in. Listing the folders…")
        return mailbox.folders()

    found = with_mailbox(ctx, wanted, Progress(), listed)
    return sorted(found, key=lambda folder: folder.name.casefold())


def with_mailbox(
    ctx: Context,
    wanted: ConnectionEdit,
    progress: Progress,
    use: Callable[[Mailbox], T],
    *,
    seconds: float | None = None,
) -> T:
    """What `use` finds in the mailbox, within `seconds` (as `MailServerWork.run`). Who waits is
    told how far it is."""

    def work() -> T:
        say(f"Connecting to {wanted.connection.endpoint[0]}…")
        mailbox = ctx.app_state.open_mailbox(
            wanted.connection,
            wanted.password or None,
            client_certificate=pem_of(wanted.client_certificate)
            if wanted.client_certificate
            else None,
        )
        try:
            say("Logged in. Opening the mailbox…")
            return use(mailbox)
        finally:
            progress.transcript = tuple(mailbox.transcript)
            mailbox.close()

    return ctx.app_state.mail_server_work.run(work, seconds)


def refuse_moved_password(stored: Connection | None, wanted: ConnectionEdit) -> None:
    """A stored password goes to the server it was stored for, and to no other one."""
    now = wanted.connection
    if stored is None or wanted.password or not now.has_password:
        return
    weaker = (stored.verify_certificate, stored.security) != (now.verify_certificate, now.security)
    if stored.endpoint != now.endpoint or weaker or stored.ca_certificate != now.ca_certificate:
        raise InvalidInput(
            "Enter the password again: it was stored for another server.",
            field="password",
            hint="Otherwise whoever may edit connections could have it sent to any server.",
        )
