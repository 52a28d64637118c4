"""Alerts about connections: they fail, recover, or nobody fetches from them."""

from __future__ import annotations

from dataclasses import dataclass

from shared.alerts.base import AlertData, Severity, time_in_words
from shared.quantities import counted


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
    choice = "A connection fails"
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
        return f"{counted(self.count, 'connection')} at {self.host} are"

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
    choice = "A connection needs to be authorised again"
    path = "/connections/{0.connection_id}"
    episode = ""
    text = "Connection “{0.name}” needs somebody to authorise it again: {0.message}"


@dataclass(frozen=True, kw_only=True)
class ConnectionRecovered(_OfConnection):
    kind = "connection-recovered"
    level = Severity.INFO
    text = "{0._what}."
    closes = (ConnectionFailing.kind, ConnectionNeedsAuthorisation.kind)

    failures: int = 0
    host: str = ""
    count: int = 1
    #: The last of them was disabled or deleted, and is not known to work.
    unwatched: bool = False

    @property
    def _what(self) -> str:
        if self.count == 1 and self.unwatched:
            return f"Connection “{self.name}”, which failed, is not watched any more"
        if self.count == 1:
            return f"Connection “{self.name}” works again"
        failed = f"{counted(self.count, 'connection')} at {self.host} that failed"
        if self.unwatched:
            return f"Of {failed} none fails any more: they work or are not watched"
        return f"All {failed} work again"


@dataclass(frozen=True, kw_only=True)
class ConnectionsOverdue(AlertData):
    """Connections that are due and that nobody fetches from: no fetcher works, or too few. One
    alert for all of them.

    `count`: how many; `name`: one of them; `oldest_success_at`: ISO 8601, of the worst.
    """

    kind = "connections-overdue"
    choice = "Connections are overdue"
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
        many = counted(self.count, "connection is", "connections are")
        return f"{many} overdue. Of “{self.name}”,"

    @property
    def _last(self) -> str:
        at = self.oldest_success_at
        return f"the last success was at {time_in_words(at)}" if at else "it never succeeded"


@dataclass(frozen=True, kw_only=True)
class ConnectionsOnTime(AlertData):
    kind = "connections-on-time"
    level = Severity.INFO
    about = ConnectionsOverdue.about
    path = "/connections"
    text = "No connection is overdue any more."
    closes = (ConnectionsOverdue.kind,)

    name: str = ""
