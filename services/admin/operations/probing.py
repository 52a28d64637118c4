"""Looking at a mailbox without changing anything: test, estimate, folders.

These are the only operations that contact a mail server. Each is bounded in time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import structlog

from services.admin.context import Context
from services.admin.operations.credentials import refuse_misfit
from services.admin.operations.warnings import Warning, of_server, warnings_of
from shared.client_certificates import client_certificate_of, pem_of
from shared.connections import Connection, ConnectionEdit, edit
from shared.errors import InvalidInput, PosthouseError
from shared.mailbox.base import Capabilities, Folder, FolderStatus, Listing, Mailbox
from shared.mailbox.failures import FolderMissing
from shared.mailbox.start_rules import start_refusal
from shared.messages import Key
from shared.storage import audit, connections, labels, quarantine, scheduling
from shared.storage.known import KnownMails
from shared.storage.pool import Session

_log = structlog.get_logger(__name__)

T = TypeVar("T")
#: Tests of one connection or host by the same person within this time are one audit entry.
_SAME_TEST: Final = timedelta(minutes=1)
#: The steps of a test as people read them; each kind has its own (`Kind.steps`).
STEPS: Final[Mapping[str, str]] = {
    "authorisation": "Get a token",
    "dns": "Find the server",
    "tcp": "Connect",
    "tls": "Encrypt",
    "greeting": "Greet",
    "login": "Log in",
    "folder": "Open the folder",
}
_BY_LABEL: Final = (
    "Mails that came through another label of this Gmail account are counted; they are not "
    "handed over again."
)
_RECREATED: Final = (
    "The folder was re-created since the last run (another UIDVALIDITY), so every mail counts as "
    "new. A run recognises those that were handed over by their content and hands none over again."
)
_NUMBERED_ANEW: Final = (
    "The server numbered the mails of this same folder anew since the last run (another "
    "UIDVALIDITY, the same MAILBOXID), so every mail counts as new. A run recognises those that "
    "were handed over by their content and hands none over again."
)
_ANOTHER: Final = (
    "Another folder has this name since the last run (another MAILBOXID): it was re-created, or a "
    "folder was renamed to it, so every mail counts as new. A run recognises those that were "
    "handed over by their content and hands none of them over again; the others are new."
)
_SAME_STEP: Final = {"list": "folder", "download": "folder", "settle": "folder"}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a test. `status` is `ok`, `failed` or `skipped`."""

    name: str
    title: str
    status: str
    text: str = ""
    hint: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestReport:
    """What a test found. `unread` is None where the protocol has no read flag.

    `log` holds the last lines of the protocol, without secrets; `near` folders whose names look
    like one that does not exist.
    """

    __test__ = False

    ok: bool
    steps: tuple[Step, ...]
    server: str = ""
    folder: str = ""
    total: int | None = None
    unread: int | None = None
    capabilities: Capabilities | None = None
    near: tuple[str, ...] = ()
    warnings: tuple[Warning, ...] = ()
    log: tuple[str, ...] = ()
    duration_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What enabling would download. `confidence` is `exact` or `partial`, then with the reason.

    `reset` counts mails that were handed over and are unread again; `known` those that were had;
    `left` unread ones that are in quarantine and were never downloaded (over the limit, say).
    `warnings` are what the server itself said that should be known before.
    """

    new: int
    known: int = 0
    reset: int = 0
    left: int = 0
    total: int = 0
    unread: int | None = None
    confidence: str = "exact"
    reason: str = ""
    warnings: tuple[Warning, ...] = ()


class NothingKnown:
    """`Known` of a mailbox that Posthouse has never seen."""

    def missing(self, keys: Sequence[Key]) -> list[Key]:
        return list(keys)

    def count(self) -> int:
        return 0


@dataclass(slots=True)
class _Progress:
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
        with ctx.transaction() as session:
            return _fitting(session, checked_edit(None, values))
    with ctx.transaction() as session:
        return _fitting(session, checked_edit(connections.get(session, connection_id), values))


def checked_edit(current: Connection | None, changes: Mapping[str, Any]) -> ConnectionEdit:
    """`edit`, with a client certificate that belongs to its key. Raises InvalidInput."""
    wanted = edit(current, changes)
    if wanted.client_certificate:
        client_certificate_of(pem_of(wanted.client_certificate))
    return wanted


def _fitting(session: Session, wanted: ConnectionEdit) -> ConnectionEdit:
    refuse_misfit(session, wanted.connection)
    return wanted


def test(
    ctx: Context, changes: Mapping[str, Any] | None = None, connection_id: int | None = None
) -> TestReport:
    """Tests a saved connection (`connection_id`), an edited one (both), or an unsaved one.

    Never raises for what the mail server does: that is the report. Changes no flag and no row.
    """
    wanted = draft(ctx, changes or {}, connection_id)
    connection = wanted.connection
    refuse_moved_password(ctx, wanted)
    host, port = connection.endpoint
    with ctx.transaction() as session:
        # Whoever may test makes this machine connect to hosts of their choice.
        subject = f"connection/{connection_id}" if connection_id else f"host/{host}:{port}"
        audit.record_once(session, ctx.principal.name, "test", subject, _SAME_TEST)
    started = time.monotonic()
    progress = _Progress()
    report: dict[str, Any] = {}

    def look(mailbox: Mailbox) -> None:
        report["server"] = mailbox.server
        report["capabilities"] = mailbox.capabilities
        progress.step = "folder"
        status = progress.status = mailbox.open(connection.folder)
        report.update(folder=status.folder, total=status.total, unread=status.unread)

    failure: PosthouseError | None = None
    try:
        _with_mailbox(ctx, wanted, progress, look)
    except PosthouseError as error:
        failure = error
        report["near"] = error.near if isinstance(error, FolderMissing) else ()
    capabilities: Capabilities | None = report.get("capabilities")
    said = () if capabilities is None else of_server(connection, capabilities)
    return TestReport(
        ok=failure is None,
        steps=_steps(connection, progress, failure),
        warnings=(*said, *warnings_of(ctx, connection)),
        log=tuple(getattr(failure, "transcript", ()) or progress.transcript)[-60:],
        duration_ms=int((time.monotonic() - started) * 1000),
        **report,
    )


def estimate(
    ctx: Context,
    wanted: ConnectionEdit,
    *,
    since: datetime | None = None,
    skip_existing: bool = False,
    another_mailbox: bool = False,
) -> Estimate:
    """Counts what a connection would download now. Changes nothing.

    `another_mailbox`: what is known of the connection is about another one. Raises what opening
    the mailbox raises, and InvalidInput (`start_from`) where the server makes this start
    impossible; where only the counting takes too long, the estimate is partial.
    """
    connection = wanted.connection
    progress = _Progress()

    def count(mailbox: Mailbox) -> Estimate:
        _refuse_start(mailbox.capabilities, by_date=since is not None, skip_existing=skip_existing)
        status = progress.status = mailbox.open(connection.folder)
        known: NothingKnown | KnownMails = NothingKnown()
        if connection.id and not another_mailbox:
            known = KnownMails(
                ctx.app_state.database, connection.id, connection.folder, status.uid_validity
            )
        listing = mailbox.list_new(
            known, connection.selection, since=since, limit=0, count_known=True
        )
        reason, never = "", 0
        if connection.id and not another_mailbox:
            reason, never = _of_a_known_mailbox(ctx, connection, status, listing)
        if not reason and listing.new_count and _came_by_label(ctx, mailbox, connection):
            reason = _BY_LABEL
        undated = len(listing.undated)
        return Estimate(
            new=listing.new_count,
            confidence="partial" if reason or undated else "exact",
            known=listing.known,
            reset=listing.reset - never,
            left=never,
            total=listing.total,
            unread=listing.unread,
            reason=reason or _without_date(undated) or _not_exact(mailbox),
            warnings=tuple(of_server(connection, mailbox.capabilities)),
        )

    try:
        return _with_mailbox(ctx, wanted, progress, count)
    except PosthouseError as error:
        if error.code == "no-dates":
            raise InvalidInput(str(error), field="start_from", hint=error.hint) from error
        if progress.status is None:
            raise
        return _partial(progress.status, error)


def check_start(ctx: Context, wanted: ConnectionEdit, *, by_date: bool) -> None:
    """Asks the server whether this start is possible, where nothing is to be counted.

    Raises InvalidInput (`start_from`). A server that cannot be asked now is asked by the first
    fetch, which takes nothing then.
    """
    try:
        _with_mailbox(
            ctx,
            wanted,
            _Progress(),
            lambda mailbox: _refuse_start(
                mailbox.capabilities, by_date=by_date, skip_existing=not by_date
            ),
        )
    except InvalidInput:
        raise
    except PosthouseError as error:
        _log.info("the start could not be checked", error=str(error))


def _refuse_start(capabilities: Capabilities, *, by_date: bool, skip_existing: bool) -> None:
    refusal = start_refusal(capabilities, by_date=by_date, skip_existing=skip_existing)
    if refusal is not None:
        raise InvalidInput(str(refusal), field="start_from", hint=refusal.hint)


def folders(
    ctx: Context, changes: Mapping[str, Any] | None = None, connection_id: int | None = None
) -> list[Folder]:
    """The folders of the mailbox, to pick one from. Raises what opening the mailbox raises."""
    wanted = draft(ctx, changes or {}, connection_id)
    kind = wanted.connection.kind
    if not kind.has_folders:
        raise InvalidInput(f"{kind.title} knows no folders.", field="folder")
    refuse_moved_password(ctx, wanted)
    found = _with_mailbox(ctx, wanted, _Progress(), lambda mailbox: mailbox.folders())
    return sorted(found, key=lambda folder: folder.name.casefold())


def _with_mailbox(
    ctx: Context,
    wanted: ConnectionEdit,
    progress: _Progress,
    use: Callable[[Mailbox], T],
) -> T:
    def work() -> T:
        mailbox = ctx.app_state.open_mailbox(
            wanted.connection,
            wanted.password or None,
            client_certificate=pem_of(wanted.client_certificate)
            if wanted.client_certificate
            else None,
        )
        try:
            return use(mailbox)
        finally:
            progress.transcript = tuple(mailbox.transcript)
            mailbox.close()

    return ctx.app_state.mail_work.run(work)


def refuse_moved_password(ctx: Context, wanted: ConnectionEdit) -> None:
    """A stored password goes to the server it was stored for, and to no other one."""
    now = wanted.connection
    if not now.id or wanted.password or not now.has_password:
        return
    with ctx.transaction() as session:
        stored = connections.get(session, now.id)
    weaker = (stored.verify_certificate, stored.security) != (now.verify_certificate, now.security)
    if stored.endpoint != now.endpoint or weaker or stored.ca_certificate != now.ca_certificate:
        raise InvalidInput(
            "Enter the password again: it was stored for another server.",
            field="password",
            hint="Otherwise whoever may edit connections could have it sent to any server.",
        )


def _steps(
    connection: Connection, progress: _Progress, failure: PosthouseError | None
) -> tuple[Step, ...]:
    """The steps up to the failing one, as far as they apply to this connection."""
    names = [name for name in connection.kind.steps if _applies(name, connection)]
    titles = dict(STEPS)
    if not connection.kind.has_server:
        titles["login"] = "Open the mailbox"
    if failure is None:
        return tuple(Step(name, titles[name], "ok") for name in names)
    at = "folder" if isinstance(failure, FolderMissing) else getattr(failure, "step", "")
    at = _SAME_STEP.get(at, at) or progress.step
    if at not in names:
        at = "login" if at == "authorisation" else names[0]
    steps = []
    position = names.index(at)
    for index, name in enumerate(names):
        if index < position:
            steps.append(Step(name, titles[name], "ok"))
        elif index == position:
            steps.append(
                Step(name, titles[name], "failed", str(failure), failure.hint, failure.code)
            )
        else:
            steps.append(Step(name, titles[name], "skipped"))
    return tuple(steps)


def _applies(step: str, connection: Connection) -> bool:
    if step == "authorisation":
        return connection.uses_oauth
    if step == "tls":
        return not connection.kind.has_server or connection.security != "none"
    return True


def _partial(status: FolderStatus, error: PosthouseError) -> Estimate:
    return Estimate(
        new=status.unread if status.unread is not None else status.total,
        total=status.total,
        unread=status.unread,
        confidence="partial",
        reason=f"The folder was opened, but counting broke off: {error}",
    )


def _of_a_known_mailbox(
    ctx: Context, connection: Connection, status: FolderStatus, listing: Listing
) -> tuple[str, int]:
    """Why its count is not exact, and how many of its unread mails were never handed over."""
    validity = status.uid_validity
    with ctx.transaction() as session:
        before = scheduling.last_validity(session, connection.id)
        identity = scheduling.last_mailbox_id(session, connection.id)
        never = quarantine.never_downloaded(
            session, connection.id, connection.folder, validity, listing.reset_keys
        )
    recreated = validity is not None and before not in (None, validity)
    here = str(status.cursor.get("mailbox_id", ""))
    if identity and here and identity != here:
        return (_ANOTHER if listing.new_count or listing.known else ""), never
    if not (recreated and listing.new_count):
        return "", never
    return (_NUMBERED_ANEW if identity and here else _RECREATED), never


def _came_by_label(ctx: Context, mailbox: Mailbox, connection: Connection) -> bool:
    if "X-GM-EXT-1" not in mailbox.capabilities.names:
        return False
    with ctx.transaction() as session:
        return labels.had_elsewhere(session, connection)


def _without_date(count: int) -> str:
    if not count:
        return ""
    return (
        f"{count} more could not be dated and would not be taken: the server did not show their "
        "headers, or they bear no date."
    )


def _not_exact(mailbox: Mailbox) -> str:
    if mailbox.capabilities.stable_keys:
        return ""
    return "The server gives its mails no lasting names; they are told apart by their headers."
