"""What a server's words say about waiting: whether it throttles, and for how long.

Sources: Gmail's `[OVERQUOTA] Account exceeded command or bandwidth limits`; Exchange's `Request is
throttled. Suggested Backoff Time: N milliseconds`, after any command that is over the budget;
response codes of RFC 5530 (`[LIMIT]`, `[UNAVAILABLE]`, …) and RFC 3206 (`[SYS/TEMP]`).
`[OVERQUOTA]` means two things: Gmail's limits of a day, and that the mailbox is full (RFC 5530).
"""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {"milli": 0.001, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DELAY = re.compile(
    r"(?:back-?off time|try again|retry|wait)[^0-9\r\n]{0,40}?(\d{1,9})\s*(millisecond|ms\b|second|"
    r"sec\b|s\b|minute|min\b|hour)",
    re.I,
)
_THROTTLED = re.compile(
    r"overquota|throttl|bandwidth limit|back-?off time|\[limit\b|over its \w+ limit"
    r"|too (?:many|much) (?:\w+ ){0,2}(?:requests|commands|mails?|messages|downloads)\b"
    r"|excessive (?:us\w+|load|traffic|requests|downloads)|limit of \d+ (?:mails|messages)"
    # What is counted over a time, near a word for its bound.
    r"|\b(?:rate|traffic|bandwidth|download\w*|daily|hourly|per (?:minute|hour|day))\b"
    r"[^.]{0,40}\b(?:limit\w*|exceed\w*|quota)\b"
    r"|\b(?:limit\w*|exceed\w*|quota)\b"
    r"[^.]{0,40}\b(?:rate|traffic|bandwidth|download\w*|daily|hourly|per (?:minute|hour|day))\b",
    re.I,
)
#: Response codes by which a server calls its refusal a passing one (RFC 5530, RFC 3206).
_PASSING = re.compile(
    r"\[(?:UNAVAILABLE|INUSE|IN-USE|SERVERBUG|EXPIRED|SYS/TEMP)\b|server unavailable"
    r"|temporar(?:y|ily)|try (?:again|later)|retry|\bbusy\b|service (?:is )?not available"
    r"|timed? ?out",
    re.I,
)
#: A mailbox that holds no more: no waiting helps, somebody has to make room.
_FULL = re.compile(
    r"quota (?:is |has been )?exceeded|(?:mailbox|maildrop)\b[^.]{0,20}\b(?:is )?full\b"
    r"|over (?:disk )?quota",
    re.I,
)
#: Gmail gives no time with its bandwidth limits: "an hour or more".
_BANDWIDTH_S: Final = 3600.0
_OVER_TIME = re.compile(r"bandwidth|download|traffic|daily|hourly", re.I)
_BANDWIDTH = re.compile(r"overquota|bandwidth limit|exceeded .{0,20}bandwidth", re.I)


def is_throttled(words: str) -> bool:
    """Whether these words are about how much the server serves us, whatever was asked for."""
    return _THROTTLED.search(words) is not None and not is_full(words)


def is_full(words: str) -> bool:
    """Whether they say that the mailbox is over its quota."""
    return _FULL.search(words) is not None and _OVER_TIME.search(words) is None


def is_passing(words: str) -> bool:
    """Whether the server itself calls its refusal a passing one, or one of the whole mailbox."""
    return is_throttled(words) or is_full(words) or _PASSING.search(words) is not None


def stated_delay(words: str) -> float | None:
    """Seconds that the server asks us to wait, None where it does not say."""
    found = _DELAY.search(words)
    if found is not None:
        unit = found[2].lower()
        factor = next(factor for start, factor in _UNITS.items() if unit.startswith(start))
        return int(found[1]) * factor
    return _BANDWIDTH_S if _BANDWIDTH.search(words) else None
