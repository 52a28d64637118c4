"""The last lines of a protocol conversation, for people: secrets removed, bodies left out."""

from __future__ import annotations

import base64
import re
from collections import deque

_LINES = 100
_LONGEST = 400
_EIGHT_BIT = re.compile(rb"[\x80-\xff]+")
#: Characters of GB 2312 are two octets each.
_CHINESE = re.compile(rb"(?:[\xa1-\xf7][\xa1-\xfe])+")


class Transcript:
    """Keeps the last 100 lines. What was hidden before a line came is not in it."""

    def __init__(self) -> None:
        self._lines: deque[tuple[str, bytes]] = deque(maxlen=_LINES)
        self._secrets: list[bytes] = []

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(side + _readable(line) for side, line in self._lines)

    def hide(self, secret: str | None) -> None:
        """From now on this text is not shown, neither plain nor quoted nor in base64."""
        if secret:
            plain = secret.encode()
            quoted = plain.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
            self._secrets += {plain, quoted, base64.b64encode(plain)}
            self._secrets.sort(key=len, reverse=True)

    def sent(self, line: bytes) -> None:
        self._lines.append(("C: ", self._without_secrets(line)))

    def received(self, line: bytes) -> None:
        self._lines.append(("S: ", self._without_secrets(line)))

    def note(self, text: str) -> None:
        """A remark of ours between the lines: a connection made, octets left out."""
        self._lines.append(("-- ", text.encode()))

    def clean(self, line: bytes) -> str:
        """A line as it may be shown: no secret, no control character, not longer than 400."""
        return _readable(self._without_secrets(line))

    def _without_secrets(self, line: bytes) -> bytes:
        # Before the line is cut, or half a secret could stay at its end.
        for secret in self._secrets:
            if secret in line:
                line = line.replace(secret, b"***")
        return line[:_LONGEST]


def _readable(line: bytes) -> str:
    octets = line.rstrip(b"\r\n")
    text = octets.decode(_charset(octets), "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _charset(octets: bytes) -> str:
    """UTF-8, or what Chinese providers still speak over POP3 where it can be nothing else."""
    try:
        octets.decode()
    except UnicodeDecodeError:
        runs = _EIGHT_BIT.findall(octets)
        if sum(map(len, runs)) >= 4 and all(_CHINESE.fullmatch(run) for run in runs):
            return "gb18030"
    return "utf-8"
