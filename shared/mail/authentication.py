"""What servers found out about a sender: Authentication-Results (RFC 8601), ARC, spam verdicts.

Anybody can write such a field. Only those of a server that the connection trusts are read: by its
authserv-id, and among those the topmost one, which that server added last. Exchange Online writes
the field without an authserv-id; there the topmost field without one counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from shared.mail.encoded_words import clean
from shared.mail.fields import unfold

_VALUE_LIMIT: Final = 16 * 1024
_MOST: Final = 30
_LONGEST: Final = 320
#: What a sender can choose lies in quoted strings and comments of a server: found from the left, as
#: each may hold a delimiter of the other. The last alternative is one without a partner here.
_DELIMITED: Final = re.compile(rb'"((?:[^"\\]|\\.)*+)"|\((?:[^()\\]|\\.)*+\)|[("]', re.DOTALL)
_IN_COMMENT: Final = re.compile(rb"\\.|[()]", re.DOTALL)
_QUOTED_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)
#: Stands for the quoted string of that number: no delimiter is in it.
_PLACE: Final = re.compile(rb"\0(\d+)\0")
_SERVER: Final = re.compile(rb"\s*([^\s;=]+)(?:\s+\d+)?\s*")
_METHOD: Final = re.compile(rb"\s*([A-Za-z][A-Za-z0-9-]*)(?:\s*/\s*[0-9]+)?\s*=\s*([A-Za-z0-9_-]+)")
_PROPERTY: Final = re.compile(
    rb"(?<![A-Za-z])([A-Za-z]++)\s*+\.\s*+([A-Za-z0-9_-]+)\s*=\s*([^\s;]+)"
)
#: What a property says for whom a method vouches (RFC 8601 section 2.7).
_DOMAINS: Final = ("header.d", "header.i", "header.from", "smtp.mailfrom", "smtp.helo")
METHODS: Final = ("spf", "dkim", "dmarc", "arc")

#: The authserv-ids of providers; "" is Exchange Online's field that names none.
GMAIL: Final = ("mx.google.com",)
MICROSOFT: Final = ("",)

#: Fields of Exchange Online that it removes from mails of others ("header firewall").
_OF_EXCHANGE: Final = ("x-forefront-antispam-report", "x-ms-exchange-organization-scl")
#: The fields that are looked at.
FIELDS: Final = frozenset(
    (
        "authentication-results", "x-spam-flag", "x-spam-status", "x-spamd-result",
        "x-forefront-antispam-report", "x-ms-exchange-organization-scl",
    )
)  # fmt: skip


class Result(NamedTuple):
    """One method's result: `method` (`spf`, `dkim`, `dmarc`, `arc` …), `result` (`pass` …) and the
    domain or address that it is about, empty where the server does not say."""

    method: str
    result: str
    domain: str = ""


class Spam(NamedTuple):
    """What the receiving server made of it. `score` is the server's own number, None without."""

    verdict: str
    score: float | None = None


def read_results(
    fields: Mapping[str, Sequence[bytes]], trusted: Sequence[str]
) -> tuple[Result, ...]:
    """The results of the topmost field of a trusted server; none where no such field is there."""
    if not trusted:
        return ()
    wanted = {one.lower() for one in trusted}
    for value in fields.get("authentication-results", ())[:_MOST]:
        server, results = _read(value)
        if server in wanted:
            return results
    return ()


def read_spam(fields: Iterable[tuple[str, bytes]], trusted: Sequence[str]) -> Spam | None:
    """The verdict of the usual fields, from the top, where a trusted server has written it.

    Whoever sends a mail can write them too. Exchange Online takes its own away from what comes from
    outside; any other counts only above the results of a trusted server, where no sender can put it
    (RFC 8601 section 5: a server writes its field above all that it got).
    """
    wanted = {one.lower() for one in trusted}
    above: dict[str, bytes] = {}
    is_vouched = False
    for name, value in fields:
        if name == "authentication-results":
            is_vouched = is_vouched or _read(value)[0] in wanted
        elif not is_vouched or ("" in wanted and name in _OF_EXCHANGE):
            above.setdefault(name, value)
    for name, pattern, score_of in _SPAM:
        if name not in above or not (is_vouched or ("" in wanted and name in _OF_EXCHANGE)):
            continue
        found = pattern.search(unfold(above[name][:_VALUE_LIMIT]).decode("ascii", "replace"))
        if found:
            return score_of(found)
    return None


