"""What every kind of alert is: a class with its fields, and its words as format strings.

Pure. An alert is a *transition*: it is raised once when something changes, in the transaction of
that change, and delivered to every enabled webhook. Who raises one and who writes its text share
its type, so that a reason cannot be lost between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import ClassVar


class Severity(StrEnum):
    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


def time_in_words(at: str) -> str:
    """A field's time (ISO 8601) as sentences have it: `2026-11-22 10:00 UTC`."""
    return f"{datetime.fromisoformat(at).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, kw_only=True)
class AlertData:
    """What one kind says; a subclass that has a `kind`, in one of the modules beside this one,
    is all that a new alert needs.

    `about`, `path`, `text` and `episode` are format strings over the fields and properties of the
    alert, which is argument 0. No field holds a secret or the content of a mail.
    """

    #: Stable, for programs: part of the event's type, stored with the alert.
    kind: ClassVar[str]
    #: What people call it where a webhook chooses its kinds. Empty: a recovery goes where what it
    #: ends goes, and a test to the webhook that it was asked for.
    choice: ClassVar[str] = ""
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
