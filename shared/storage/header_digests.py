"""Header digests of mails that stay on an IMAP server, some 400 to a row of half a page.

A mail under mark-read may lie on its server for years, and so does its digest here. Freshly
committed ones are rows of `known_content`; once a day those of a folder are packed: 10 octets each,
and their UIDs as runs. A digest of 80 bits is compared only after a folder got another UIDVALIDITY;
docs/scale.md says how likely it is that one of a new mail is that of another mail.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("header_digests")

#: Octets of a header digest (`shared.mail.summary.header_digest`) that are kept of an IMAP mail.
DIGEST_OCTETS: Final = 10
#: Octets of a row such that two fill a page of 8,192, and what of them is not uids and digests.
_ROW: Final = 4064
_AROUND: Final = 72
_LEAST: Final = 1000
#: Rows that are read at once.
_ROWS: Final = 200


@dataclass(frozen=True, slots=True)
class Match:
    """A known mail of an earlier UIDVALIDITY, and the row (`number`) in which it is packed."""

    uid_validity: int
    number: int
    uid: int
    digest: bytes


def short(digest: bytes) -> bytes:
    """What is kept of a header digest."""
    return digest[:DIGEST_OCTETS]


def pack(
    session: Session, connection_id: int, folder: str, uid_validity: int, listed: Sequence[int]
) -> None:
    """Packs what was committed since the last time, and lets go of what is not `listed`.

    `listed` is the whole folder as it is now (`uid_validity`). Only for who holds the lease: a
    commit that came in between would be forgotten.
    """
    columns = {"connection_id": connection_id, "folder": folder}
    row = session.execute(_SQL["has_loose"], columns).fetchone()
    adds = bool(row and row[0])
    row = session.execute(_SQL["last_number"], columns).fetchone()
    writer = _Writer(session, columns, row[0] if row else 0)
    there = sorted(listed)
    for validity, number, runs, digests in _rows(session, "all", columns):
        uids = _uids(runs)
        lost = validity == uid_validity and not _all_in(uids, there)
        if not lost and not (adds and writer.has_room(runs, digests)):
            continue
        key = {**columns, "uid_validity": validity, "number": number}
        session.execute(_SQL["remove"], key)
        for uid, digest in zip(uids, _cut(digests), strict=True):
            if not lost or _all_in([uid], there):
                writer.add(validity, uid, digest)
    if adds:
        for validity, uid, digest in _rows(session, "loose", columns):
            writer.add(validity, uid, short(bytes(digest)))
        session.execute(_SQL["forget_loose"], columns)
    writer.finish()


def matches(
    session: Session, connection_id: int, folder: str, uid_validity: int, wanted: Set[bytes]
) -> list[Match]:
    """Packed mails of other UIDVALIDITYs than this one with one of these short digests.

    Reads all of them, 10 octets each (1,000,000 in some tenths of a second), some rows at a time.
    """
    columns = {"connection_id": connection_id, "folder": folder, "uid_validity": uid_validity}
    found: list[Match] = []
    for validity, number, runs, digests in _rows(session, "of_earlier", columns):
        cut = _cut(digests)
        if not wanted.isdisjoint(cut):
            pairs = zip(_uids(runs), cut, strict=True)
            found += [Match(validity, number, uid, one) for uid, one in pairs if one in wanted]
    return found


def take_out(
    session: Session, connection_id: int, folder: str, taken: Sequence[tuple[int, int, int]]
) -> None:
    """Removes mails: (UIDVALIDITY, number of the row, UID) of what `matches` found."""
    by_row: dict[tuple[int, int], set[int]] = defaultdict(set)
    for validity, number, uid in taken:
        by_row[validity, number].add(uid)
    for (validity, number), gone in sorted(by_row.items()):
        columns = {"connection_id": connection_id, "folder": folder}
        key = {**columns, "uid_validity": validity, "number": number}
        row = session.execute(_SQL["one"], key).fetchone()
        if row is None:
            continue
        pairs = zip(_uids(row[0]), _cut(row[1]), strict=True)
        left = [(uid, digest) for uid, digest in pairs if uid not in gone]
        session.execute(*_statement("rewrite", key, left) if left else (_SQL["remove"], key))


class _Writer:
    """Cuts what is added into rows; at most one of each UIDVALIDITY is not full."""

    def __init__(self, session: Session, columns: Mapping[str, Any], number: int) -> None:
        self._session = session
        self._columns = columns
        self._number = number
        self._room = max(_LEAST, _ROW - _AROUND - len(str(columns["folder"]).encode()))
        self._waiting: dict[int, dict[int, bytes]] = defaultdict(dict)

    def has_room(self, runs: bytes, digests: bytes) -> bool:
        """For a twentieth more."""
        return len(runs) + len(digests) < 0.95 * self._room

    def add(self, uid_validity: int, uid: int, digest: bytes) -> None:
        waiting = self._waiting[uid_validity]
        waiting[uid] = digest
        if len(waiting) * DIGEST_OCTETS >= 2 * self._room:
            self._write(uid_validity, whole=False)

    def finish(self) -> None:
        for uid_validity in self._waiting:
            self._write(uid_validity, whole=True)

    def _write(self, uid_validity: int, *, whole: bool) -> None:
        """Writes rows that are full, and (`whole`) the rest."""
        pairs = sorted(self._waiting[uid_validity].items())
        while pairs:
            count = self._fitting(pairs)
            if count == len(pairs) and not whole:
                break
            self._number += 1
            key = {**self._columns, "uid_validity": uid_validity, "number": self._number}
            self._session.execute(*_statement("write", key, pairs[:count]))
            pairs = pairs[count:]
        self._waiting[uid_validity] = dict(pairs)

    def _fitting(self, pairs: Sequence[tuple[int, bytes]]) -> int:
        """How many of them fill a row. A run costs octets as it begins, and two where it has more
        than one mail."""
        used, last, begin = 0, 0, 0
        for count, (uid, _) in enumerate(pairs):
            used += DIGEST_OCTETS
            if count == 0 or uid != last + 1:
                used += len(_number(2 * (uid - last)))
                begin = uid
            elif uid == begin + 1:
                used += 2
            if used > self._room:
                return count
            last = uid
        return len(pairs)


def _rows(session: Session, name: str, columns: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Of a portal in the server, so that not all are here at once."""
    with session.cursor(name=f"packed_{name}") as cursor:
        cursor.itersize = _ROWS if name != "loose" else 20 * _ROWS
        yield from cursor.execute(_SQL[name], columns)


