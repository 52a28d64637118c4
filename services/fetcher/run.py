"""One run of one connection, as data: what it was given, where it stands, and what it did."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Final

from services.fetcher.absent_mails import AbsentMails
from services.fetcher.settings import FetcherSettings
from services.fetcher.storing import Intake
from shared.connections import AfterDownload, Connection
from shared.errors import TryAgain
from shared.jobs import FETCH_QUEUE, FETCH_SLOW_QUEUE
from shared.mailbox import wait_budget
from shared.mailbox.base import Cursor, Mailbox, MailRef
from shared.mailbox.failures import SessionLost, StepFailed
from shared.messages import Key, NewMessage
from shared.storage.folder_ref import FolderRef
from shared.storage.known_sets import KnownMails
from shared.storage.leases import Lease
from shared.storage.pool import Database
from shared.storage.scheduling import RunState
from shared.storage.settlements import Settled
from shared.store import StoreFull
from shared.store_identity import OwnStore

#: Where a process may die; the interruption tests do, at every one.
STEPS: Final = (
    "listed",
    "downloaded",
    "stored",
    "committed",
    "handed-on",
    "server-settled",
    "settled",  # where a batch is the only one of its run: with the end of that
    "finished",
)

#: A run that took longer than this is slow: its next one goes to the other lane.
SLOW_SECONDS: Final = 2.0
#: Where a server wants more time than this between logins, a run does not last as long.
_LONGEST_SLICE_S: Final = 300.0
#: Sessions that may break at mails of one run; with the last one it ends.
MOST_BREAKS: Final = 8
#: How many of them may do so as the server says nothing more, and after the first one the wait for
#: that: this part of the read time-out, and so many seconds at least.
MOST_SILENCES: Final = 3
_HURRIED: Final = 1 / 6
_LEAST_WAIT_S: Final = 5.0


@dataclass(slots=True)
class RunReport:
    """What a run did; `cursor` is to be kept where everything in the folder was handled."""

    found: int = 0
    downloaded: int = 0
    octets: int = 0
    #: Those that were begun.
    batches: int = 0
    again: bool = False
    idle: bool = False
    cursor: Cursor | None = None
    keep_cursor: bool = False
    #: It was ill before.
    recovered: bool = False
    uid_validity: int | None = None
    #: The session that is used now broke; `breaks`: how many of this run did so at a mail.
    session_broke: bool = False
    breaks: int = 0
    #: How many stood still at a mail before they broke, for how many seconds, and whether one of
    #: them was waited for as long as usual.
    silences: int = 0
    silent_s: float = 0.0
    waited_in_full: bool = False
    #: Mails that broke a session when asked for alone, and how: not asked for again in this run.
    broke_alone: dict[Key, TryAgain] = field(default_factory=dict)
    #: Mails that are listed and not there: not asked for again in this run, nor in the next one
    #: where it has no time to pass them, so that those behind them come. There is no cursor then,
    #: as a damaged index may have them again.
    absent: set[Key] = field(default_factory=set)
    #: Mails for which the store has no room now, and the error that says so: smaller ones go on.
    no_room_for: set[Key] = field(default_factory=set)
    #: Octets of a batch for which it has room, where that was found out.
    batch_octets: int | None = None
    store_full: StoreFull | None = None
    settled: list[MailRef] = field(default_factory=list)
    #: What the server has confirmed and is recorded with the end of the run.
    confirmed: list[Settled] = field(default_factory=list)
    #: Committed, and to be settled at the end of the run (`Capabilities.settles_by_ending`).
    unsettled: list[MailRef] = field(default_factory=list)
    #: What the server will not do with mails that are safe here; all else of the run was done.
    settling_refused: StepFailed | None = None
    #: Seconds that the server wants until the next login.
    pause: float = 0.0
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def duration_ms(self) -> int:
        return int(((self.ended or time.monotonic()) - self.started) * 1000)

    @property
    def lane(self) -> str:
        slow = self.again or self.duration_ms > SLOW_SECONDS * 1000
        return FETCH_SLOW_QUEUE if slow else FETCH_QUEUE


class SessionBroke(Exception):
    """A session broke at a mail, as `reason` says; others are to be asked for in a fresh one."""

    def __init__(self, reason: TryAgain) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Committed:
    """`messages` are in the ledger. Of the intake's refs `already_known` may be settled; `kept` are
    known under another key, and stay on the server as they are."""

    messages: Sequence[NewMessage]
    already_known: Sequence[MailRef]
    kept: Sequence[MailRef] = ()


@dataclass(frozen=True, slots=True)
class Ready:
    """A batch that was downloaded. `failed_before`: a download of some of it broke off once.
    `only`: its run has no other, so that nothing else goes over its session meanwhile."""

    run: Run
    intake: Intake
    failed_before: bool = False
    only: bool = False


@dataclass(slots=True)
class InDoubt:
    """Keys that a server lists again, which shows no headers: whether they name the mails of before
    is told by what is downloaded.

    `contents`: those that are to be downloaded now, with the digests of the headers of before;
    `later`: the others. `changed`: one of them named another mail.
    """

    contents: dict[Key, bytes] = field(default_factory=dict)
    later: Set[Key] = frozenset()
    changed: bool = False

    @property
    def left(self) -> Set[Key]:
        """Those of which it is still not known. Where all that were downloaded are the same, the
        others are believed to be."""
        if self.contents:
            return {*self.contents, *self.later}
        return self.later if self.changed else frozenset()

    def compared(self, keys: Iterable[Key]) -> None:
        """These were downloaded, and committed as what they are."""
        for key in keys:
            self.contents.pop(key, None)


@dataclass(frozen=True, slots=True)
class Tools:
    """What every run of this fetcher works with.

    `commits` makes batches durable and commits them, those that are ready together in one go;
    None for who lost his lease. `hand_on` sends decrypt jobs; `reached` is called with the name of
    every step; `stopping` says that the process shall end: the batch in hand is finished, no other
    begun.
    `absent`: mails that a run had no time to pass.
    """

    database: Database
    store: OwnStore
    settings: FetcherSettings
    commits: Callable[[Ready], Committed | None]
    hand_on: Callable[[Sequence[uuid.UUID]], None]
    stopping: Callable[[], bool]
    reached: Callable[[str], None]
    absent: AbsentMails = field(default_factory=AbsentMails)


@dataclass(slots=True)
class Run:
    """Passed through the phases of `services.fetcher.run_phases`, which take nothing else.

    `changed`: its server announced something new, so that is not asked for first. `rebinding`:
    mails are compared by content, as the folder was re-created or every key in it changed.
    `unknown_from`: from this UID on no mail was had before this run (`Begun`). `nothing_known`: no
    mail of the folder was known when it was opened, for the first time.
    """

    tools: Tools
    connection: Connection
    state: RunState
    lease: Lease
    changed: bool = False
    rebinding: bool = False
    unknown_from: int | None = None
    nothing_known: bool = False
    in_doubt: InDoubt = field(default_factory=InDoubt)
    report: RunReport = field(default_factory=RunReport)
    _mailbox: Mailbox | None = None
    _folder_ref: FolderRef | None = None
    _deadline: float = 0.0

    def known_mails(self) -> KnownMails:
        """What it had before. What needs not be asked for that is true once: then the run itself
        has mails."""
        folder_ref, unknown_from = self.folder_ref, self.unknown_from
        self.unknown_from = None
        if self.rebinding or folder_ref.uid_validity != self.state.uid_validity:
            unknown_from = None
        return KnownMails(
            self.tools.database,
            folder_ref.connection_id,
            folder_ref.folder,
            folder_ref.uid_validity,
            unknown_from=unknown_from,
        )

    def start(self) -> None:
        """Its time begins: it may have waited since it was leased."""
        self.report = RunReport()

    @property
    def mailbox(self) -> Mailbox:
        assert self._mailbox is not None, "the run has a session by now"
        return self._mailbox

    @mailbox.setter
    def mailbox(self, mailbox: Mailbox) -> None:
        self._mailbox, self._folder_ref = mailbox, None
        self.rebinding = self.nothing_known = False
        self.report.session_broke = False

    @property
    def folder_ref(self) -> FolderRef:
        assert self._folder_ref is not None, "the folder is open by now"
        return self._folder_ref

    @folder_ref.setter
    def folder_ref(self, folder_ref: FolderRef) -> None:
        self._folder_ref = folder_ref
        self.report.uid_validity = folder_ref.uid_validity

    @property
    def removes(self) -> bool:
        """Whether settled mails are gone from the server: what was kept there on purpose, before
        the connection was changed or at another server, is then not settled again. At Gmail it is:
        its window would stand still."""
        capabilities = self.mailbox.capabilities
        return self.connection.after_download is AfterDownload.DELETE or (
            capabilities.expires_days == 0 and not capabilities.window
        )

    def set_deadline(self) -> None:
        """It lasts a slice; where the next login has to wait, others gain nothing from that.

        What a silent server cost is not taken from it: one mail waited for in vain is longer than
        a slice, and each would cost those behind it another interval. The wait budget bounds it.
        """
        slice_s = self.tools.settings.slice_seconds
        self._deadline = (
            self.report.started
            + max(slice_s, min(self.report.pause, _LONGEST_SLICE_S))
            + self.report.silent_s
        )

    def broke(self, error: TryAgain, *, hurried: bool) -> None:
        """Its session broke at a mail; `hurried`: the wait for that was cut short."""
        self.report.session_broke = True
        self.report.breaks += 1
        if error.code == "read-timeout":
            usual_s = self.tools.settings.read_timeout_seconds
            self.report.silences += 1
            self.report.waited_in_full = self.report.waited_in_full or not hurried
            self.report.silent_s += self.hurried_wait_s if hurried else usual_s
            self.set_deadline()

    @property
    def hurried_wait_s(self) -> float:
        """Seconds to wait for a mail's next octet where the usual wait would keep others out."""
        usual_s = float(self.tools.settings.read_timeout_seconds)
        return max(min(usual_s, _LEAST_WAIT_S), usual_s * _HURRIED)

    def may_go_on(self, error: TryAgain) -> bool:
        """Whether a fresh session may be opened in this run, after one that broke at a mail: not
        where the server says that it is about itself, nor for ever."""
        about_server = isinstance(error, SessionLost) and (error.throttled or error.passing)
        stated = error.retry_after is not None
        budget = wait_budget.current()
        spent = self.is_over or (budget is not None and budget.left <= 0)
        often = self.report.breaks >= MOST_BREAKS or self.report.silences >= MOST_SILENCES
        return not (about_server or stated or spent or often)

    def start_over(self, *, kept: bool) -> None:
        """In a fresh session, which lists anew: what it had is known by then. Where the one that
        broke was `kept` from an earlier run, no mail need have to do with it."""
        if kept:
            self.report.broke_alone.clear()
        self.state = replace(self.state, has_failed_downloads=True, has_unsettled=True)
        self.report.found = self.report.downloaded

    def begins_batch(self) -> bool:
        """Whether another batch may be begun, which then is. The first one is begun whatever the
        time: at a server where login and list take longer than a slice no mail would ever come."""
        begins = not self.tools.stopping() and (not self.report.batches or not self.is_over)
        self.report.batches += begins
        return begins

    @property
    def is_over(self) -> bool:
        """Whether time is up, or the process ends."""
        return time.monotonic() > self._deadline or self.tools.stopping()
