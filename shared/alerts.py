"""Alerts: what people should hear of, one type a kind, and when each is raised.

Pure values and rules. An alert is a *transition*: it is raised once when something changes, in the
transaction of that change, and delivered to every enabled webhook. Who raises one and who writes
its text share its type, so that a reason cannot be lost between them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Final

from pydantic import TypeAdapter

from shared.clock import time_of


class AlertKind(StrEnum):
    CONNECTION_FAILING = "connection-failing"
    CONNECTION_RECOVERED = "connection-recovered"
    CONNECTION_NEEDS_AUTHORISATION = "connection-needs-authorisation"
    CONNECTIONS_OVERDUE = "connections-overdue"
    CONNECTIONS_ON_TIME = "connections-on-time"
    CERTIFICATE_EXPIRING = "certificate-expiring"
    CLIENT_SECRET_EXPIRING = "client-secret-expiring"  # noqa: S105 (a kind, no secret)
    MAIL_QUARANTINED = "mail-quarantined"
    HANDLER_BACKLOG_OLD = "handler-backlog-old"
    HANDLER_BACKLOG_RECOVERED = "handler-backlog-recovered"
    SERVICE_FAILING = "service-failing"
    SERVICE_RECOVERED = "service-recovered"


class Severity(StrEnum):
    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Template(StrEnum):
    JSON = "json"
    SLACK = "slack"
    TEAMS = "teams"
    OPSGENIE = "opsgenie"


#: Days before the end of a certificate or client secret at which people are told, once each.
EXPIRY_DAYS: Final = (30, 7, 1)

#: A webhook that does not take an alert is tried again after these; then the alert is given up.
RETRY_DELAYS: Final = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 43_200)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What every kind has. No field holds a secret or the content of a mail."""

    kind: ClassVar[AlertKind]
    level: ClassVar[Severity] = Severity.CRITICAL

    name: str

    @property
    def severity(self) -> Severity:
        return self.level

    @property
    def subject(self) -> str:
        """What it is about, such as `connection/7`."""
        raise NotImplementedError

    @property
    def page(self) -> str:
        """The path of the page that shows it."""
        raise NotImplementedError

    @property
    def sentence(self) -> str:
        """What happened, in one sentence for people."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfConnection(_Told):
    connection_id: int

    @property
    def subject(self) -> str:
        return f"connection/{self.connection_id}"

    @property
    def page(self) -> str:
        return f"/connections/{self.connection_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFailing(_OfConnection):
    """`message`: why, in words; `step`: where (DNS, TCP, TLS, login …)."""

    kind = AlertKind.CONNECTION_FAILING

    message: str
    hint: str = ""
    code: str = ""
    step: str = ""
    failures: int = 1

    @property
    def sentence(self) -> str:
        return f"Connection “{self.name}” is failing: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionNeedsAuthorisation(ConnectionFailing):
    kind = AlertKind.CONNECTION_NEEDS_AUTHORISATION

    @property
    def sentence(self) -> str:
        return f"Connection “{self.name}” needs somebody to authorise it again: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRecovered(_OfConnection):
    kind = AlertKind.CONNECTION_RECOVERED
    level = Severity.INFO

    failures: int = 0

    @property
    def sentence(self) -> str:
        return f"Connection “{self.name}” works again."


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionsOverdue(_Told):
    """Turns that nobody takes: no fetcher works, or too few. One alert for all of them.

    `count`: how many; `name`: one of them; `oldest_success_at`: ISO 8601, of the worst.
    """

    kind = AlertKind.CONNECTIONS_OVERDUE

    count: int
    oldest_success_at: str | None = None
    hint: str = "Is a fetcher running? The overview shows each service and what it misses."

    @property
    def subject(self) -> str:
        return "connections/overdue"

    @property
    def page(self) -> str:
        return "/connections?health=overdue"

    @property
    def sentence(self) -> str:
        last = f"the last success was at {self.oldest_success_at}" if self.oldest_success_at else (
            "it never succeeded"
        )  # fmt: skip
        if self.count == 1:
            return f"Connection “{self.name}” is overdue: {last}."
        return f"{self.count:,} connections are overdue. Of “{self.name}”, {last}."


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionsOnTime(_Told):
    kind = AlertKind.CONNECTIONS_ON_TIME
    level = Severity.INFO

    @property
    def subject(self) -> str:
        return "connections/overdue"

    @property
    def page(self) -> str:
        return "/connections"

    @property
    def sentence(self) -> str:
        return "No connection is overdue any more."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Expiring(_Told):
    level = Severity.WARNING

    days: int
    ends_at: str

    @property
    def severity(self) -> Severity:
        return Severity.CRITICAL if self.days == 1 else self.level

    @property
    def _within(self) -> str:
        within = "within a day" if self.days == 1 else f"within {self.days} days"
        return f"{within}, on {self.ends_at[:10]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateExpiring(_Expiring):
    kind = AlertKind.CERTIFICATE_EXPIRING

    certificate_id: int

    @property
    def subject(self) -> str:
        return f"certificate/{self.certificate_id}"

    @property
    def page(self) -> str:
        return f"/certificates/{self.certificate_id}"

    @property
    def sentence(self) -> str:
        return f"Certificate “{self.name}” expires {self._within}."


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSecretExpiring(_Expiring):
    kind = AlertKind.CLIENT_SECRET_EXPIRING

    credential_id: int

    @property
    def subject(self) -> str:
        return f"credential/{self.credential_id}"

    @property
    def page(self) -> str:
        return f"/credentials/{self.credential_id}"

    @property
    def sentence(self) -> str:
        return f"The client secret of “{self.name}” expires {self._within}."


@dataclass(frozen=True, slots=True, kw_only=True)
class MailQuarantined(_Told):
    """`name`: of the connection; `entry_id`: of the entry in quarantine; `reason`: a sentence."""

    kind = AlertKind.MAIL_QUARANTINED
    level = Severity.WARNING

    entry_id: str
    code: str
    reason: str

    @property
    def subject(self) -> str:
        return f"quarantine/{self.entry_id}"

    @property
    def page(self) -> str:
        return f"/quarantine/{self.entry_id}"

    @property
    def sentence(self) -> str:
        return f"A mail of connection “{self.name}” is in quarantine: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfHandler(_Told):
    handler_id: int
    backlog: int
    oldest_at: str | None

    @property
    def subject(self) -> str:
        return f"handler/{self.handler_id}"

    @property
    def page(self) -> str:
        return f"/handlers/{self.handler_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerBacklogOld(_OfHandler):
    kind = AlertKind.HANDLER_BACKLOG_OLD

    @property
    def sentence(self) -> str:
        since = self.oldest_at or "a while ago"
        return (
            f"Handler “{self.name}” is behind: {self.backlog} mails wait, the oldest since {since}."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerBacklogRecovered(_OfHandler):
    kind = AlertKind.HANDLER_BACKLOG_RECOVERED
    level = Severity.INFO

    @property
    def sentence(self) -> str:
        return f"Handler “{self.name}” has caught up."


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFailing(_Told):
    """A service that cannot reach what it needs, or is gone. `name`: fetcher, decryptor …

    `check`: which of its needs (database, store, broker, output, heartbeat); `message`: why.
    """

    kind = AlertKind.SERVICE_FAILING

    check: str
    message: str

    @property
    def subject(self) -> str:
        return f"service/{self.name}/{self.check}"

    @property
    def page(self) -> str:
        return "/"

    @property
    def sentence(self) -> str:
        return f"Service {self.name} is failing ({self.check}): {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRecovered(_Told):
    kind = AlertKind.SERVICE_RECOVERED
    level = Severity.INFO

    check: str

    @property
    def subject(self) -> str:
        return f"service/{self.name}/{self.check}"

    @property
    def page(self) -> str:
        return "/"

    @property
    def sentence(self) -> str:
        return f"Service {self.name} works again ({self.check})."


#: One of the types above.
AlertData = (
    ConnectionFailing
    | ConnectionNeedsAuthorisation
    | ConnectionRecovered
    | ConnectionsOverdue
    | ConnectionsOnTime
    | CertificateExpiring
    | ClientSecretExpiring
    | MailQuarantined
    | HandlerBacklogOld
    | HandlerBacklogRecovered
    | ServiceFailing
    | ServiceRecovered
)
TYPES: Final[Mapping[AlertKind, TypeAdapter[AlertData]]] = {
    type_.kind: TypeAdapter(type_) for type_ in AlertData.__args__
}

#: A recovery closes what this kind opened, where the receiver knows open and closed (OpsGenie).
CLOSES: Final[Mapping[AlertKind, tuple[AlertKind, ...]]] = {
    AlertKind.CONNECTION_RECOVERED: (
        AlertKind.CONNECTION_FAILING,
        AlertKind.CONNECTION_NEEDS_AUTHORISATION,
    ),
    AlertKind.CONNECTIONS_ON_TIME: (AlertKind.CONNECTIONS_OVERDUE,),
    AlertKind.HANDLER_BACKLOG_RECOVERED: (AlertKind.HANDLER_BACKLOG_OLD,),
    AlertKind.SERVICE_RECOVERED: (AlertKind.SERVICE_FAILING,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One transition that was raised: what it says, and how often it was told."""

    id: uuid.UUID
    data: AlertData
    attempts: int = 0

    @property
    def at(self) -> datetime:
        return time_of(self.id)

    @property
    def kind(self) -> AlertKind:
        return self.data.kind

    @property
    def subject(self) -> str:
        return self.data.subject

    @property
    def severity(self) -> Severity:
        return self.data.severity


def to_json(data: AlertData) -> dict[str, Any]:
    """The fields, as they are stored and sent to programs."""
    found: dict[str, Any] = TYPES[data.kind].dump_python(data, mode="json")
    return found


def from_json(kind: str, fields: Mapping[str, Any]) -> AlertData:
    """What `to_json` made."""
    return TYPES[AlertKind(kind)].validate_python(dict(fields))


def expiry_stage(ends_at: datetime, now: datetime) -> int | None:
    """Which of EXPIRY_DAYS has been reached (the narrowest), None before the first or after all."""
    left = ends_at - now
    if left < timedelta(0):
        return None
    reached = [days for days in EXPIRY_DAYS if left <= timedelta(days=days)]
    return min(reached) if reached else None


def retry_delay(attempts: int) -> timedelta | None:
    """How long after the attempt number `attempts` (from 1) comes the next; None: give up."""
    return RETRY_DELAYS[attempts - 1] if attempts <= len(RETRY_DELAYS) else None