def _read(value: bytes) -> tuple[str, tuple[Result, ...]]:
    """(authserv-id in lower case, "" where there is none; the results).

    A field whose beginning is something else than an authserv-id and a version is of "?", whom
    nobody trusts.
    """
    return _read_again(value[:_VALUE_LIMIT])


@lru_cache(maxsize=64)  # results and spam ask for the same fields, one after the other
def _read_again(value: bytes) -> tuple[str, tuple[Result, ...]]:
    line, quoted = _without_delimited(unfold(value).replace(b"\0", b""))
    first, *rest = line.split(b";")
    if _METHOD.match(first):
        server, rest = "", [first, *rest]
    elif not first.strip():
        server = ""
    else:
        named = _SERVER.fullmatch(first)
        server = _shown(named[1], quoted).lower() if named else "?"
    found: list[Result] = []
    for one in rest[:_MOST]:
        match = _METHOD.match(one)
        if match is None:
            continue
        properties = {
            f"{kind.decode()}.{name.decode()}".lower(): text
            for kind, name, text in _PROPERTY.findall(one)
        }
        about = next((properties[name] for name in _DOMAINS if name in properties), b"")
        found.append(
            Result(
                match[1].decode().lower(),
                match[2].decode().lower(),
                _shown(about, quoted).strip("<>@")[:_LONGEST],
            )
        )
    return server, tuple(found)


def _without_delimited(line: bytes) -> tuple[bytes, list[bytes]]:
    """(the line with a blank for each comment and a number for each quoted string; what those say).

    It ends where a quoted string or comment begins that does not end: nothing behind it is the
    server's for certain.
    """
    if b"(" not in line and b'"' not in line:
        return line, []
    kept: list[bytes] = []
    quoted: list[bytes] = []
    position = 0
    while match := _DELIMITED.search(line, position):
        kept.append(line[position : match.start()])
        position = match.end()
        if match[1] is not None:
            kept.append(b"\0%d\0" % len(quoted))
            quoted.append(_QUOTED_PAIR.sub(rb"\1", match[1]))
        else:
            kept.append(b" ")
            if match[0] == b"(":
                position = _behind_comment(line, match.end())
            elif match[0] == b'"':
                position = len(line)
    kept.append(line[position:])
    return b"".join(kept), quoted


def _behind_comment(line: bytes, position: int) -> int:
    """The offset behind a comment with others in it, which began before `position`."""
    depth = 1
    for match in _IN_COMMENT.finditer(line, position):
        depth += (match[0] == b"(") - (match[0] == b")")
        if depth == 0:
            return match.end()
    return len(line)


def _shown(octets: bytes, quoted: Sequence[bytes]) -> str:
    """A value with its quoted strings."""
    if quoted:
        octets = _PLACE.sub(lambda place: quoted[int(place[1])], octets)
    return clean(octets.decode("utf-8", "replace"))


def _by_scl(found: re.Match[str]) -> Spam:
    score = float(found[1])
    return Spam("spam" if score >= 5 else "ham", score)


def _by_flag(found: re.Match[str]) -> Spam:
    is_spam = found[1].lower() in ("yes", "true")
    score = found[2] if found.lastindex == 2 else None
    return Spam("spam" if is_spam else "ham", float(score) if score else None)


#: In this order: (field, pattern, what it says). SCL: learn.microsoft.com, "Spam confidence level".
_SPAM: Final = (
    ("x-forefront-antispam-report", re.compile(r"\bSCL:(-?\d+)"), _by_scl),
    ("x-ms-exchange-organization-scl", re.compile(r"^\s*(-?\d+)"), _by_scl),
    (
        "x-spam-status",
        re.compile(r"^\s*(yes|no)\b(?:.*?\bscore=(-?\d+(?:\.\d+)?))?", re.I),
        _by_flag,
    ),
    (
        "x-spamd-result",
        re.compile(r"default:\s*(true|false)\s*\[(-?\d+(?:\.\d+)?)", re.I),
        _by_flag,
    ),
    ("x-spam-flag", re.compile(r"^\s*(yes|no|true|false)\b", re.I), _by_flag),
)
