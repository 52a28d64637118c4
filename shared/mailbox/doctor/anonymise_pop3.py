"""Lines of POP3 with names, ids and mails replaced: only what is known to tell nothing stays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from shared.mailbox.doctor.pseudonyms import Pseudonyms, challenge
from shared.mailbox.doctor.stand_in_mails import header_of, mail_of

_STAMP: Final = re.compile(r"<[^<>\s]+@[^<>\s]+>")
_KEPT_NUMBERS: Final = frozenset({"STAT", "LIST"})


class Pop3Lines:
    """Takes every exchange of every session, in order."""

    def __init__(self, names: Pseudonyms, username: str) -> None:
        self._names = names
        self._user = names.user(username)

    def ours(self, line: bytes) -> bytes:
        verb = line.split()[0].upper() if line.split() else b""
        if verb == b"USER":
            return f"USER {self._user}\r\n".encode()
        if verb == b"PASS":
            return b"PASS password\r\n"
        if verb == b"APOP":
            return f"APOP {self._user} ***\r\n".encode()
        if verb == b"AUTH":
            return b" ".join(line.split()[:2]) + b"\r\n"
        return line

    def greeting(self, line: bytes) -> bytes:
        text = line.strip().decode("utf-8", "replace")
        stamped = _STAMP.search(text) is not None
        words = self._names.words(_STAMP.sub("", text).strip())
        return f"{words}{' <1.2@example.org>' if stamped else ''}\r\n".encode()

    def theirs(self, request: bytes, lines: Sequence[bytes]) -> list[bytes]:
        """The lines of an answer, challenges and all."""
        words = request.split()
        verb = words[0].upper().decode("latin-1") if words else ""
        out: list[bytes] = []
        while lines and (lines[0].startswith(b"+ ") or lines[0].strip() == b"+"):
            told = challenge(self._names, lines[0][1:].strip().decode("latin-1"))
            out.append(f"+ {told}\r\n".encode())
            lines = lines[1:]
        if not lines:
            return out
        out.append(self._first(verb, words, lines[0]))
        rest = list(lines[1:])
        if verb in ("RETR", "TOP") and rest:
            number = int(words[1])
            # The octets between the first line and the final dot, stuffed dots taken off.
            size = sum(len(line) - line.startswith(b".") for line in rest[:-1])
            made = mail_of(size, number) if verb == "RETR" else header_of(size, number)
            return [*out, *made.splitlines(keepends=True), b".\r\n"]
        return [*out, *(self._line(verb, line) for line in rest)]

    def _first(self, verb: str, words: Sequence[bytes], line: bytes) -> bytes:
        status, _, rest = line.strip().partition(b" ")
        text = rest.decode("utf-8", "replace")
        if status.upper() != b"+OK":
            shown = b"-ERR" if status.upper() == b"-ERR" else b"+ERR"
            return shown + b" " + self._names.words(text).encode() + b"\r\n"
        if verb == "UIDL" and len(words) > 1:
            return b"+OK " + self._uidl(rest) + b"\r\n"
        if verb in _KEPT_NUMBERS:
            return b"+OK " + b" ".join(w for w in rest.split() if w.isdigit()) + b"\r\n"
        return b"+OK\r\n"

    def _line(self, verb: str, line: bytes) -> bytes:
        if line.strip() == b".":
            return b".\r\n"
        if verb == "UIDL":
            return self._uidl(line.strip()) + b"\r\n"
        if verb == "LIST":
            return b" ".join(w for w in line.split() if w.isdigit()) + b"\r\n"
        return self._names.words(line.strip().decode("utf-8", "replace")).encode() + b"\r\n"

    def _uidl(self, text: bytes) -> bytes:
        number, _, key = text.partition(b" ")
        return number + b" " + self._names.of("uidl", key.strip().decode("latin-1")).encode()
