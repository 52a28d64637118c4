"""Mail sessions that stay open between polls: a login costs ten times what a poll does.

A kept session either waits for its next poll or, where the connection asks for push, listens:
IDLE runs on it in a thread that all of them share, and a run takes it out of there.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from services.fetcher.session_limits import (
    KeptElsewhere,
    LearnedLimits,
    concerns_host,
    ends_without_word,
    may_be_too_many,
    says_too_many,
)
from shared.connections import Connection
from shared.errors import PosthouseError, TryAgain
from shared.mailbox.base import Cursor, Mailbox
from shared.mailbox.failures import StepFailed
from shared.mailbox.push_loop import PushLoop
from shared.storage.affinity import KeptSessions
from shared.telemetry import metrics

#: Servers log idle clients out after 30 minutes (RFC 9051 section 5.4).
LONGEST_IDLE_MINUTES = 20
#: Seconds until the place of a session that was closed is taken again by the server.
_UNTIL_FREE_S = (0.3, 1.2)
#: Seconds to wait for a session that begins to listen at this moment.
_BEGIN_S = 2.0
#: How often in a row a connection waits for a place (some seconds each time) at a server that ends
#: its sessions without a word, where a known limit or other sessions of ours explain that.
_TURNED_AWAY = 12
#: Seconds that the room made for a session is kept for it.
_RESERVED_S = 10.0
#: Of each limit, one fifth (one session at least) never listens: polls of other folders need it.
_NEVER_LISTENING = 5


class HostBusy(TryAgain):
    """As many sessions at this server as allowed: the connection's turn comes a little later."""

    code = "host-busy"


@dataclass(frozen=True, slots=True)
class Limits:
    """How many sessions there may be: kept ones that wait, those that listen, and all together at
    one server and at one mailbox (by who logs in)."""

    kept: int
    listening: int
    per_host: int
    per_mailbox: int


@dataclass(frozen=True, slots=True)
class _Kept:
    mailbox: Mailbox
    places: tuple[str, str]
    version: datetime | None
    since: float = field(default_factory=time.monotonic)


