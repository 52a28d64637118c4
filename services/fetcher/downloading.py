"""Downloads of one run, and whose fault it is where a server gives no mail.

A refusal may be the mail's fault (it is damaged there) or the server's state (it throttles, a disk
is away). One rule tells them apart, for every kind of mailbox: *a mail is quarantined only if it is
refused while another one is given afterwards, and refused once more after that.* Everything else is
tried again, with the delay that the server states.

A session that breaks says nothing about the mails behind the one under way: they are asked for
alone in the next run, that one last (`shared.storage.download_failures`).
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from services.fetcher.mixed_up_mails import ListedSizes, MixedUpMails
from services.fetcher.storing import Intake
from shared.errors import OwnFailure, PosthouseError, TryAgain
from shared.mailbox import wait_budget
from shared.mailbox.base import Mailbox, MailRef
from shared.mailbox.errors.refused_mails import MailRefused
from shared.mailbox.failures import SessionLost
from shared.messages import Key
from shared.store import StoreFull


class Downloads:
    """Not shared between threads. After `stopped` nothing more is to be asked for. `sizes`: what
    those that the server lists are worth, where it is known."""

    def __init__(self, mailbox: Mailbox, limit: int, sizes: ListedSizes | None = None) -> None:
        self._mailbox = mailbox
        self._limit = limit
        self._mixed_up = MixedUpMails(mailbox, sizes or ListedSizes())
        self._proof: MailRef | None = None
        #: Why the run cannot go on.
        self.stopped: TryAgain | None = None
        #: Where the session broke: mails asked for and not received, the one under way first.
        self.broken: Sequence[MailRef] = ()
        #: How many octets of the one under way had come.
        self.broken_after = 0
        #: Whether that one was asked for alone, and whether the wait for it was cut short.
        self.alone = False
        self.hurried = False
        #: The mail for which the store had no room.
        self.no_room_for: MailRef | None = None
        #: Mails were given in this run.
        self.gave = False

    @property
    def out_of_step(self) -> bool:
        """Whether nothing can be asked over this session any more: it was lost, or what is ours
        failed in the middle of a mail, of which the rest is still to come."""
        return isinstance(self.stopped, SessionLost | OwnFailure)

    def into(
        self, intake: Intake, batch: Sequence[MailRef], *, longest_wait_s: float | None = None
    ) -> None:
        """Downloads `batch`; what arrived whole is in `intake`, whatever stopped the rest.

        `longest_wait_s`: seconds to wait for an octet of it, None as long as usual.
        """
        self.hurried = longest_wait_s is not None
        try:
            with wait_budget.hurried(longest_wait_s):
                self._download(intake, batch)
            if intake.withheld:
                try:
                    self._judge(intake)
                except SessionLost as error:
                    if self._mixed_up.take_back_out_of_step(intake, error):
                        self._broke_at(intake, batch)
                    raise
        except TryAgain as error:
            self.stopped = error
        self._remember(intake)

    def _download(self, intake: Intake, refs: Sequence[MailRef]) -> None:
        try:
            self._mailbox.download(refs, intake, limit=self._limit)
            self._mixed_up.take_back(intake)
        except SessionLost:
            self._broke_at(intake, refs)
            raise
        except StoreFull:
            self.no_room_for = intake.under_way
            raise

    def _broke_at(self, intake: Intake, refs: Sequence[MailRef]) -> None:
        self.broken = intake.unhandled(refs)
        self.broken_after = intake.octets_under_way
        self.alone = len(refs) == 1

    def _judge(self, intake: Intake) -> None:
        """Decides about what was refused. Raises TryAgain where it is the server's state."""
        withheld = intake.take_withheld()
        self._unless_throttled(withheld)
        self._remember(intake)
        if not self._gives_another(intake, {ref.key for ref, _ in withheld}):
            raise withheld[-1][1].of_server()
        self._unless_throttled(intake.take_withheld())
        for ref, _ in withheld:
            self._download(intake, [ref])
        again = intake.take_withheld()
        self._unless_throttled(again)
        for ref, reason in again:
            if reason.passing:
                intake.suspected.append((ref, reason))
            else:
                intake.refuse(ref, reason)

    def _gives_another(self, intake: Intake, asked: Set[Key]) -> bool:
        """Whether the server gives another mail now: one that it gave before, else the next one
        that was not asked for yet, else one of an earlier run."""
        if self._proof is not None and self._comes(self._proof):
            return True
        ref = intake.take_not_asked()
        if ref is not None:
            before = len(intake.messages)
            self._download(intake, [ref])
            return len(intake.messages) > before
        # POP3 servers may remove what is retrieved, and it may be a mail that was never taken.
        if self._proof is not None or not self._mailbox.capabilities.keeps_open:
            return False
        listed = self._mailbox.keys()
        earlier = [key for key in listed if key not in asked]
        return bool(earlier) and self._comes(MailRef(earlier[-1], 0))

    def _comes(self, ref: MailRef) -> bool:
        proof = _Proof()
        self._mailbox.download([ref], proof, limit=self._limit)
        return proof.given

    def _remember(self, intake: Intake) -> None:
        """The smallest mail given last; earlier ones may be settled, and gone, by now."""
        if intake.refs:
            self.gave = True
            self._proof = min(intake.refs, key=lambda ref: ref.size or self._limit)

    @staticmethod
    def _unless_throttled(refused: Sequence[tuple[MailRef, MailRefused]]) -> None:
        throttled = [reason.of_server() for _, reason in refused if reason.throttled]
        if throttled:  # what the server said itself before what followed from it
            raise max(throttled, key=lambda e: (e.code == "throttled", e.retry_after or 0))


class _Proof:
    """A sink that only sees whether a mail comes, and not an empty answer in its place."""

    def __init__(self) -> None:
        self.given = False
        self._begun = False

    def begin(self, ref: MailRef) -> None:
        self._begun = False

    def write(self, chunk: bytes | memoryview) -> None:
        self._begun = self._begun or bool(bytes(chunk).strip())

    def end(self) -> None:
        self.given = self._begun

    def abandon(self, ref: MailRef, reason: PosthouseError) -> None:
        pass
