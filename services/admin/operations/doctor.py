"""The doctor: what a mailbox's server makes of every form of request that a run may send."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from services.admin.context import Context
from shared.connections import Connection
from shared.mailbox.base import Mailbox
from shared.mailbox.doctor import recording, reporting
from shared.mailbox.doctor.examination import Examination
from shared.mailbox.doctor.examine import examine
from shared.mailbox.doctor.reporting import DoctorReport
from shared.storage import audit, connections
from shared.vault import password_path

#: An examination ends after this (seconds); whoever waits gets its answer soon after.
_SECONDS: Final = 60.0
_GRACE: Final = 40.0


def examine_connection(ctx: Context, connection_id: int, *, record: bool = False) -> DoctorReport:
    """Examines a saved connection; changes nothing on its server and nothing here.

    `record`: with a recording whose names, addresses, ids, tokens and mails are replaced. Never
    raises for what the server does; raises MailServerSlow where it does not come to an end, and
    RecordingLeaks rather than to give out a recording that is not clean.
    """
    with ctx.transaction() as session:
        connection = connections.get(session, connection_id)
        audit.record(session, ctx.principal.name, "examine", f"connection/{connection_id}")
    secrets = _secrets(ctx, connection)

    def opened(wanted: Connection, *, mechanism: str = "", fresh: bool = False) -> Mailbox:
        return ctx.app_state.open_mailbox(wanted, None, mechanism=mechanism, fresh=fresh)

    started = time.monotonic()
    found: Examination = ctx.app_state.mail_server_work.run(
        lambda: examine(connection, opened, seconds=_SECONDS), _SECONDS + _GRACE
    )
    took = int((time.monotonic() - started) * 1000)
    report = replace(reporting.report(found, secrets=secrets), duration_ms=took)
    return (
        replace(report, recording=recording.recording(found, secrets=secrets)) if record else report
    )


def _secrets(ctx: Context, connection: Connection) -> list[str]:
    with ctx.transaction() as session:
        sealed = connections.sealed_password(session, connection.id)
    if sealed is None:
        return []
    return [ctx.app_state.vault.open(sealed, password_path(connection.id)).decode()]
