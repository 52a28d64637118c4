"""The list of a POP3 mailbox: unique ids, session numbers and sizes (RFC 1939 section 7).

A poorer server without UIDL is asked for header blocks, whose digests stand for the ids.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence

from shared.mailbox.base import Cursor, Known
from shared.mailbox.errors.throttling import is_passing, stated_delay
from shared.mailbox.failures import Refused, SessionLost
from shared.mailbox.pop3.session import Pop3Answer, Pop3Session
from shared.messages import Key
from shared.quantities import counted

#: The key of the last mail in a cursor, where our own deletions left it open, or it has none.
LAST_UNKNOWN = "?"
#: More new mails than this are found faster by asking for the whole list.
_MOST_FROM_TOP = 1000
_LONGEST_UIDL = 500
#: Lines of a mail that tell it from others of its header and size.
_LINES = 50
#: Without pipelining each question costs a round trip.
_MOST_ONE_BY_ONE = 8
#: Mails that a list lacks, asked for together; where the server has none of as many, it miscounts.
_AT_ONCE = 1000
#: No list of more than these would be read to its end.
_MOST_MAILS = 5_000_000


class Pop3List:
    """What is known of the list in the session at hand.

    `numbers` holds the session numbers of the mails seen in it, `has_uidl` whether the server has
    UIDL (None while that is open).
    """

    def __init__(self, live: Callable[[], Pop3Session], has_uidl: bool) -> None:
        self._live = live
        self.has_uidl: bool | None = has_uidl or None
        self.numbers: dict[Key, int] = {}
        #: The server counted no mail (STAT) and named some (UIDL).
        self.miscounts = False
        #: Of the whole list that was read last (`Listing.by_place`).
        self.by_place: list[Key] = []

    def from_top(self, known: Known, status: Cursor, cursor: Cursor | None) -> list[Key] | None:
        """The new keys, oldest first, if exactly the mails at the top are new; else None.

        Not every server lists in the order of arrival (Courier sorts by the names of its files), so
        that a mail may have come below others while another vanished. That it was not so is seen
        from `cursor`, the state in which everything had been handled: `status` has as many mails
        and octets more as those at the top have, and what was the last mail lies below them.
        """
        had = known.count()
        if cursor is None or not had:
            return None
        count = int(status["count"])
        new, octets = count - int(cursor["count"]), int(status["octets"]) - int(cursor["octets"])
        most = _MOST_FROM_TOP if self._live().pipelining else _MOST_ONE_BY_ONE
        if new < 0 or new > most or new * 2 >= count:
            return None
        if had > count - new:  # not all that is known is below them: it has another id, perhaps
            return None
        numbers = range(count - new, count + 1)
        keys = list(self.named(numbers).values())
        if len(keys) < len(numbers) or _are_numbers(keys, numbers):
            return None
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
        listed: dict[int, Key] = {}
        if count and self.has_uidl is not False:
            answer = session.command(b"UIDL")
            if not answer.ok and is_passing(answer.text):
                raise _refused(session, answer)  # by other ids every mail would be another one
            self.has_uidl = answer.ok
            if answer.ok:
                for line in session.lines():
                    number, _, key = line.strip().partition(b" ")
                    if number.isdigit() and key.strip():
                        # A line that comes again is no second mail.
                        listed.setdefault(int(number[:10]), _key(key.strip()))
        numbers, keys = list(listed), list(listed.values())
        if count and self.has_uidl is False:
            named = self.named(range(1, count + 1))
            numbers, keys = list(named), list(named.values())
        elif len(numbers) < count:
            left_out = self._left_out(count, listed)
            pairs = sorted([*zip(numbers, keys, strict=True), *left_out.items()])
            numbers, keys = [number for number, _ in pairs], [key for _, key in pairs]
        names, keys = keys, _unique(keys)
        self.by_place = keys if _are_numbers(keys, numbers) else _of_equal_names(names, keys)
        self.numbers = dict(zip(keys, numbers, strict=True))
        return keys

    def uncounted(self) -> int:
        """How many mails UIDL names where STAT counts none: some servers go on counting none."""
        session = self._live()
        if self.has_uidl is False or not session.command(b"UIDL").ok:
            return 0
        numbers = {line.split()[0] for line in session.lines() if line.strip()}
        count = sum(number.isdigit() for number in numbers)
        if count:
            self.miscounts = True
            session.stream.transcript.note(f"STAT counts none, UIDL {counted(count, 'mail')}")
        return count

    def _left_out(self, count: int, listed: Container[int]) -> dict[int, Key]:
        """The keys of those of `count` mails that the list lacks: the server cut it, or names them
        one by one only."""
        lacking = (number for number in range(1, count + 1) if number not in listed)
        every: dict[int, Key] = {}
        while numbers := list(itertools.islice(lacking, _AT_ONCE)):
            found = self.named(numbers)
            every |= found
            if not found and len(numbers) == _AT_ONCE:
                break  # the count is not to be believed
        if every:
            note = f"the list was cut: {counted(len(every), 'mail')} more"
            self._live().stream.transcript.note(note)
        return every

    def named(self, numbers: Sequence[int]) -> dict[int, Key]:
        """The keys of these mails, in their order: their UIDLs, or what stands for them where the
        server has none of all or of some. What is not even listed is missing: it is not there.

        Raises Refused where a server without UIDL does not show headers either.
        """
        session = self._live()
        found: dict[int, Key] = {}
        if self.has_uidl is not False:
            answers = session.commands([b"UIDL %d" % number for number in numbers])
            told = zip(numbers, map(uidl_of, answers), strict=True)
            found = {number: key for number, key in told if key is not None}
            self.has_uidl = self.has_uidl or bool(found)
        unnamed = [number for number in numbers if number not in found]
        if unnamed:
            sizes = self.listed_sizes(unnamed)
            there = [number for number in unnamed if number in sizes or not self.has_uidl]
            found |= self._digests(there, sizes)
        return {number: found[number] for number in numbers if number in found}

    def _digests(self, numbers: Sequence[int], sizes: Mapping[int, int]) -> dict[int, Key]:
        session = self._live()
        commands = [b"TOP %d 0" % number for number in numbers]
        found: dict[int, Key] = {}
        for number, answer in zip(numbers, session.commands(commands, ahead=16), strict=True):
            if answer.ok:
                digest = hashlib.sha256(session.headers())
                digest.update(b"%d" % sizes.get(number, 0))
                found[number] = "top:" + digest.hexdigest()[:40]
                session.used_top(found[number])
            elif not self.has_uidl:
                raise Refused(
                    "The mail server offers neither UIDL nor TOP: mails cannot be told apart.",
                    step="list",
                    code="no-identity",
                    hint="Use IMAP for this mailbox.",
                )
        return found

    def last(self, count: int) -> str:
        """What the cursor says of the last mail of so many."""
        return self.proved(count, str(self.named([count]).get(count, LAST_UNKNOWN)))

    def proved(self, number: int, key: str) -> str:
        """The key of the last mail; where that is only its number, with what the mail holds: else
        one that came as another of its size was removed would not be seen."""
        session = self._live()
        if key != str(number) or session.expires_days == 0:
            return key
        answer = session.command(b"TOP %d %d" % (number, _LINES))
        return f"{key} {hashlib.sha256(session.headers()).hexdigest()[:40]}" if answer.ok else key

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


def counts(session: Pop3Session) -> tuple[int, int]:
    """Mails and octets, by the answer to STAT that comes next. Raises SessionLost for a refusal or
    nonsense."""
    answer = session.answer()
    if not answer.ok:
        raise _refused(session, answer)
    numbers = answer.numbers()
    if len(numbers) < 2:
        raise session.stream.nonsense("a STAT without numbers")
    if numbers[0] > _MOST_MAILS:
        raise session.stream.nonsense(f"a STAT that counts {counted(numbers[0], 'mail')}")
    return numbers[0], numbers[1]


def _refused(session: Pop3Session, answer: Pop3Answer) -> SessionLost:
    """The error for a server that does not say which mails there are."""
    session.stream.broken = True
    return SessionLost(
        "The mail server does not say which mails there are: "
        f"{answer.text or 'it gave no reason'}.",
        code="server-refused",
        hint="It is tried again by itself. If it stays, ask those who run the server.",
        retry_after=stated_delay(answer.text),
        by_server=True,
        passing=is_passing(answer.text),
    )


def uidl_of(answer: Pop3Answer) -> str | None:
    """The UIDL from `+OK number uidl`; None where there is none."""
    words = answer.words.split()
    if not answer.ok or len(words) < 2 or not words[0].isdigit():
        return None
    return _key(words[1])


def _key(uidl: bytes) -> str:
    """RFC 1939 allows 70 octets that can be printed. What is longer than an index takes, or what
    Postgres takes in no text (NUL), is known by its digest."""
    if len(uidl) <= _LONGEST_UIDL and b"\0" not in uidl:
        return uidl.decode("latin-1")
    return "uidl:" + hashlib.sha256(uidl).hexdigest()[:40]


def _are_numbers(keys: Sequence[Key], numbers: Sequence[int]) -> bool:
    """Whether each key is the mail's number in the session and nothing else, as some servers have
    it. So it looks where ids count the mails that ever came and none of them is gone, too."""
    return bool(keys) and all(key == str(number) for key, number in zip(keys, numbers, strict=True))


def _of_equal_names(names: Sequence[Key], keys: Sequence[Key]) -> list[Key]:
    """Those of the keys whose mails share a name, so that only their order tells them apart."""
    if len(set(names)) == len(names):
        return []
    times = Counter(names)
    return [key for name, key in zip(names, keys, strict=True) if times[name] > 1]


def _unique(keys: Sequence[Key]) -> list[Key]:
    """Some servers give equal mails one UIDL: the second becomes `…#2`, so that it is not lost."""
    seen: dict[Key, int] = {}
    found: list[Key] = []
    for key in keys:
        seen[key] = seen.get(key, 0) + 1
        found.append(key if seen[key] == 1 else f"{key}#{seen[key]}")
    return found
