"""The flags of every mail in the open folder: what is there where a search does not say so.

A search answers from an index, which may be damaged, late or cut; FETCH reads the folder itself.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from shared.mailbox.imap.search import is_limited, refusal
from shared.mailbox.imap.session import ImapSession, Untagged

#: Mails of one command.
_WINDOW: Final = 2048
#: Commands in a row that may bring nothing, each for half as many mails as the one before it.
_MOST_EMPTY: Final = 16
#: What nearly every answer looks like; all else takes the slower way.
_USUAL: Final = re.compile(
    rb"\((?:UID (\d{1,10}) FLAGS \(([^()]*)\)|FLAGS \(([^()]*)\) UID (\d{1,10}))"
    rb"(?: MODSEQ \(\d+\))?\)\Z"
)
_UID: Final = re.compile(rb"[( ]UID (\d{1,10})[ )]", re.I)
_FLAGS: Final = re.compile(rb"[( ]FLAGS \(([^()]*)\)", re.I)


def flags_of(line: Untagged) -> tuple[int, frozenset[bytes]] | None:
    """A mail's UID and its flags in lower case; None where the response is none of FETCH, or lacks
    one of them."""
    if line.keyword != b"FETCH":
        return None
    usual = _USUAL.match(line.rest)
    if usual is not None:
        before, named, first, behind = usual.groups()
        told = first if named is None else named
        return int(before or behind), _known(told) if len(told) <= _SHORT else _names(told)
    uid, flags = _UID.search(line.rest), _FLAGS.search(line.rest)
    if uid is None or flags is None:
        return None
    return int(uid[1]), _names(flags[1])


def _names(told: bytes) -> frozenset[bytes]:
    return frozenset(told.lower().split())


#: The mails of a folder have the same few flags.
_SHORT: Final = 100
_known = lru_cache(maxsize=256)(_names)


def read_flags(session: ImapSession, total: int) -> dict[int, frozenset[bytes]]:
    """UID → flags in lower case, of the `total` mails that the open folder has.

    Fewer where the server does not name them all. Asked by sequence numbers, of which there are
    exactly so many, and which stay while nothing but FETCH is said (RFC 9051 section 7.5.1).
    """
    found: dict[int, frozenset[bytes]] = {}

    def take(line: Untagged) -> bool:
        if line.keyword != b"FETCH":
            return False
        flags = flags_of(line)
        if flags is not None:
            found[flags[0]] = flags[1]
        return True

    first, step, empty = 1, _WINDOW, 0
    while first <= total and empty < _MOST_EMPTY:
        last, before = min(first + step - 1, total), len(found)
        session.stream.start_clock()
        tag = session.send(b"FETCH %d:%d (UID FLAGS)" % (first, last))
        reply = session.reply(tag, on_untagged=take)
        came = len(found) - before
        if not reply.ok and not came and not is_limited(reply):
            raise refusal(reply, "list")
        empty = 0 if came else empty + 1
        if came < last - first + 1 and step > 1:
            step = max(1, min(step, last - first + 1) // 2)  # cut, or one of them is not named
            continue
        first, step = last + 1, min(_WINDOW, step * 2)
    return found
