"""Sets of UIDs as commands and answers write them (RFC 9051 section 9, sequence-set): `3,5:9`."""

from __future__ import annotations

from collections.abc import Iterable


def uid_sets(uids: Iterable[int], longest: int = 7000) -> list[tuple[bytes, list[int]]]:
    """Compresses rising UIDs to ranges, cut into sets of at most about `longest` octets.

    Exchange refuses commands over 10,240 octets. Returns each set with the UIDs in it.
    """
    found: list[tuple[bytes, list[int]]] = []
    words: list[bytes] = []
    members: list[int] = []
    length = 0
    for first, last in _ranges(uids):
        word = b"%d" % first if first == last else b"%d:%d" % (first, last)
        if length + len(word) + 1 > longest and words:
            found.append((b",".join(words), members))
            words, members, length = [], [], 0
        words.append(word)
        members.extend(range(first, last + 1))
        length += len(word) + 1
    if words:
        found.append((b",".join(words), members))
    return found


def _ranges(uids: Iterable[int]) -> Iterable[tuple[int, int]]:
    first = last = -1
    for uid in uids:
        if uid == last + 1 and first >= 0:
            last = uid
            continue
        if first >= 0:
            yield first, last
        first = last = uid
    if first >= 0:
        yield first, last


def read_set(text: bytes) -> list[int]:
    """The UIDs of a sequence set (`3,5:9`), rising. Raises ValueError for anything else."""
    ranges: list[tuple[int, int]] = []
    total = 0
    for word in text.split(b",") if text else ():
        first, colon, last = word.partition(b":")
        low = int(first)
        high = int(last) if colon else low
        low, high = min(low, high), max(low, high)
        total += high - low + 1
        if low < 1 or high > 0xFFFFFFFF or total > 1_000_000:
            raise ValueError(f"not a set of UIDs: {text[:40]!r}")
        ranges.append((low, high))
    return [uid for low, high in sorted(ranges) for uid in range(low, high + 1)]
