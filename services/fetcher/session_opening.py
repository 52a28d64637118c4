"""Opens a session at a server that may take no more of them: kept ones give way, or it waits."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from services.fetcher.session_limits import (
    Reservations,
    concerns_host,
    ends_without_word,
    is_unexplained,
    may_be_too_many,
    says_too_many,
)
from services.fetcher.session_shares import SessionShares
from shared.connections import Connection
from shared.errors import PosthouseError, TryAgain
from shared.mailbox.base import Mailbox
from shared.mailbox.failures import StepFailed
from shared.storage.session_shares import is_mailbox

#: Seconds until a server takes another session after one that was closed.
_UNTIL_FREE_S = (0.3, 1.2)
#: How often in a row a connection waits for a permit (some seconds each time) at a server that ends
#: its sessions without a word, where a known limit or other sessions of ours explain that.
_TURNED_AWAY = 12
#: Seconds that the room made for a session is kept for it.
_RESERVED_S = 10.0


class HostBusy(TryAgain):
    """As many sessions at this server as allowed: the connection's turn comes a little later."""

    code = "host-busy"


class SessionOpener:
    """Opens sessions; `count` has those of this fetcher by destination, under `lock`.

    `give_way` ends so many sessions at a destination that nobody uses; of each it says whether it
    was alive.
    `crowded` is told a host that turned us away although no session of this fetcher is open there,
    and says whether other fetchers have some that may give way.
    """

    def __init__(
        self,
        opener: Callable[[Connection], Mailbox],
        reservations: Reservations,
        shares: SessionShares,
        *,
        lock: threading.Lock,
        count: Mapping[str, int],
        give_way: Callable[[str, int], Sequence[bool]],
        crowded: Callable[[str], bool],
        wait: Callable[[float], None],
    ) -> None:
        self._opener = opener
        self._reservations = reservations
        self._shares = shares
        self._lock = lock
        self._count = count
        self._give_way = give_way
        self._crowded_host = crowded
        self._wait = wait
        self._turned_away: Counter[int] = Counter()

    def open(self, connection: Connection, destinations: tuple[str, ...]) -> Mailbox:
        """Opens a session; where the server takes no more of them, kept ones give way."""
        try:
            mailbox = self._opener(connection)
            self._turned_away.pop(connection.id, None)
            return mailbox
        except StepFailed as error:
            if not may_be_too_many(error):
                raise
            failure = error
        destination = destinations[0] if concerns_host(failure) else self._crowded(destinations)
        with self._lock:
            have = self._count[destination] - 1
        if have < 1:
            known = self._shares.knows(destinations[0]) or (
                ends_without_word(failure) and self._crowded_host(destinations[0])
            )
            raise self._turned_away_by(connection, destinations[0], failure, explained=known)
        stated = says_too_many(failure)
        # At a mailbox one session more is left: for the person whose mailbox it is.
        spare = max(1, have // 10) if is_mailbox(destination) else have // 10
        if stated:
            self._shares.learn(destination, max(1, have - spare))
        going = max(1, have // 10) if stated else 1
        if stated and is_mailbox(destination) and have > 1:
            going += 1
        if ends_without_word(failure):
            # Else a run that comes in between takes the room, and is not even refused.
            self._reservations.reserve(destination, have, _RESERVED_S)
        alive = self._give_way(destination, going)
        if not alive:
            if is_unexplained(failure):
                raise self._turned_away_by(connection, destination, failure, explained=True)
            raise HostBusy(f"{destination} takes no more sessions: {failure}") from failure
        # Who refuses beside sessions of ours that live may mean their number. A server that starts
        # anew has lost them, and one to which no network leads refuses nothing.
        meant = not stated and all(alive) and failure.code != "unreachable"
        limit = max(1, have - is_mailbox(destination)) if meant else None
        opened = self._open_once_free(connection, destination, limit)
        if opened is not None:
            self._turned_away.pop(connection.id, None)
            return opened
        if stated:
            raise HostBusy(f"{destination} takes no more sessions: {failure}") from failure
        # Another run may have taken the room that was made, or the server has another reason.
        explained = not is_unexplained(failure)
        raise self._turned_away_by(
            connection, destination, failure, explained=explained
        ) from failure

    def _open_once_free(
        self, connection: Connection, destination: str, limit: int | None
    ) -> Mailbox | None:
        """Opens a session where a kept one gave way, None where the server still refuses it.

        `limit`: how many there may be, as is known once that worked; None: that tells nothing."""
        try:
            for pause in _UNTIL_FREE_S:
                self._wait(pause)
                try:
                    mailbox = self._opener(connection)
                except StepFailed as error:
                    if not may_be_too_many(error):
                        raise
                    continue
                if limit is not None:
                    self._shares.learn(destination, limit)
                return mailbox
        finally:
            self._reservations.release(destination)
        return None

    def _turned_away_by(
        self,
        connection: Connection,
        destination: str,
        failure: StepFailed,
        *,
        explained: bool,
    ) -> PosthouseError:
        """What to raise for a session that the server does not take: HostBusy as long as its limit
        explains that, and the failure itself once it explains too much."""
        self._turned_away[connection.id] += 1
        tries = _TURNED_AWAY if explained else 0
        without_word = ends_without_word(failure) or is_unexplained(failure)
        if without_word and self._turned_away[connection.id] <= tries:
            return HostBusy(f"{destination} takes no more sessions for now: {failure}")
        return failure

    def _crowded(self, destinations: tuple[str, ...]) -> str:
        """Where a refusal after the login belongs: the mailbox, if it has other sessions."""
        with self._lock:
            return destinations[-1] if self._count[destinations[-1]] > 1 else destinations[0]
