"""Whether a POP3 server gave another mail than the one that was asked for.

An answer of POP3 does not say which mail it brings (RFC 1939). Where the server gives another one,
or one answer too many came before, a mail would be had twice, and one that was never had deleted.
Its size is not the listed one then, mostly. Sizes alone prove nothing: servers list them with other
line ends, or rounded, and filters add fields. So the header of such a mail is compared with what
TOP shows for its number, until it is known that the sizes of this server say nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.fetcher.storing import Intake
from shared.mail.fields import read_fields
from shared.mail.summary import MailHeaders, summarise
from shared.mailbox.base import Mailbox, MailRef
from shared.mailbox.failures import SessionLost
from shared.messages import Key, NewMessage

#: Of a server that gave so many mails of other sizes than it listed, each with its own header or
#: with none to compare, sizes say nothing, unless it gave more of the listed size.
MOST_COMPARED: Final = 20
#: Seconds until its mails are compared again.
_UNCOMPARED_S: Final = 3600.0


@dataclass(slots=True)
class ListedSizes:
    """What the sizes that a server lists are worth: how many mails had theirs, and how many had
    another and were not found to be other mails, since `began` (monotonic clock)."""

    kept: int = 0
    other: int = 0
    began: float = 0.0

    def to_compare(self) -> int:
        """How many mails of another size are to be compared now, at most."""
        now = time.monotonic()
        if now - self.began > _UNCOMPARED_S:
            self.kept, self.other, self.began = 0, 0, now
        return MOST_COMPARED if self.other < self.kept else max(0, MOST_COMPARED - self.other)


#: By host and port, for this process.
KNOWN: Final[dict[tuple[str, int], ListedSizes]] = {}


def of_server(endpoint: tuple[str, int]) -> ListedSizes:
    """What this process knows of the server."""
    return KNOWN.setdefault(endpoint, ListedSizes())


class MixedUpMails:
    """Compares the mails of one run. Where a mailbox keeps its sessions open (IMAP, Graph), each
    answer names its mail: nothing is compared; nor where a server has no TOP."""

    def __init__(self, mailbox: Mailbox, sizes: ListedSizes) -> None:
        self._mailbox = mailbox
        self._sizes = sizes
        #: Those looked at already: an intake comes again where a refusal in it is judged.
        self._seen: set[Key] = set()
        #: Those whose header is the one that TOP shows.
        self._own: set[Key] = set()

    @property
    def _are_possible(self) -> bool:
        return not self._mailbox.capabilities.keeps_open

    def take_back(self, intake: Intake) -> None:
        """Looks for mails in `intake` that are not what was asked for. Raises SessionLost where one
        is, or where answers are those to other questions. Then nothing is to be asked over this
        session, and of this intake only those are left that were found to be what was asked for."""
        if not self._are_possible or not self._mailbox.capabilities.dates:
            return
        suspects: list[tuple[MailRef, NewMessage]] = []
        for ref, message in zip(intake.refs, intake.messages, strict=True):
            if ref.size and ref.key not in self._seen:
                self._seen.add(ref.key)
                if message.size == ref.size:
                    self._sizes.kept += 1
                else:
                    suspects.append((ref, message))
        if suspects := suspects[: self._sizes.to_compare()]:
            self._compare(intake, suspects)

    def take_back_out_of_step(self, intake: Intake, error: SessionLost) -> bool:
        """Whether the session was lost as an answer was none, behind a refusal: that was one too
        many, perhaps. Then no mail is believed that was not compared."""
        out_of_step = self._are_possible and error.code == "protocol-error"
        if out_of_step:
            intake.take_back(self._is_unproved)
        return out_of_step

    def _compare(self, intake: Intake, suspects: Sequence[tuple[MailRef, NewMessage]]) -> None:
        given = {ref.key: message for ref, message in suspects}
        wrong: list[Key] = []
        try:
            for ref, block in self._mailbox.headers([ref for ref, _ in suspects]):
                match _is_another(given[ref.key].headers, summarise(read_fields(block))):
                    case True:
                        wrong.append(ref.key)
                    case False:
                        self._own.add(ref.key)
        except SessionLost as error:
            self.take_back_out_of_step(intake, error)
            raise
        if wrong:
            intake.take_back(self._is_unproved)
            raise _mixed_up(given[wrong[0]], wrong[0])
        self._sizes.other += len(suspects)

    def _is_unproved(self, key: Key) -> bool:
        return key not in self._own


def _is_another(given: MailHeaders, shown: MailHeaders) -> bool | None:
    """Whether these are headers of two mails; None where they do not say.

    A filter may add fields to what comes, or change the subject.
    """
    if given.message_id and shown.message_id:
        return given.message_id != shown.message_id
    if not (given.date and shown.date and given.subject and shown.subject):
        return None
    return given.date != shown.date and given.subject != shown.subject


def _mixed_up(given: NewMessage, asked: Key) -> SessionLost:
    return SessionLost(
        f"The mail server gave another mail than the one that was asked for ({asked!r}): neither "
        f"its size of {given.size:,} octets nor its header are those that the server shows.",
        step="download",
        code="protocol-error",
        hint="Nothing is lost by it: the mail is fetched again. If this stays, ask those who run "
        "the server, or read the mailbox with IMAP.",
        by_server=True,
    )
