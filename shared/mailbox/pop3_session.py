"""One POP3 session: commands and answers (RFC 1939, 2449, 2595, 3206, 5034), pipelined if offered.

A session is a snapshot: the server locks the mailbox at login, and what arrives later is seen by
the next session only.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.connections import Connection
from shared.mailbox.base import HEADER_LIMIT, Login, OAuthRefused, Refused, Unreachable
from shared.mailbox.imap_login import bearer_message, decode_challenge, login_error, login_name
from shared.mailbox.pop3_text import read_text
from shared.mailbox.transcript import Transcript
from shared.mailbox.wire import Wire

_ANSWER = re.compile(rb"(\+OK|-ERR)(?: +(.*)|\Z)", re.I | re.S)
_CODE = re.compile(r"\[([A-Z0-9/._-]+)\]", re.I)
#: A mailbox with a million mails fits; a listing without an end does not.
_LISTING = 64 << 20


@dataclass(slots=True)
class Answer:
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
        """The leading whole numbers of the answer (STAT, LIST n)."""
        found = []
        for word in self.words.split():
            if not word.isdigit() or len(word) > 19:
                break
            found.append(int(word))
        return found


class Pop3Session:
    """Sends commands and reads their answers, in order."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.capabilities: dict[str, str] = {}
        self.greeting = ""

    @property
    def pipelining(self) -> bool:
        return "PIPELINING" in self.capabilities

    def send(self, *commands: bytes, shown: bytes | None = None) -> None:
        for command in commands:
            self.wire.transcript.sent(shown or command)
        self.wire.send(b"".join(command + b"\r\n" for command in commands))

    def answer(self) -> Answer:
        line = self.wire.line()
        self.wire.transcript.received(line)
        match = _ANSWER.match(line)
        if match is None:
            raise self.wire.nonsense(f"{self.wire.transcript.clean(line[:80])!r}")
        return Answer(match[1].upper() == b"+OK", match[2] or b"", self.wire.transcript)

    def command(self, command: bytes, *, shown: bytes | None = None) -> Answer:
        self.wire.start_clock()
        self.send(command, shown=shown)
        return self.answer()

    def commands(self, commands: Sequence[bytes], *, ahead: int = 64) -> Iterator[Answer]:
        """The first line of the answer to each, many under way where the server pipelines.

        What follows a first line must be read before the next one is asked for.
        """
        ahead = ahead if self.pipelining else 1
        for start in range(0, len(commands), ahead):
            batch = commands[start : start + ahead]
            self.send(*batch)
            for _ in batch:
                self.wire.start_clock()
                yield self.answer()

    def lines(self) -> Iterator[bytes]:
        """The lines of a multi-line answer, dots unstuffed, up to the lone dot."""
        size = 0
        while (line := self.wire.line()) != b".":
            size += len(line)
            if size > _LISTING:
                raise self.wire.nonsense("a listing without an end")
            yield line[1:] if line.startswith(b".") else line

    def headers(self) -> bytes:
        """The answer to `TOP n 0`, octet for octet; read to its end, cut at HEADER_LIMIT."""
        kept = bytearray()
        read_text(self.wire, lambda piece: kept.extend(piece[: HEADER_LIMIT - len(kept)]))
        return bytes(kept)

    # ---- before the login

    def read_greeting(self) -> None:
        line = self.wire.line()
        self.wire.transcript.received(line)
        if not line.upper().startswith((b"+OK", b"-ERR")):
            shown = self.wire.transcript.clean(line[:200])
            other = " It looks like IMAP." if line.startswith(b"* ") else ""
            raise Unreachable(
                f"This is no POP3 server: it greets with {shown!r}.{other}",
                step="greeting",
                code="not-pop3",
                hint="Check the port and the mode of the connection.",
            )
        self.greeting = self.wire.transcript.clean(line[4:])
        if line.startswith(b"-"):
            raise Unreachable(
                f"The mail server does not want us at the moment: {self.greeting}",
                step="greeting",
                code="server-refused",
            )

    def ask_capabilities(self) -> None:
        """CAPA (RFC 2449); a server without it has no capabilities."""
        self.capabilities = {}
        if self.command(b"CAPA").ok:
            for line in self.lines():
                name, _, arguments = line.decode("ascii", "replace").upper().partition(" ")
                self.capabilities[name] = arguments

    def start_tls(self, host: str) -> None:
        """STLS (RFC 2595 section 4) up to the server's +OK. Never goes on in plain text."""
        answer = self.command(b"STLS")
        if not answer.ok:
            raise Refused(
                f"{host} does not offer STARTTLS: {answer.text or 'refused'}.",
                step="tls",
                code="starttls-refused",
                hint="Use TLS on its own port (995). Posthouse never falls back to plain text.",
            )
        if self.wire.pos < self.wire.end:
            raise self.wire.nonsense("plain text behind its agreement to STLS")

    # ---- login

    def log_in(self, connection: Connection, login: Login, *, renew: bool) -> None:
        if login.access_token is not None:
            self._bearer(connection, login.access_token(renew))
            return
        username, password = login_name(connection, login), login.password or ""
        if any(c in username + password for c in "\r\n\0"):
            raise Refused(
                "POP3 cannot carry a username or password with a line break in it.",
                step="login",
                code="login-refused",
            )
        self.wire.transcript.hide(password)
        user = b"USER " + username.encode()
        secret = b"PASS " + password.encode()
        if self.pipelining:
            self.wire.start_clock()
            self.send(user)
            self.send(secret, shown=b"PASS ***")
            answers = [self.answer(), self.answer()]
        else:
            answers = [self.command(user)]
            if answers[0].ok:
                answers.append(self.command(secret, shown=b"PASS ***"))
        refused = next((answer for answer in answers if not answer.ok), None)
        if refused is not None:
            raise self._refused(refused)

    def _refused(self, answer: Answer) -> Exception:
        code, text = answer.code, answer.text or "-ERR"
        if code == "IN-USE" or "lock" in text.lower():
            return Unreachable(
                f"Another program has the mailbox open: {text}",
                step="login",
                code="mailbox-in-use",
                hint="A POP3 mailbox serves one session at a time.",
            )
        if code in ("SYS/TEMP", "LOGIN-DELAY"):
            return login_error("UNAVAILABLE", text)
        if code in ("AUTH", "SYS/PERM"):
            return login_error("AUTHENTICATIONFAILED", text)
        return login_error("", text)

    def _bearer(self, connection: Connection, token: str) -> None:
        offered = self.capabilities.get("SASL", "").split()
        mechanism = b"XOAUTH2"
        if "XOAUTH2" not in offered and "OAUTHBEARER" in offered:
            mechanism = b"OAUTHBEARER"
        message = bearer_message(mechanism, connection, token)
        self.wire.transcript.hide(token)
        self.wire.transcript.hide(message.decode())
        encoded = base64.b64encode(message)
        details: dict[str, object] = {}
        # The initial response may not fit a command line (RFC 5034 section 4): sent on its own.
        self.wire.start_clock()
        self.send(b"AUTH " + mechanism)
        sent = False
        for _ in range(5):
            line = self.wire.line()
            if not line.startswith(b"+ ") and line != b"+":
                break
            if not sent:
                self.wire.transcript.received(line)
                self.send(encoded, shown=b"***")
                sent = True
            else:
                self.wire.transcript.received(line)
                details = decode_challenge(line[1:])
                self.send(b"AQ==" if mechanism == b"OAUTHBEARER" else b"")
        self.wire.transcript.received(line)
        match = _ANSWER.match(line)
        if match is None:
            raise self.wire.nonsense("no answer to AUTH")
        answer = Answer(match[1].upper() == b"+OK", match[2] or b"", self.wire.transcript)
        if answer.ok:
            return
        if not details and answer.code in ("SYS/TEMP", "LOGIN-DELAY", "IN-USE"):
            raise self._refused(answer)
        raise OAuthRefused(
            f"The mail server refused the access token for {connection.mailbox}: {answer.text}",
            details=details,
            server_text=answer.text,
        )
