"""One examination: sessions that ask a mailbox what a run asks, with the code of a run.

Nothing on the server is changed: folders are opened for reading, mails are looked at with PEEK, no
POP3 session that retrieved a mail ends with QUIT, and what settles mails is not sent at all.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Protocol

from shared.connections import Connection, Selection
from shared.errors import PosthouseError
from shared.mailbox import traffic_observer
from shared.mailbox.base import Folder, Listing, Mailbox, MailRef
from shared.mailbox.failures import FolderMissing
from shared.messages import Key

#: The mail that is downloaded is no larger (octets), where that is known before.
SAMPLE_LIMIT: Final = 1 << 20
#: Mails of a folder up to which Graph is asked for the whole of it, to get its lasting link.
WHOLE_FOLDER: Final = 5000
#: Mails whose description is asked for.
SAMPLES: Final = 3
#: A folder that no mailbox has.
NOBODYS: Final = "asked for by the doctor"
LONG_AGO: Final = datetime(1990, 1, 1, tzinfo=UTC)


class Open(Protocol):
    """Opens the connection's mailbox as a run does.

    `mechanism`: by this way of giving the password only. `fresh`: with a token asked for now.
    """

    def __call__(
        self, connection: Connection, /, *, mechanism: str = "", fresh: bool = False
    ) -> Mailbox: ...


@dataclass(slots=True)
class Examination:
    """What is found out on the way.

    `notes` are sentences for people; `not_asked` forms that were left out, with the reason.
    """

    connection: Connection
    open: Open
    seconds: float
    observer: traffic_observer.Observer = field(default_factory=traffic_observer.Observer)
    server: str = ""
    capabilities: tuple[str, ...] = ()
    mailbox: str = ""
    notes: list[str] = field(default_factory=list)
    not_asked: list[tuple[str, str]] = field(default_factory=list)
    failures: list[tuple[str, PosthouseError]] = field(default_factory=list)
    #: Ways of giving the password that runs do not use, as another one goes first.
    other_ways: list[str] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    _until: float = 0.0

    def __post_init__(self) -> None:
        self._until = time.monotonic() + self.seconds

    def left(self, doing: str) -> bool:
        """Whether there is time for more; noted where not."""
        if time.monotonic() < self._until:
            return True
        self.not_asked.append((doing, f"the {self.seconds:g} seconds of an examination are over"))
        return False

    @contextlib.contextmanager
    def part(self, doing: str) -> Iterator[None]:
        """One part of it: what fails inside is noted, and the next part goes on."""
        try:
            yield
        except PosthouseError as error:
            self.failures.append((doing, error))

    @contextlib.contextmanager
    def session(
        self, connection: Connection | None = None, *, mechanism: str = "", fresh: bool = False
    ) -> Iterator[Mailbox]:
        """A session of its own."""
        mailbox = self.open(connection or self.connection, mechanism=mechanism, fresh=fresh)
        try:
            self.server = self.server or mailbox.server
            self.capabilities = self.capabilities or mailbox.capabilities.names
            yield mailbox
        finally:
            mailbox.close()

    def try_other_ways(self, ways: Sequence[str]) -> None:
        """Logs in by each way that the server offers besides the one that runs use."""
        for way in ways:
            if not self.left(f"logging in by {way}"):
                continue
            self.other_ways.append(way)
            try:
                with self.session(mechanism=way):
                    pass
            except PosthouseError as error:
                self.notes.append(f"Runs log in by another way than {way}, which fails: {error}")

    def with_selection(self, selection: Selection) -> Connection:
        return replace(self.connection, selection=selection)


class AllKnown:
    """`Known` of a mailbox of which everything was had."""

    def __init__(self, count: int) -> None:
        self._count = count

    def missing(self, keys: Sequence[Key]) -> list[Key]:
        return []

    def count(self) -> int:
        return self._count


class Counting:
    """A sink that counts octets and keeps none."""

    def __init__(self) -> None:
        self.octets: dict[Key, int] = {}
        self.reasons: list[str] = []
        self._ref: MailRef | None = None

    def begin(self, ref: MailRef) -> None:
        self._ref = ref
        self.octets[ref.key] = 0

    def write(self, chunk: bytes | memoryview) -> None:
        assert self._ref is not None
        self.octets[self._ref.key] += len(chunk)

    def end(self) -> None:
        pass

    def abandon(self, ref: MailRef, reason: PosthouseError) -> None:
        self.octets.pop(ref.key, None)
        self.reasons.append(str(reason))


def smallest(listing: Listing) -> list[MailRef]:
    """The mail to download: the smallest one that is not too large."""
    refs = [ref for ref in listing.new if ref.size <= SAMPLE_LIMIT]
    return sorted(refs, key=lambda ref: ref.size)[:1]


def download(found: Examination, mailbox: Mailbox, refs: Sequence[MailRef]) -> None:
    """Downloads a mail and says how it went."""
    for ref in refs:
        sink = Counting()
        mailbox.download([ref], sink, limit=SAMPLE_LIMIT)
        octets = sink.octets.get(ref.key)
        if octets is None:
            found.notes.append(f"The mail that was asked for did not come: {sink.reasons[0]}")
        elif ref.size and ref.size != octets:
            found.notes.append(
                f"A mail has {octets} octets where {ref.size} were announced: sizes are taken for "
                "hints only, so this does no harm."
            )


def look_up_by_name(found: Examination, mailbox: Mailbox) -> None:
    """Looks folders up as a run does that is to read one: another than the inbox, and one below
    the inbox that nobody has."""
    other = next(
        (f.name for f in found.folders if f.selectable and f.name.upper() != "INBOX"), None
    )
    for name in (other, f"INBOX/{NOBODYS}", NOBODYS):
        with contextlib.suppress(FolderMissing):
            if name is not None:
                mailbox.open(name)


def opened(found: Examination, mailbox: Mailbox) -> int:
    """Opens the folder of the connection, the inbox where it is missing; how many mails it has."""
    try:
        status = mailbox.open(found.connection.folder)
    except FolderMissing as error:
        found.notes.append(f"{error} The inbox was examined in its place.")
        status = mailbox.open("")
    found.mailbox = status.folder
    if not status.total:
        found.not_asked.append(
            ("downloading", "the folder holds no mail: put one there and examine again")
        )
    return status.total
