"""Application access: tested as soon as such a credential is chosen for a connection."""

from __future__ import annotations

from typing import Final

from services.admin.context import Context
from services.admin.operations.connection_tests import ConnectionTestReport, test
from shared.connections import Connection
from shared.storage import credentials

#: A change of one of these makes it another access than the one that was checked.
_DECIDING: Final = (
    "mode",
    "credential_id",
    "username",
    "shared_mailbox",
    "host",
    "port",
    "host_override",
)


def check_access(
    ctx: Context, before: Connection | None, after: Connection
) -> ConnectionTestReport | None:
    """Tests application access where it was just chosen for a saved connection; None elsewhere.

    Nobody logs in at the provider with such a credential, so nobody else would notice that it
    does not open the mailbox before mails are missed.
    """
    if before is not None and not is_other_access(before, after):
        return None
    if after.credential_id is None:
        return None
    with ctx.transaction() as session:
        if credentials.get(session, after.credential_id).needs_login:
            return None
    return test(ctx, connection_id=after.id)


def is_other_access(before: Connection, after: Connection) -> bool:
    """Whether a credential was just chosen, or is to open something else than before."""
    differs = any(getattr(before, n) != getattr(after, n) for n in _DECIDING)
    return after.credential_id is not None and differs


def access_notice(report: ConnectionTestReport | None) -> str:
    """The same in a sentence, empty where there is nothing to say."""
    if report is None:
        return ""
    if report.ok:
        return "Application access was tested: the mailbox opens."
    failed = next(step for step in report.steps if step.status == "failed")
    return f"Application access was tested and fails: {failed.text} {failed.hint}".strip()
