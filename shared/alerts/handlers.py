"""Alerts about handlers: how far behind they are, and what becomes of their forwards."""

from __future__ import annotations

from dataclasses import dataclass

from shared.alerts.base import AlertData, Severity, time_in_words
from shared.quantities import counted


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
    choice = "A handler falls behind"
    text = "Handler “{0.name}” is behind: {0._mails}, the oldest since {0._since}."
    episode = "{0.subject}:backlog-old"

    @property
    def _mails(self) -> str:
        return counted(self.backlog, "mail waits", "mails wait")

    @property
    def _since(self) -> str:
        return time_in_words(self.oldest_at) if self.oldest_at else "a while ago"


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
    choice = "Nothing is sent to a handler's endpoint any more"
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
    choice = "A handler's endpoint did not take mails for so long that they are given up"
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
