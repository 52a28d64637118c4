"""Alerts about single mails: in quarantine, or wanted by no handler."""

from __future__ import annotations

from dataclasses import dataclass

from shared.alerts.base import AlertData, Severity


@dataclass(frozen=True, kw_only=True)
class MailQuarantined(AlertData):
    """`name`: of the connection; `entry_id`: of the entry in quarantine; `reason`: a sentence.

    Those of one connection for one reason are told together; `count`: how many, of which this entry
    was the first.
    """

    kind = "mail-quarantined"
    choice = "A mail goes into quarantine"
    level = Severity.WARNING
    about = "connection/{0.connection_id}/quarantine/{0.code}"
    episode = "quarantine/{0.entry_id}"
    path = "{0._path}"
    text = "{0._mails} of connection “{0.name}” {0._are} in quarantine: {0.reason}"

    entry_id: str
    connection_id: int
    code: str
    reason: str
    count: int = 1

    @property
    def _path(self) -> str:
        if self.count == 1:
            return f"/quarantine/{self.entry_id}"
        return f"/quarantine?connection={self.connection_id}&code={self.code}"

    @property
    def _mails(self) -> str:
        return "A mail" if self.count == 1 else f"{self.count:,} mails"

    @property
    def _are(self) -> str:
        return "is" if self.count == 1 else "are"


@dataclass(frozen=True, kw_only=True)
class MailUnwanted(AlertData):
    """A mail that the rules of every handler left out, where administrators ask to be told.

    `name`: of the connection, whose mails are told of together; `count`: how many, of which
    `message_id` was the first.
    """

    kind = "mail-unwanted"
    choice = "No handler wants a mail"
    level = Severity.WARNING
    about = "connection/{0.connection_id}/unwanted"
    episode = "unwanted/{0.message_id}"
    path = "{0._path}"
    text = "No handler wants {0._mails} of connection “{0.name}”: the rules of each left it out."

    message_id: str
    connection_id: int
    count: int = 1

    @property
    def _path(self) -> str:
        if self.count == 1:
            return f"/mails/{self.message_id}"
        return f"/mails?connection={self.connection_id}&state=unwanted"

    @property
    def _mails(self) -> str:
        return "a mail" if self.count == 1 else f"{self.count:,} mails"
