"""The list of a POP3 mailbox: unique ids, session numbers and sizes (RFC 1939 section 7).

A poorer server without UIDL is asked for header blocks, whose digests stand for the ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from shared.mailbox.base import Cursor, Known
from shared.mailbox.failures import Refused
from shared.mailbox.pop3.session import Pop3Answer, Pop3Session
from shared.messages import Key

#: The key of the last mail in a cursor, where our own deletions left it open.
LAST_UNKNOWN = "?"
#: More new mails than this are found faster by asking for the whole list.
_MOST_FROM_TOP = 1000
_LONGEST_UIDL = 500
#: Without pipelining each question costs a round trip.
_MOST_ONE_BY_ONE = 8


class Pop3List:
    """What is known of the list in the session at hand.

    `numbers` holds the session numbers of the mails seen in it, `has_uidl` whether the server has
    UIDL (None while that is open).
    """

    def __init__(self, live: Callable[[], Pop3Session], has_uidl: bool) -> None:
        self._live = live
        self.has_uidl: bool | None = has_uidl or None
        self.numbers: dict[Key, int] = {}

    def from_top(self, known: Known, status: Cursor, cursor: Cursor | None) -> list[Key] | None:
        """The new keys, oldest first, if exactly the mails at the top are new; else None.

        Not every server lists in the order of arrival (Courier sorts by the names of its files), so
        that a mail may have come below others while another vanished. That it was not so is seen
        from `cursor`, the state in which everything had been handled: `status` has as many mails
        and octets more as those at the top have, and what was the last mail lies below them.
        """
        if cursor is None or not known.count():
            return None
        count = int(status["count"])
        new, octets = count - int(cursor["count"]), int(status["octets"]) - int(cursor["octets"])
        most = _MOST_FROM_TOP if self._live().pipelining else _MOST_ONE_BY_ONE
        if new < 0 or new > most or new * 2 >= count:
            return None
        numbers = range(count - new, count + 1)
        keys = self.keys(numbers)
        missing = set(known.missing(keys))
        if keys[0] in missing or len(missing) != new or len(set(keys)) != len(keys):
            return None
        if cursor["last"] not in (LAST_UNKNOWN, str(keys[0])):
            return None
        sizes = self.listed_sizes(numbers[1:]) if new else {}
        if len(sizes) != new or sum(sizes.values()) != octets:
            return None
        self.numbers.update(zip(keys, numbers, strict=True))
        return keys[1:]

    def all_keys(self, count: int) -> list[Key]:
        """The key of every mail, in the server's order; keeps their session numbers."""
        session = self._live()
        keys: list[Key] = []
        numbers: list[int] = []
        if count and self.has_uidl is not False:
            answer = session.command(b"UIDL")
            self.has_uidl = answer.ok
            if answer.ok:
                for line in session.lines():
                    number, _, key = line.strip().partition(b" ")
                    if number.isdigit() and key.strip():
                        numbers.append(int(number[:10]))
                        keys.append(_key(key.strip()))
        if count and self.has_uidl is False:
            numbers = list(range(1, count + 1))
            keys = self.keys(numbers)
        keys = _unique(keys)
        self.numbers = dict(zip(keys, numbers, strict=True))
        return keys

    def keys(self, numbers: Sequence[int]) -> list[Key]:
        """The keys of some mails: their UIDLs, or what stands for them on a poorer server."""
        session = self._live()
        if self.has_uidl is not False:
            answers = list(session.commands([b"UIDL %d" % number for number in numbers]))
            keys = [uidl_of(answer) for answer in answers]
            if all(key is not None for key in keys):
                self.has_uidl = True
                return [key for key in keys if key is not None]
            if self.has_uidl:
                raise session.stream.nonsense("no UIDL for a mail that it counts")
            self.has_uidl = False
        sizes = self.listed_sizes(numbers)
        commands = [b"TOP %d 0" % number for number in numbers]
        found: list[Key] = []
        for number, answer in zip(numbers, session.commands(commands, ahead=16), strict=True):
            if not answer.ok:
                raise Refused(
                    "The mail server offers neither UIDL nor TOP: mails cannot be told apart.",
                    step="list",
                    code="no-identity",
                    hint="Use IMAP for this mailbox.",
                )
            digest = hashlib.sha256(session.headers())
            digest.update(b"%d" % sizes.get(number, 0))
            found.append("top:" + digest.hexdigest()[:40])
        return found

    def sizes(self, keys: Sequence[Key], count: int) -> dict[Key, int]:
        numbers = [self.numbers[key] for key in keys]
        by_number = self.listed_sizes(numbers, count)
        return {key: by_number.get(self.numbers[key], 0) for key in keys}

    def listed_sizes(self, numbers: Sequence[int], count: int = 0) -> dict[int, int]:
        """Octets by session number (LIST); one by one where that is less than the whole list."""
        session = self._live()
        sizes: dict[int, int] = {}
        few = len(numbers) <= (_MOST_FROM_TOP if session.pipelining else _MOST_ONE_BY_ONE)
        if few and (not count or len(numbers) * 3 < count):
            for answer in session.commands([b"LIST %d" % number for number in numbers]):
                pair = answer.numbers() if answer.ok else []
                if len(pair) >= 2:
                    sizes[pair[0]] = pair[1]
        elif session.command(b"LIST").ok:
            for line in session.lines():
                words = line.split()
                if len(words) >= 2 and words[0].isdigit() and words[1].isdigit():
                    sizes[int(words[0][:10])] = int(words[1][:19])
        return sizes


def uidl_of(answer: Pop3Answer) -> str | None:
    """The UIDL from `+OK number uidl`; None where there is none."""
    words = answer.words.split()
    if not answer.ok or len(words) < 2 or not words[0].isdigit():
        return None
    return _key(words[1])


def _key(uidl: bytes) -> str:
    """RFC 1939 allows 70 octets. What is longer than an index takes is known by its digest."""
    if len(uidl) <= _LONGEST_UIDL:
        return uidl.decode("latin-1")
    return "uidl:" + hashlib.sha256(uidl).hexdigest()[:40]


def _unique(keys: Sequence[Key]) -> list[Key]:
    """Some servers give equal mails one UIDL: the second becomes `…#2`, so that it is not lost."""
    seen: dict[Key, int] = {}
    found: list[Key] = []
    for key in keys:
        seen[key] = seen.get(key, 0) + 1
        found.append(key if seen[key] == 1 else f"{key}#{seen[key]}")
    return found