class SessionPool:
    """The sessions of a fetcher, bounded. Thread-safe; one connection is used by one run at a time.

    A session belongs to a connection as it was edited last; an edit makes it useless. `on_push`
    and `on_lost` tell of listening sessions, by the connection's id, from the loop's thread.
    `crowded` is told a host that turned us away although no session of this fetcher is open there,
    and says whether other fetchers have some that may give way.
    """

    def __init__(
        self,
        opener: Callable[[Connection], Mailbox],
        limits: Limits,
        *,
        on_push: Callable[[int], None],
        on_lost: Callable[[int, PosthouseError], None],
        crowded: Callable[[str], bool] = lambda host: False,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._opener = opener
        self._limits = limits
        self._on_lost = on_lost
        self._crowded_host = crowded
        self._wait = wait
        self._lock = threading.Lock()
        self._begun = threading.Condition(self._lock)
        self._waiting: OrderedDict[int, _Kept] = OrderedDict()
        self._listening: dict[int, _Kept] = {}
        self._beginning: set[int] = set()  # those whose folder is being opened to listen
        self._count: Counter[str] = Counter()
        self._hearing: Counter[str] = Counter()
        self._learned = LearnedLimits()
        self._elsewhere = KeptElsewhere()
        self._turned_away: Counter[int] = Counter()
        self._loop = PushLoop(lambda key: on_push(_id(key)), self._lost)

    @property
    def is_listening(self) -> bool:
        """Whether the thread that waits for pushed mails lives."""
        return self._loop.is_alive

    def __enter__(self) -> SessionPool:
        self._loop.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._listening)

    def keeps(self, connection_id: int) -> bool:
        """Whether a session of this connection is open here, and nobody uses it."""
        return connection_id in self._waiting or connection_id in self._listening

    # ---- for one run

    def take(self, connection: Connection) -> tuple[Mailbox, bool]:
        """A session for this connection, and whether it was open already.

        Raises HostBusy, or whatever opening a mailbox raises.
        """
        places = _places(connection)
        with self._lock:
            if not self._settled(connection.id, _BEGIN_S):
                raise HostBusy("The session of this mailbox begins to listen just now.")
            kept = self._waiting.pop(connection.id, None)
            heard = self._listening.pop(connection.id, None)
        answers = kept is not None
        if heard is not None:
            answers = self._loop.release(connection.id) is not None
            self._count_listening(heard, -1)
            kept = heard
        if kept is not None:
            if answers and kept.version == connection.updated_at:
                return kept.mailbox, True
            self._end([kept])
        self._make_room(places)
        try:
            return self._opened(connection, places), False
        except BaseException:
            self._forget(places)
            raise

    def _opened(self, connection: Connection, places: tuple[str, str]) -> Mailbox:
        """Opens a session; where the server takes no more of them, kept ones give way."""
        try:
            mailbox = self._opener(connection)
            self._turned_away.pop(connection.id, None)
            return mailbox
        except StepFailed as error:
            if not may_be_too_many(error):
                raise
            failure = error
        place = places[0] if concerns_host(failure) else self._crowded(places)
        with self._lock:
            have = self._count[place] - 1
        if have < 1:
            known = self._learned.knows(places[0]) or (
                ends_without_word(failure) and self._crowded_host(places[0])
            )
            raise self._turned_away_by(connection, places[0], failure, explained=known)
        told = says_too_many(failure)
        # At a mailbox one place more is left: for the person whose mailbox it is.
        spare = max(1, have // 10) if place == places[1] else have // 10
        if told:
            self._learned.learn(place, max(1, have - spare))
        going = max(1, have // 10) if told else 1
        if told and place == places[1] and have > 1:
            going += 1
        if ends_without_word(failure):
            # Else a run that comes in between takes the room, and is not even refused.
            self._learned.reserve(place, have, _RESERVED_S)
        if not self._give_way(place, going):
            raise HostBusy(f"{place} takes no more sessions: {failure}") from failure
        try:
            for pause in _UNTIL_FREE_S:
                self._wait(pause)
                try:
                    mailbox = self._opener(connection)
                except StepFailed as error:
                    if not may_be_too_many(error):
                        raise
                    continue
                if not told:  # one had to go, and it worked: that many there may be
                    self._learned.learn(place, max(1, have - (place == places[1])))
                self._turned_away.pop(connection.id, None)
                return mailbox
        finally:
            self._learned.release(place)
        if told:
            raise HostBusy(f"{place} takes no more sessions: {failure}") from failure
        # Another run may have taken the room that was made, or the server has another reason.
        raise self._turned_away_by(connection, place, failure, explained=True) from failure

    def _turned_away_by(
        self,
        connection: Connection,
        place: str,
        failure: StepFailed,
        *,
        explained: bool,
    ) -> PosthouseError:
        """What to raise for a session that the server does not take: HostBusy as long as its limit
        explains that, and the failure itself once it explains too much."""
        self._turned_away[connection.id] += 1
        patience = _TURNED_AWAY if explained else 0
        if ends_without_word(failure) and self._turned_away[connection.id] <= patience:
            return HostBusy(f"{place} takes no more sessions for now: {failure}")
        return failure

    def _crowded(self, places: tuple[str, str]) -> str:
        """Where a refusal after the login belongs: the mailbox, if it has other sessions."""
        with self._lock:
            return places[1] if self._count[places[1]] > 1 else places[0]

    def take_waiting(self, connection: Connection) -> Mailbox | None:
        """The session of this connection if it is open, current and does not listen."""
        with self._lock:
            kept = self._waiting.get(connection.id)
            if kept is None or kept.version != connection.updated_at:
                return None
            del self._waiting[connection.id]
            return kept.mailbox

    def wake(self, connection: Connection, patience: float) -> bool:
        """Whether a session of this connection waits here; one that listens is taken out of that,
        which its server has to confirm within `patience` seconds."""
        with self._lock:
            if not self._settled(connection.id, patience):
                return False
            if connection.id in self._waiting:
                return True
            kept = self._listening.pop(connection.id, None)
        if kept is None:
            return False
        self._count_listening(kept, -1)
        if self._loop.release(connection.id, timeout_s=patience) is None:
            self._end([kept])
            return False
        with self._lock:
            self._waiting[connection.id] = kept
        return True

    def give_back(self, connection: Connection, mailbox: Mailbox, *, healthy: bool) -> None:
        """Keeps the session for the next poll where that is of use, else closes it."""
        kept = _Kept(mailbox, _places(connection), connection.updated_at)
        useful = (
            healthy
            and self._limits.kept > 0
            and connection.kind.keeps_sessions
            and (
                connection.interval_minutes <= LONGEST_IDLE_MINUTES
                or (connection.push and mailbox.capabilities.push)
            )
        )
        closing = [] if useful else [kept]
        with self._lock:
            mailbox_place = kept.places[1]
            if useful and self._count[mailbox_place] > self._elsewhere.leaves(
                mailbox_place, self._limits.per_mailbox
            ):
                closing, useful = [kept], False  # it had its run, and is one too many to be kept
            if useful:
                self._waiting[connection.id] = kept
                if len(self._waiting) > self._limits.kept:
                    closing.append(self._waiting.popitem(last=False)[1])
        self._end(closing)

    def discard(self, connection: Connection, mailbox: Mailbox) -> None:
        """Closes a session that was taken and turned out broken."""
        self._end([_Kept(mailbox, _places(connection), None)])

    # ---- listening

    def listen(self, connection: Connection, cursor: Cursor | None) -> bool:
        """Lets a session that waits here listen instead; False where it cannot, and waits on.

        What changed since `cursor` is news at once. Blocks for a round trip. Raises what opening
        the folder raises; the session is closed then.
        """
        with self._lock:
            kept = self._waiting.get(connection.id)
            if (
                kept is None
                or kept.version != connection.updated_at
                or not kept.mailbox.capabilities.push
                or not self._may_listen(kept)
            ):
                return False
            del self._waiting[connection.id]
            self._beginning.add(connection.id)
        self._count_listening(kept, 1)
        # From here on it may be lost at any time: that is told by its key, so it is known first.
        self._listening[connection.id] = kept
        try:
            self._loop.watch(connection.id, kept.mailbox, connection.folder, cursor)
        except BaseException:
            self._drop_listening(connection.id)
            raise
        finally:
            with self._lock:
                self._beginning.discard(connection.id)
                self._begun.notify_all()
        return True

    def _settled(self, connection_id: int, patience: float) -> bool:
        """Waits, with the lock, while the session begins to listen; False where it takes longer."""
        return self._begun.wait_for(lambda: connection_id not in self._beginning, patience)

    def _may_listen(self, kept: _Kept) -> bool:
        host, mailbox = kept.places
        return (
            len(self._listening) < self._limits.listening
            and self._hearing[host] < _share(self._limit(host, mailbox=False))
            and self._hearing[mailbox] < _share(self._limit(mailbox, mailbox=True))
        )

    def _lost(self, key: Hashable, error: PosthouseError) -> None:
        connection_id = _id(key)
        self._drop_listening(connection_id)
        self._on_lost(connection_id, error)

    def _drop_listening(self, connection_id: int) -> None:
        kept = self._listening.pop(connection_id, None)
        if kept is not None:
            self._count_listening(kept, -1)
            self._end([kept])

    # ---- for all of them

    def prune(self, wanted: Mapping[int, datetime], asked: float) -> list[int]:
        """Ends sessions that are not `wanted` (id → last edit) and were here at `asked`
        (time.monotonic) already; returns their ids."""
        with self._lock:
            everything = [*self._waiting.items(), *self._listening.items()]
            gone = [
                i
                for i, kept in everything
                if kept.since < asked and i not in self._beginning and wanted.get(i) != kept.version
            ]
        self.drop(gone)
        return gone

    def share_mailboxes(self, kept: Iterable[KeptSessions], owner: str) -> set[int]:
        """Learns what fetchers keep at each mailbox, `owner` being this one; returns connections
        whose sessions here are more than the mailbox may have of all of them together.

        Those with the lowest ids are kept, which every fetcher finds alike.
        """
        most = self._limits.per_mailbox
        beyond: set[int] = set()
        elsewhere: Counter[str] = Counter()
        for mailbox in kept:
            for number, (connection_id, who) in enumerate(mailbox.owners.items()):
                if number >= most and who == owner:
                    beyond.add(connection_id)
                elif number < most and who != owner:
                    elsewhere[_places(mailbox.place)[1]] += 1
        self._elsewhere.learn(elsewhere)
        return beyond

    def oldest(self, count: int) -> list[int]:
        """So many connections with a session here, those that wait first."""
        with self._lock:
            return [*self._waiting, *self._listening][:count]

    def drop(self, connection_ids: Collection[int]) -> None:
        """Ends the sessions of these connections, where nobody uses them."""
        for connection_id in connection_ids:
            with self._lock:
                taken = self._take_out([connection_id])
            self._end_taken(taken)

    def _take_out(self, connection_ids: Iterable[int]) -> list[tuple[int, _Kept, bool]]:
        """With the lock: takes sessions that nobody uses; the last word says which listened."""
        taken = []
        for connection_id in connection_ids:
            if connection_id in self._beginning:
                continue
            for place, listened in ((self._waiting, False), (self._listening, True)):
                kept = place.pop(connection_id, None)
                if kept is not None:
                    taken.append((connection_id, kept, listened))
        return taken

    def _end_taken(self, taken: Sequence[tuple[int, _Kept, bool]]) -> None:
        for connection_id, kept, listened in taken:
            if listened:
                self._loop.release(connection_id)
                self._count_listening(kept, -1)
            self._end([kept])

    def close(self) -> None:
        """Ends every session that nobody uses, and the listening."""
        self._loop.close()
        with self._lock:
            waiting = list(self._waiting.values())
            self._waiting.clear()
            self._listening.clear()
        for kept in waiting:
            kept.mailbox.close()

    # ---- counting

    def _make_room(self, places: tuple[str, str]) -> None:
        """Counts one more session at both places, and ends those that have to go for that."""
        victims: dict[int, _Kept] = {}
        with self._lock:
            for place in places:
                limit = self._limit(place, mailbox=place == places[1])
                going = sum(place in kept.places for kept in victims.values())
                if self._count[place] - going < limit:
                    continue
                found = next(self._may_go(place), None)
                if found is None:
                    raise HostBusy(
                        f"{place} already has {self._count[place]} sessions of this fetcher.",
                        retry_after=2,
                    )
                victims[found[0]] = found[1]
            taken = self._take_out(victims)
            self._count.update(places)
        self._end_taken(taken)

    def _may_go(self, place: str) -> Iterator[tuple[int, _Kept]]:
        """Sessions at `place` that nobody uses, those that wait longest first."""
        for connection_id, kept in [*self._waiting.items(), *self._listening.items()]:
            if place in kept.places and connection_id not in self._beginning:
                yield connection_id, kept

    def _limit(self, place: str, *, mailbox: bool) -> int:
        """What is configured, less what other fetchers keep at a mailbox (a run has its session
        all the same), or what the server itself allowed when it was met last."""
        configured = self._limits.per_host
        if mailbox:
            configured = max(1, self._elsewhere.leaves(place, self._limits.per_mailbox))
        return self._learned.at(place, configured)

    def give_way(self, host: str) -> bool:
        """Ends a session at `host` that nobody uses, for another fetcher; whether there was one."""
        return self._give_way(host, 1)

    def _give_way(self, place: str, count: int) -> bool:
        """Ends so many sessions there that nobody uses; whether there was any."""
        with self._lock:
            found = itertools.islice(self._may_go(place), count)
            taken = self._take_out([connection_id for connection_id, _ in found])
        self._end_taken(taken)
        return bool(taken)

    def _count_listening(self, kept: _Kept, by: int) -> None:
        with self._lock:
            for place in kept.places:
                self._hearing[place] += by
                if not self._hearing[place]:
                    del self._hearing[place]
        metrics.PUSH_SESSIONS.inc(by)

    def _end(self, sessions: Sequence[_Kept]) -> None:
        for kept in sessions:
            self._forget(kept.places)
            kept.mailbox.close()

    def _forget(self, places: tuple[str, str]) -> None:
        with self._lock:
            for place in places:
                self._count[place] -= 1
                if not self._count[place]:
                    del self._count[place]


def _places(connection: Connection) -> tuple[str, str]:
    """Where a session counts: its server, and who logs in there."""
    host = connection.endpoint[0].lower()
    return (host, f"{connection.mailbox.lower()} at {host}")


def _share(limit: int) -> int:
    return limit - max(1, limit // _NEVER_LISTENING)


def _id(key: Hashable) -> int:
    assert isinstance(key, int)
    return key
