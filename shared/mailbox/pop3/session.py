"""One POP3 session: commands and answers (RFC 1939, 2449, 2595, 3206, 5034), pipelined if offered.

A session is a snapshot: the server locks the mailbox at login, and what arrives later is seen by
the next session only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.mailbox.base import HEADER_LIMIT
from shared.mailbox.errors import server_answers
from shared.mailbox.errors.refused_logins import starttls_refused
from shared.mailbox.failures import Unreachable
from shared.mailbox.net.stream import Stream
from shared.mailbox.net.transcript import Transcript
from shared.mailbox.pop3.text import read_text
from shared.messages import Key

_ANSWER = re.compile(rb"(\+OK|-ERR)(?: +(.*)|\Z)", re.I | re.S)
_CODE = re.compile(r"\[([A-Z0-9/._-]+)\]", re.I)
#: A capability with its number right behind the name (mailutils' pop3d says `EXPIRE0`), or after
#: something else than a blank.
_GLUED = re.compile(r"^(EXPIRE|LOGIN-DELAY)[=:]?\s*(?=[0-9])")
#: A mailbox with a million mails fits; a listing without an end does not.
_LISTING = 64 << 20


@dataclass(slots=True)
class Pop3Answer:
    """The first line of an answer: +OK or -ERR, and the rest of the line."""

    ok: bool
    words: bytes
    transcript: Transcript

    @property
    def text(self) -> str:
        return self.transcript.clean(self.words)

    @property
    def code(self) -> str:
        """The response code in brackets (RFC 2449 section 8): `IN-USE`, `SYS/TEMP`, `AUTH`."""
        match = _CODE.match(self.text)
        return match[1].upper() if match else ""

    def numbers(self) -> list[int]:
        """The leading whole numbers of the answer (STAT, LIST n). Behind the first one they may be
        negative: of mailboxes beyond 2 GiB some servers sum up so."""
        found: list[int] = []
        for word in self.words.split():
            digits = word.removeprefix(b"-") if found else word
            if not digits.isdigit() or len(digits) > 19:
                break
            found.append(int(word))
        return found


class Pop3Session:
    """Sends commands and reads their answers, in order.

    `retrieved` holds the keys of the mails that were asked for with RETR, and `topped` those of
    which TOP was read where the server may take that for a retrieval: what QUIT could confirm.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.capabilities: dict[str, str] = {}
        self.greeting = ""
        #: How a password could be given, the best way first.
        self.login_ways: tuple[str, ...] = ()
        self.retrieved: set[Key] = set()
        self.topped: set[Key] = set()
        #: Whether the server answered CAPA in any way, and whether it was not asked that at all
        #: (`capa_breaks`).
        self.answered_capa = self.unasked = False
        #: False once a mail showed that the server does not double dots at the start of lines.
        self.stuffs = True
        self._sent = self._answered = 0
        self._refused = False

    @property
    def pipelining(self) -> bool:
        return "PIPELINING" in self.capabilities and self.stream.pipelining.allowed

    @property
    def expires_days(self) -> int | None:
        """Days that a retrieved mail stays (EXPIRE, RFC 2449 section 6.7); None: for ever."""
        word = self._argument("EXPIRE")
        return int(word) if word.isdigit() and len(word) < 6 else None

    @property
    def login_delay(self) -> float:
        """Seconds between two logins (LOGIN-DELAY, RFC 2449 section 6.5); 0 where none is told."""
        word = self._argument("LOGIN-DELAY")
        return float(word) if word.isdigit() and len(word) < 6 else 0.0

    @property
    def window(self) -> bool:
        """Gmail, which lists its oldest mails that nobody retrieved yet, some 250 of them."""
        return "X-GOOGLE-RICO" in self.capabilities or self.greeting.startswith("Gpop ")

    def _argument(self, name: str) -> str:
        return (self.capabilities.get(name, "").split() or [""])[0]

    def send(self, *commands: bytes, shown: bytes | None = None) -> None:
        for command in commands:
            self.stream.transcript.sent(shown or command)
        self.send_unnoted(commands)

    def send_unnoted(self, commands: Sequence[bytes]) -> None:
        """Without a line of the transcript for each."""
        for command in commands:
            self._sent += 1
            self.stream.pipelining.sent(self._sent, command)
        self.stream.send(b"".join(command + b"\r\n" for command in commands))

    def respond(self, secret: bytes) -> None:
        """Goes on with a command whose answer is still to come (RFC 5034)."""
        self.stream.transcript.sent(b"***")
        self.stream.send(secret + b"\r\n")

    def answer(self) -> Pop3Answer:
        line = self.first_line()
        self.stream.transcript.received(line)
        return self.understood(line)

    def first_line(self) -> bytes:
        """The line that should be an answer. A dot alone behind a refusal is none: some servers end
        it as they would have ended the text that they refuse."""
        line = self.stream.line()
        if line == b"." and self._refused:
            self._refused = False
            line = self.stream.line()
        return line

    def understood(self, line: bytes) -> Pop3Answer:
        """A first line as an answer; the session is lost where it is none."""
        match = _ANSWER.match(line)
        if match is None:
            raise self.stream.nonsense(f"{self.stream.transcript.clean(line[:80])!r}")
        answer = Pop3Answer(match[1].upper() == b"+OK", match[2] or b"", self.stream.transcript)
        self._answered += 1
        self._refused = not answer.ok
        self.stream.pipelining.answered(self._answered, ok=answer.ok)
        return answer

    @property
    def depends_on_user(self) -> bool:
        return any(
            "USER" in self.capabilities.get(name, "").split() for name in ("EXPIRE", "LOGIN-DELAY")
        )

    def command(self, command: bytes, *, shown: bytes | None = None) -> Pop3Answer:
        self.stream.start_clock()
        self.send(command, shown=shown)
        return self.answer()

    def commands(self, commands: Sequence[bytes], *, ahead: int = 64) -> Iterator[Pop3Answer]:
        """The first line of the answer to each, many under way where the server pipelines.

        What follows a first line must be read before the next one is asked for.
        """
        ahead = ahead if self.pipelining else 1
        for start in range(0, len(commands), ahead):
            batch = commands[start : start + ahead]
            self.send(*batch)
            for _ in batch:
                self.stream.start_clock()
                yield self.answer()

    def lines(self) -> Iterator[bytes]:
        """The lines of a multi-line answer, dots unstuffed, up to the lone dot."""
        size = 0
        while (line := self.stream.line()) != b".":
            size += len(line)
            if size > _LISTING:
                raise self.stream.nonsense("a listing without an end")
            yield line[1:] if line.startswith(b".") else line

    def headers(self) -> bytes:
        """The answer to `TOP n 0`, octet for octet; read to its end, cut at HEADER_LIMIT."""
        kept = bytearray()
        read_text(self.stream, lambda piece: kept.extend(piece[: HEADER_LIMIT - len(kept)]))
        return bytes(kept)

    def used_top(self, key: Key) -> None:
        """RFC 1939 section 8 counts RETR alone and leaves it to the server what TOP means where
        what was downloaded is deleted. What Gmail makes of it is not documented. Who was not asked
        may be such a server."""
        if self.expires_days == 0 or self.unasked:
            self.topped.add(key)

    # ---- before the login

    def read_greeting(self) -> None:
        line = self.stream.line()
        self.stream.transcript.received(line)
        if not line.upper().startswith((b"+OK", b"-ERR")):
            shown = self.stream.transcript.clean(line[:200])
            other = " It looks like IMAP." if line.startswith(b"* ") else ""
            raise Unreachable(
                f"This is no POP3 server: it greets with {shown!r}.{other}",
                step="greeting",
                code="not-pop3",
                hint="Check the port and the mode of the connection.",
            )
        self.greeting = self.stream.transcript.clean(line[4:])
        if line.startswith(b"-"):
            raise server_answers.of_greeting(self.greeting)

    def read_capabilities(self) -> None:
        """CAPA (RFC 2449); a server without it has no capabilities.

        Asked again after the login where some of them depend on the user (section 6: `USER`).
        """
        self.capabilities = self._listed_capabilities()

    def read_more_capabilities(self) -> dict[str, str]:
        """Asks again after the login, as servers may tell more then (section 5); returns that."""
        more = {
            name: arguments
            for name, arguments in self._listed_capabilities().items()
            if name not in self.capabilities
        }
        self.capabilities.update(more)
        return more

    def _listed_capabilities(self) -> dict[str, str]:
        found: dict[str, str] = {}
        answer = self.command(b"CAPA")
        self.answered_capa = True
        if answer.ok:
            for line in self.lines():
                words = _GLUED.sub(r"\1 ", line.decode("ascii", "replace").upper().strip())
                name, _, arguments = words.replace("\t", " ").partition(" ")
                found[name] = arguments.strip()
        return found

    def start_tls(self, host: str) -> None:
        """STLS (RFC 2595 section 4) up to the server's +OK. Never goes on in plain text."""
        answer = self.command(b"STLS")
        if not answer.ok:
            raise starttls_refused(host, answer.text or "refused", 995)
        self.stream.expect_tls()
