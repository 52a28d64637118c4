"""What every operation works with: the state of the service, and who asks."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from services.admin.mail_server_work import MailServerWork
from services.admin.settings import AdminSettings
from shared.connections import Connection
from shared.mailbox.base import Mailbox
from shared.mailbox_logins import Logins
from shared.people import Principal
from shared.queueing.output import Output
from shared.storage import audit
from shared.storage.pool import Database, Session
from shared.store_identity import OwnStore
from shared.vault import Vault

#: Readings of one mail by the same person within this time are one entry of the audit log.
_SAME_READING: Final = timedelta(minutes=10)


class OpenMailbox(Protocol):
    """Opens the mailbox of a connection. The password is given where it is not the stored one.

    `mechanism` names the only way of giving it; `fresh` asks for a new OAuth2 token first.
    """

    def __call__(
        self,
        connection: Connection,
        password: str | None,
        *,
        client_certificate: str | None = None,
        mechanism: str = "",
        fresh: bool = False,
    ) -> Mailbox: ...


@dataclass(frozen=True, slots=True)
class AppState:
    """Made once a process by `app.build`."""

    settings: AdminSettings
    database: Database
    vault: Vault
    store: OwnStore
    mail_server_work: MailServerWork
    logins: Logins
    open_mailbox: OpenMailbox
    output: Output


@dataclass(frozen=True, slots=True)
class Context:
    """One request: the state of the process and the person or program that asks.

    What a principal may do is decided before an operation is called (`auth.route_permissions`).
    """

    app_state: AppState
    principal: Principal
    #: The version that a change is made of (`operations.edit_conflicts`); empty: whatever there is.
    expected: str = ""

    def transaction(self) -> AbstractContextManager[Session]:
        return self.app_state.database.transaction()

    def record_reading(self, session: Session, subject: str) -> None:
        """Writes that somebody read the content of a mail, once in a while for the same mail.

        A handler reads what was delivered to it: the path of the mail says so already."""
        if self.principal.handler_id is None:
            audit.record_once(session, self.principal.name, "read mail", subject, _SAME_READING)

    def record(
        self,
        session: Session,
        action: str,
        subject: str,
        before: audit.Audited = None,
        after: audit.Audited = None,
    ) -> None:
        """Writes the audit entry of a change, in the transaction of the change."""
        audit.record(session, self.principal.name, action, subject, before, after)
