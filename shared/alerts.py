"""Alerts: what people should hear of, one type a kind, and when each is raised.

Pure values and rules. An alert is a *transition*: it is raised once when something changes, in the
transaction of that change, and delivered to every enabled webhook. Who raises one and who writes
its text share its type, so that a reason cannot be lost between them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Final

from pydantic import TypeAdapter

from shared.clock import time_of


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


@dataclass(frozen=True, kw_only=True)
class AlertData:
    """What one kind says; a subclass that has a `kind` is all that a new alert needs.

    `about`, `path`, `text` and `episode` are format strings over the fields and properties of the
    alert, which is argument 0. No field holds a secret or the content of a mail.
    """

    #: Stable, for programs: part of the event's type, stored with the alert.
    kind: ClassVar[str]
    level: ClassVar[Severity] = Severity.CRITICAL
    #: What it is about, such as `connection/7`.
    about: ClassVar[str]
    #: The path of the page that shows it.
    path: ClassVar[str]
    #: What happened, in one sentence for people.
    text: ClassVar[str]
    #: Raised once until this episode is ended. Empty: each time.
    episode: ClassVar[str] = ""
    #: A recovery closes these kinds, where the receiver knows open and closed (OpsGenie).
    closes: ClassVar[tuple[str, ...]] = ()

    name: str

    @property
    def severity(self) -> Severity:
        return self.level

    @property
    def subject(self) -> str:
        return self.about.format(self)

    @property
    def page(self) -> str:
        return self.path.format(self)

    @property
    def sentence(self) -> str:
        return self.text.format(self)

    @property
    def dedupe(self) -> str:
        return self.episode.format(self)


@dataclass(frozen=True, kw_only=True)
class _OfConnection(AlertData):
    about = "connection/{0.connection_id}"
    path = "/connections/{0.connection_id}"

    connection_id: int


@dataclass(frozen=True, kw_only=True)
class ConnectionFailing(_OfConnection):
    """`message`: why, in words; `step`: where (DNS, TCP, TLS, login …).

    Those at one `host` that begin to fail before anybody was told are told together: `count` of
    them, of which this connection is one. `connection_ids`: those that have not recovered.
    """

    kind = "connection-failing"
    path = "{0._path}"
    text = "{0._who} failing{0._such}: {0.message}"
    episode = "{0._untold}"

    message: str
    hint: str = ""
    code: str = ""
    step: str = ""
    failures: int = 1
    host: str = ""
    count: int = 1
    connection_ids: tuple[int, ...] = ()

    @property
    def _path(self) -> str:
        if self.count == 1:
            return f"/connections/{self.connection_id}"
        return "/connections?health=failing"

    @property
    def _who(self) -> str:
        if self.count == 1:
            return f"Connection “{self.name}” is"
        return f"{self.count:,} connections at {self.host} are"

    @property
    def _such(self) -> str:
        return "" if self.count == 1 else f", such as “{self.name}”"

    @property
    def _untold(self) -> str:
        # As long as nobody was told: others at the host join it.
        return f"failing/{self.host}" if self.host else ""


@dataclass(frozen=True, kw_only=True)
class ConnectionNeedsAuthorisation(ConnectionFailing):
    kind = "connection-needs-authorisation"
    path = "/connections/{0.connection_id}"
    episode = ""
    text = "Connection “{0.name}” needs somebody to authorise it again: {0.message}"


@dataclass(frozen=True, kw_only=True)
class ConnectionRecovered(_OfConnection):
    kind = "connection-recovered"
    level = Severity.INFO
    text = "{0._who} again."
    closes = (ConnectionFailing.kind, ConnectionNeedsAuthorisation.kind)

    failures: int = 0
    host: str = ""
    count: int = 1

    @property
    def _who(self) -> str:
        if self.count == 1:
            return f"Connection “{self.name}” works"
        return f"All {self.count:,} connections at {self.host} that failed work"


@dataclass(frozen=True, kw_only=True)
class ConnectionsOverdue(AlertData):
    """Turns that nobody takes: no fetcher works, or too few. One alert for all of them.

    `count`: how many; `name`: one of them; `oldest_success_at`: ISO 8601, of the worst.
    """

    kind = "connections-overdue"
    about = episode = "connections/overdue"
    path = "/connections?health=overdue"
    text = "{0._who} {0._last}."

    count: int
    oldest_success_at: str | None = None
    hint: str = "Is a fetcher running? The overview shows each service and what it misses."

    @property
    def _who(self) -> str:
        if self.count == 1:
            return f"Connection “{self.name}” is overdue:"
        return f"{self.count:,} connections are overdue. Of “{self.name}”,"

    @property
    def _last(self) -> str:
        at = self.oldest_success_at
        return f"the last success was at {at}" if at else "it never succeeded"


@dataclass(frozen=True, kw_only=True)
class ConnectionsOnTime(AlertData):
    kind = "connections-on-time"
    level = Severity.INFO
    about = ConnectionsOverdue.about
    path = "/connections"
    text = "No connection is overdue any more."
    closes = (ConnectionsOverdue.kind,)

    name: str = ""


@dataclass(frozen=True, kw_only=True)
class _Expiring(AlertData):
    """`days`: the stage of EXPIRY_DAYS that was reached; `ends_at`: ISO 8601.

    Raised once for each stage, and anew for a later end.
    """

    level = Severity.WARNING
    episode = "{0.subject}:expiring:{0.ends_at}:{0.days}"

    days: int
    ends_at: str

    @property
    def severity(self) -> Severity:
        return Severity.CRITICAL if self.days == 1 else self.level

    @property
    def _within(self) -> str:
        within = "within a day" if self.days == 1 else f"within {self.days} days"
        return f"{within}, on {self.ends_at[:10]}"


@dataclass(frozen=True, kw_only=True)
class CertificateExpiring(_Expiring):
    kind = "certificate-expiring"
    about = "certificate/{0.certificate_id}"
    path = "/certificates/{0.certificate_id}"
    text = "Certificate “{0.name}” expires {0._within}."

    certificate_id: int


@dataclass(frozen=True, kw_only=True)
class ClientSecretExpiring(_Expiring):
    kind = "client-secret-expiring"
    about = "credential/{0.credential_id}"
    path = "/credentials/{0.credential_id}"
    text = "The client secret of “{0.name}” expires {0._within}."

    credential_id: int


@dataclass(frozen=True, kw_only=True)
class MailQuarantined(AlertData):
    """`name`: of the connection; `entry_id`: of the entry in quarantine; `reason`: a sentence.

    Those of one connection for one reason are told together; `count`: how many, of which this entry
    was the first.
    """

    kind = "mail-quarantined"
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


@dataclass(frozen=True, kw_only=True)
class _OfHandler(AlertData):
    about = "handler/{0.handler_id}"
    path = "/handlers/{0.handler_id}"

    handler_id: int
    backlog: int
    oldest_at: str | None


@dataclass(frozen=True, kw_only=True)
class HandlerBacklogOld(_OfHandler):
    kind = "handler-backlog-old"
    text = "Handler “{0.name}” is behind: {0.backlog} mails wait, the oldest since {0._since}."
    episode = "{0.subject}:backlog-old"

    @property
    def _since(self) -> str:
        return self.oldest_at or "a while ago"


@dataclass(frozen=True, kw_only=True)
class HandlerBacklogRecovered(_OfHandler):
    kind = "handler-backlog-recovered"
    level = Severity.INFO
    text = "Handler “{0.name}” has caught up."
    closes = (HandlerBacklogOld.kind,)


@dataclass(frozen=True, kw_only=True)
class ForwardPaused(AlertData):
    """`name`: of the handler; `place`: scheme and host; `reason`: in words."""

    kind = "forward-paused"
    about = "handler/{0.handler_id}/forward"
    path = "/handlers/{0.handler_id}"
    text = "Nothing is sent to {0.place} for handler “{0.name}” any more: {0.reason}"
    episode = "{0.subject}:paused"

    handler_id: int
    place: str
    reason: str
    hint: str = "Change its address or ask those who run it, then resume it. Its mails wait."


@dataclass(frozen=True, kw_only=True)
class ForwardGaveUp(AlertData):
    """Told once a day a handler. `day`: of UTC; `reason`: of the first event, in words."""

    kind = "forward-gave-up"
    about = ForwardPaused.about
    path = ForwardPaused.path
    text = "Mails for handler “{0.name}” that {0.place} did not take are dead letters: {0.reason}"
    episode = "{0.subject}:gave-up:{0.day}"

    handler_id: int
    place: str
    reason: str
    day: str
    hint: str = "Once it takes mails again, put its dead letters back."


@dataclass(frozen=True, kw_only=True)
class ForwardResumed(AlertData):
    kind = "forward-resumed"
    level = Severity.INFO
    about = ForwardPaused.about
    path = ForwardPaused.path
    text = "Mails for handler “{0.name}” are sent to {0.place} again."
    closes = (ForwardPaused.kind,)

    handler_id: int
    place: str


@dataclass(frozen=True, kw_only=True)
class _OfService(AlertData):
    """`name`: fetcher, decryptor …; `check`: database, store, broker, output or heartbeat."""

    about = "service/{0.name}/{0.check}"
    path = "/"

    check: str


@dataclass(frozen=True, kw_only=True)
class ServiceFailing(_OfService):
    """A service that cannot reach what it needs, or is gone. `message`: why."""

    kind = "service-failing"
    text = "Service {0.name} is failing ({0.check}): {0.message}"
    episode = "{0.subject}"

    message: str


@dataclass(frozen=True, kw_only=True)
class ServiceRecovered(_OfService):
    kind = "service-recovered"
    level = Severity.INFO
    text = "Service {0.name} works again ({0.check})."
    closes = (ServiceFailing.kind,)


@dataclass(frozen=True, kw_only=True)
class WebhookTest(AlertData):
    """Sent to one webhook because somebody asked for it. `name`: of the webhook."""

    kind = "webhook-test"
    level = Severity.INFO
    about = "webhook/{0.webhook_id}"
    path = "/settings"
    text = "This is a test of the webhook “{0.name}”: alerts of Posthouse arrive."

    webhook_id: int


def _kinds(of: type[AlertData]) -> Iterator[type[AlertData]]:
    for type_ in of.__subclasses__():
        if "kind" in vars(type_):
            yield type_
        yield from _kinds(type_)


#: Every kind, with what reads it from JSON and writes it there.
KINDS: Final[Mapping[str, TypeAdapter[AlertData]]] = {
    type_.kind: TypeAdapter(type_) for type_ in _kinds(AlertData)
}


#: The kinds that a webhook chooses among. A recovery goes where what it ends goes, and a test to
#: the webhook that it was asked for.
CHOICES: Final[tuple[str, ...]] = tuple(
    type_.kind for type_ in _kinds(AlertData) if not type_.closes and type_.kind != WebhookTest.kind
)

#: What people call each of CHOICES.
WORDS: Final[Mapping[str, str]] = {
    "connection-failing": "A connection fails",
    "connection-needs-authorisation": "A connection needs to be authorised again",
    "connections-overdue": "Connections are overdue",
    "certificate-expiring": "A certificate is about to expire",
    "client-secret-expiring": "A client secret is about to expire",
    "mail-quarantined": "A mail goes into quarantine",
    "mail-unwanted": "No handler wants a mail",
    "handler-backlog-old": "A handler falls behind",
    "forward-gave-up": "A handler's endpoint did not take mails for so long that they are given up",
    "forward-paused": "Nothing is sent to a handler's endpoint any more",
    "service-failing": "A service of Posthouse fails",
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
    def kind(self) -> str:
        return self.data.kind

    @property
    def subject(self) -> str:
        return self.data.subject

    @property
    def severity(self) -> Severity:
        return self.data.severity


def to_json(data: AlertData) -> dict[str, Any]:
    """The fields, as they are stored and sent to programs."""
    found: dict[str, Any] = KINDS[data.kind].dump_python(data, mode="json")
    return found


def from_json(kind: str, fields: Mapping[str, Any]) -> AlertData:
    """What `to_json` made."""
    return KINDS[kind].validate_python(dict(fields))


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