def _statement(
    name: str, key: Mapping[str, Any], pairs: Sequence[tuple[int, bytes]]
) -> tuple[Any, Mapping[str, Any]]:
    digests = b"".join(digest for _, digest in pairs)
    return _SQL[name], {**key, "uids": _runs([uid for uid, _ in pairs]), "digests": digests}


def _cut(digests: bytes) -> list[bytes]:
    return [
        digests[start : start + DIGEST_OCTETS] for start in range(0, len(digests), DIGEST_OCTETS)
    ]


def _all_in(uids: Sequence[int], there: Sequence[int]) -> bool:
    """Whether all of these (rising) are in `there` (rising)."""
    first, end = bisect_left(there, uids[0]), bisect_right(there, uids[-1])
    if end - first < len(uids):
        return False
    return uids[-1] - uids[0] + 1 == len(uids) or set(uids) <= set(there[first:end])


def _runs(uids: Sequence[int]) -> bytes:
    """Rising numbers as runs: for each, twice how far it begins behind the last one; where there
    are more in it, one more than that, and how many. All in octets of seven bits, the lowest
    first."""
    coded = bytearray()
    begin, last = uids[0], 0
    for uid, after in zip(uids, [*uids[1:], None], strict=True):
        if after != uid + 1:
            coded += _number(2 * (begin - last) + (uid > begin))
            coded += _number(uid - begin) if uid > begin else b""
            last = uid
            begin = after or 0
    return bytes(coded)


def _uids(runs: bytes) -> list[int]:
    uids: list[int] = []
    numbers = _numbers(runs)
    last = 0
    for gap in numbers:
        begin = last + gap // 2
        last = begin + next(numbers) if gap & 1 else begin
        uids += range(begin, last + 1)
    return uids


def _number(value: int) -> bytes:
    coded = bytearray()
    while value > 127:
        coded.append(value & 127 | 128)
        value >>= 7
    coded.append(value)
    return bytes(coded)


def _numbers(coded: bytes) -> Iterator[int]:
    value = shift = 0
    for octet in coded:
        value |= (octet & 127) << shift
        shift += 7
        if octet < 128:
            yield value
            value = shift = 0
