"""Whether a refusal says that too many sessions are open, in whatever words.

No code stands for it: RFC 5530 has [LIMIT] for everything that is counted. What such sentences have
in common is a word for sessions beside one for a bound.
"""

from __future__ import annotations

import re

_SESSIONS = r"(?:connections?|sessions?|clients?)\b"
_TOGETHER = r"\b(?:simultaneous|concurrent|parallel)\b"
_NEAR = r"[^.]{0,40}?"
_TOO_MANY = re.compile(
    rf"too (?:many|much) (?:[\w-]+ ){{0,3}}?(?:{_SESSIONS}|{_TOGETHER})"
    r"|\b(?:max(?:imum)?|limit(?:ed|s)?|no more|excessive|(?:only|more than|another|already) \d+)"
    rf"\b{_NEAR}(?:\b{_SESSIONS}|{_TOGETHER})"
    rf"|(?:\b{_SESSIONS}|{_TOGETHER}){_NEAR}"
    r"\b(?:max(?:imum)?|limit(?:ed|s)?|exceed\w*|exhausted|quota|slots)\b"
    r"|\balready connected \d+ times|mail_max_userip",
    re.I,
)
#: What else is counted, or bounded, in a session: failed logins, messages, time.
_OF_OTHERS = re.compile(
    r"\b(?:failed|failures|attempts?|invalid|wrong|incorrect|messages|commands|idle|time)\b"
    r"|inactiv|time[d-]? ?out",
    re.I,
)


def says_too_many_sessions(words: str) -> bool:
    """Whether these words are about the number of sessions."""
    return _TOO_MANY.search(words) is not None and _OF_OTHERS.search(words) is None
