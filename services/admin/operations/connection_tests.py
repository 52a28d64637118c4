"""Tests of connections: what a mail server says, step by step, changing nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from services.admin.context import Context
from services.admin.operations.connection_warnings import (
    ConnectionWarning,
    of_server,
    together,
    warnings_of,
)
from services.admin.operations.drafts import (
    Progress,
    draft,
    with_mailbox,
)
from shared.connections import Connection
from shared.errors import PosthouseError
from shared.mailbox.base import Capabilities, Mailbox
from shared.mailbox.failures import FolderMissing
from shared.storage import audit

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
class ConnectionTestReport:
    """What a test found. `unread` is None where the protocol has no read flag.

    `log` holds the last lines of the protocol, without secrets; `near` folders whose names look
    like one that does not exist.
    """

    ok: bool
    steps: tuple[Step, ...]
    server: str = ""
    folder: str = ""
    total: int | None = None
    unread: int | None = None
    capabilities: Capabilities | None = None
    near: tuple[str, ...] = ()
    warnings: tuple[ConnectionWarning, ...] = ()
    log: tuple[str, ...] = ()
    duration_ms: int = 0


def test(
    ctx: Context, changes: Mapping[str, Any] | None = None, connection_id: int | None = None
) -> ConnectionTestReport:
    """Tests a saved connection (`connection_id`), an edited one (both), or an unsaved one.

    Never raises for what the mail server does: that is the report. Changes no flag and no row.
    """
    wanted = draft(ctx, changes or {}, connection_id)
    connection = wanted.connection
    host, port = connection.endpoint
    with ctx.transaction() as session:
        # Whoever may test makes this machine connect to hosts of their choice.
        subject = f"connection/{connection_id}" if connection_id else f"host/{host}:{port}"
        audit.record_once(session, ctx.principal.name, "test", subject, _SAME_TEST)
    started = time.monotonic()
    progress = Progress()
    report: dict[str, Any] = {}

    def examine(mailbox: Mailbox) -> None:
        report["server"] = mailbox.server
        report["capabilities"] = mailbox.capabilities
        progress.step = "folder"
        status = progress.status = mailbox.open(connection.folder)
        report.update(folder=status.folder, total=status.total, unread=status.unread)
        report["capabilities"] = mailbox.capabilities  # some show with the folder only

    failure: PosthouseError | None = None
    try:
        with_mailbox(ctx, wanted, progress, examine)
    except PosthouseError as error:
        failure = error
        report["near"] = error.near if isinstance(error, FolderMissing) else ()
    capabilities: Capabilities | None = report.get("capabilities")
    said = () if capabilities is None else of_server(connection, capabilities)
    return ConnectionTestReport(
        ok=failure is None,
        steps=_steps(connection, progress, failure),
        warnings=tuple(together(said, warnings_of(ctx, connection))),
        log=tuple(getattr(failure, "transcript", ()) or progress.transcript)[-60:],
        duration_ms=int((time.monotonic() - started) * 1000),
        **report,
    )


def _steps(
    connection: Connection, progress: Progress, failure: PosthouseError | None
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
