"""Mails that a server lists and refuses to give: told one by one, and when to stop asking.

Whether a refusal is the mail's fault or the server's state shows only beside other mails; whoever
downloads decides that (`services.fetcher.downloading`). Here it is noted that a server gives
nothing any more, so that it is not asked for everything else too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from shared.errors import MailFailure, TryAgain
from shared.mailbox.base import MailRef, Sink
from shared.mailbox.errors.throttling import is_passing, is_throttled, stated_delay
from shared.mailbox.failures import Unreachable

#: As many refused one after another with the same words are no accident.
_ENOUGH = 2
_NUMBERS = re.compile(r"\d+")
#: Octets of line ends alone that are no mail.
_LINE_ENDS = 4


class MailRefused(MailFailure):
    """The server lists the mail and does not give it.

    `words` are the server's. `throttled`: it serves nobody at the moment, whatever the mail.
    `passing`: it says that this passes. `retry_after` is in seconds, None where it does not say.
    `because`: the error that it is where a request a mail is made (Graph).
    """

    code = "mail-refused"

    def __init__(
        self,
        words: str,
        *,
        throttled: bool | None = None,
        passing: bool | None = None,
        because: TryAgain | None = None,
    ) -> None:
        super().__init__(
            f"The mail server cannot give this mail: {words.rstrip('.')}.",
            hint="Look at the mail with another program; it may be damaged there.",
        )
        self.words = words
        self.throttled = is_throttled(words) if throttled is None else throttled
        self.passing = self.throttled or (is_passing(words) if passing is None else passing)
        self.retry_after = stated_delay(words) if because is None else because.retry_after
        self._because = because

    def of_server(self) -> TryAgain:
        """The same refusal where it is the server's state and no mail's fault."""
        if self._because is not None:
            return self._because
        return Unreachable(
            f"The mail server gives out no mails at the moment: {self.words.rstrip('.')}.",
            step="download",
            code="throttled" if self.throttled else "server-refused",
            retry_after=self.retry_after,
            hint="Nothing is lost: it is tried again by itself"
            + (
                f", in {self.retry_after:.0f} seconds at the earliest. "
                if self.retry_after
                else ". "
            )
            + "If it stays, compare the limits that the provider sets for this mailbox with what "
            "else reads it, and lengthen the interval.",
        )


def is_blank(start: bytes, size: int, listed: int) -> bool:
    """Whether of a mail whose size the server lists (0: it is empty, or nobody knows) nothing came
    but line ends: `size` octets that begin with `start`."""
    return size <= _LINE_ENDS and listed > size and not start.strip()


def gave_nothing(listed: int = 0) -> MailRefused:
    """The reason to abandon a mail whose answer is in order and empty: who took it for the mail
    would hand on nothing, and delete the original."""
    size = f" of {listed:,} octets" if listed else ""
    return MailRefused(f"it lists a mail{size} and gives an empty one")


class RefusedMails:
    """The refusals of one download; each goes to the sink at once."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._last = ""
        self._row = 0

    @property
    def enough(self) -> bool:
        """Whether asking for more is in vain, as far as can be seen."""
        return self._row >= _ENOUGH

    def mail_came(self) -> None:
        """A mail came."""
        self._row = 0

    def refused(self, ref: MailRef, reason: MailRefused) -> None:
        words = _NUMBERS.sub("#", reason.words.lower())
        self._row = self._row + 1 if words == self._last else 1
        if reason.throttled:
            self._row = max(self._row, _ENOUGH)
        self._last = words
        self._sink.abandon(ref, reason)

    def not_asked(self, refs: Iterable[MailRef]) -> None:
        """These were left out; the next listing has them again."""
        for ref in refs:
            self._sink.abandon(ref, mail_not_asked())


def mail_not_asked() -> TryAgain:
    """The reason to abandon a mail that was not asked for, as the server gives nothing."""
    return TryAgain("The mail was not asked for, as others were refused.", code="mail-not-asked")
