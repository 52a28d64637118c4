"""A POP3 server with the rules of a provider that no Debian package has, played by a script.

    with RuledPop3(window=250, expire=0, gmail=True) as server:   # Gmail over POP3
        server.deliver("alice", [b"Subject: one\\r\\n\\r\\n..."])
        server.listed("alice")        # what the next session would list
        server.left("alice")          # what exists at all

Rules, each as documented or seen:

- `expire=0` (RFC 2449 section 6.7): what was retrieved in a session that ended with QUIT is let go
  of: taken from the listing and kept out of sight where `hides` (Gmail), else removed.
- `window`: at most so many of the oldest that were not let go of are listed (Gmail: some 250).
- `login_delay` (section 6.5): a login within so many seconds after another is refused. Cyrus
  announces it, others only say so in words of their own (`delay_words`).
- `top=False`: no TOP. `top_retrieves`: TOP counts as a retrieval. `stuffs=False`: lines that begin
  with a dot go out as they are.
- `rename(...)`: every unique id changes, as after a migration.

A session locks its mailbox; only QUIT changes one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from hashlib import sha256
from types import TracebackType
from typing import Any

import pytest

from tests.servers.mail_server import PASSWORD
from tests.servers.scripted import Conversation, ScriptedServer, stuffed

GMAIL_GREETING = b"+OK Gpop ready for requests from 127.0.0.1 y3mb1234567\r\n"


@dataclass
class Stored:
    """One mail: `hidden` from POP3, and still there."""

    uidl: str
    raw: bytes
    hidden: bool = False


@dataclass
class RuledPop3:
    window: int | None = None
    expire: int | None = None
    hides: bool = False
    gmail: bool = False
    top: bool = True
    top_retrieves: bool = False
    stuffs: bool = True
    login_delay: int = 0
    delay_words: bytes = b"[LOGIN-DELAY] Logins must be at least 1 minute apart"
    pipelining: bool = False
    #: Whether EXPIRE is told to those who are logged in alone (RFC 2449 section 5).
    expire_after_login: bool = False
    #: Asked for each DELE: whether it is refused.
    refuse_deletion: Callable[[Stored], bool] = lambda mail: False
    #: Words to answer each QUIT with that was told to delete, which then deletes nothing; or None.
    refuse_quit: bytes | None = None
    #: Asked for each RETR, with the number of mails given so far: words to refuse it with, or None.
    refuse: Callable[[Stored, int], bytes | None] = lambda mail, given: None
    #: Asked for each RETR: whether the session ends there, without a word.
    breaks: Callable[[Stored], bool] = lambda mail: False
    #: Asked for each RETR: whether nothing comes any more.
    is_silent: Callable[[Stored], bool] = lambda mail: False
    #: Asked for each RETR: whether an empty mail comes in place of it.
    gives_empty: Callable[[Stored], bool] = lambda mail: False
    #: Asked for each RETR: the mail that comes, and what comes before the answer to it.
    gives: Callable[[Stored], bytes] = lambda mail: mail.raw
    says_before: Callable[[Stored], bytes] = lambda mail: b""
    #: How many mails the whole list of UIDL names at most, and whether UIDL names each one alone.
    listed_by_uidl: int | None = None
    names_alone: bool = True
    #: How many mails STAT says of so many.
    counts: Callable[[int], int] = lambda there: there
    #: What LIST says of a mail.
    size: Callable[[bytes], int] = len
    #: Words to refuse every login with, or None.
    login_words: Callable[[], bytes | None] = lambda: None
    #: The same for TOP.
    refuse_top: Callable[[Stored], bytes | None] = lambda mail: None
    host: str = "127.0.0.1"
    imap_port: int = 0
    imaps_port: int = 0
    pop3_port: int = 0
    pop3s_port: int = 0
    separator: str = "/"
    prefix: str = ""
    logins: int = 0
    retrieved: int = 0
    quits: int = 0
    _mails: dict[str, list[Stored]] = field(default_factory=dict)
    _last_login: dict[str, float] = field(default_factory=dict)
    _locked: set[str] = field(default_factory=set)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _server: ScriptedServer | None = None

    def __enter__(self) -> RuledPop3:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        self._server = ScriptedServer(self._play).__enter__()
        self.pop3_port = self._server.port

    def stop(self) -> None:
        if self._server is not None:
            self._server.__exit__(None, None, None)
            self._server = None

    @property
    def heard(self) -> list[bytes]:
        assert self._server is not None
        return self._server.heard

    # ---- what people do

    def add_user(self, user: str, password: str = PASSWORD) -> None:
        self._mails.setdefault(user, [])

    def forget_user(self, user: str) -> None:
        self._mails.pop(user, None)

    def deliver(
        self,
        user: str,
        mails: Iterable[bytes],
        folder: str = "INBOX",
        *,
        flags: str = "",
        password: str = PASSWORD,
    ) -> None:
        self.add_user(user)
        with self._lock:
            for raw in mails:
                name = sha256(raw + b"%d" % len(self._mails[user])).hexdigest()[:18]
                self._mails[user].append(Stored(f"GmailId{name}", raw))

    def deliver_below(self, user: str, mails: Iterable[bytes], above: int) -> None:
        """As on a server that does not list in the order of arrival: with `above` mails of before
        listed behind them."""
        before = self._mails[user][len(self._mails[user]) - above :]
        with self._lock:
            del self._mails[user][len(self._mails[user]) - above :]
        self.deliver(user, mails)
        with self._lock:
            self._mails[user] += before

    def vanish(self, user: str, raw: bytes) -> None:
        """Somebody removes a mail."""
        with self._lock:
            self._mails[user] = [one for one in self._mails[user] if one.raw != raw]

    def rename(self, user: str, name: Callable[[Stored], str]) -> None:
        """Every unique id becomes another one."""
        with self._lock:
            for mail in self._mails[user]:
                mail.uidl = name(mail)

    def pass_time(self, seconds: float) -> None:
        """So much later, as far as the time between logins is concerned."""
        with self._lock:
            for user in self._last_login:
                self._last_login[user] -= seconds

    def remove(self, user: str) -> None:
        """Somebody clears the mailbox."""
        with self._lock:
            self._mails[user].clear()

    def listed(self, user: str) -> list[bytes]:
        return [mail.raw for mail in self._snapshot(user)]

    def left(self, user: str) -> list[bytes]:
        with self._lock:
            return [mail.raw for mail in self._mails.get(user, [])]

    def stored(self, user: str) -> list[Stored]:
        """Everything that exists, to be changed."""
        return self._mails[user]

    def client(self, user: str, password: str = PASSWORD) -> AbstractContextManager[Any]:
        raise NotImplementedError("this server speaks POP3 only")

    def flags(self, user: str, folder: str = "INBOX") -> dict[int, set[str]]:
        """Number → nothing, for what POP3 would list."""
        return {number: set() for number in range(1, len(self.listed(user)) + 1)}

    # ---- a session

    def _snapshot(self, user: str) -> list[Stored]:
        with self._lock:
            shown = [mail for mail in self._mails.get(user, []) if not mail.hidden]
        return shown if self.window is None else shown[: self.window]

    def _play(self, talk: Conversation) -> None:
        talk.send(GMAIL_GREETING if self.gmail else b"+OK scripted server ready\r\n")
        user = self._log_in(talk)
        if user is None:
            return
        try:
            self._serve(talk, user)
        finally:
            with self._lock:
                self._locked.discard(user)

    def _log_in(self, talk: Conversation) -> str | None:
        user = ""
        while line := talk.line():
            name, _, rest = line.partition(b" ")
            match name.upper():
                case b"CAPA":
                    talk.send(b"+OK\r\n" + self._capabilities(logged_in=False) + b".\r\n")
                case b"USER":
                    user = rest.decode()
                    talk.send(b"+OK send PASS\r\n")
                case b"PASS":
                    words = self.login_words()
                    if words:
                        talk.send(b"-ERR " + words + b"\r\n")
                        continue
                    with self._lock:
                        since = time.monotonic() - self._last_login.get(user, -1e9)
                        if since < self.login_delay:
                            talk.send(b"-ERR " + self.delay_words + b"\r\n")
                            continue
                        if user in self._locked:
                            talk.send(b"-ERR [IN-USE] Unable to lock maildrop\r\n")
                            continue
                        self._locked.add(user)
                        self._last_login[user] = time.monotonic()
                        self.logins += 1
                    talk.send(b"+OK Welcome.\r\n")
                    return user
                case b"QUIT":
                    talk.send(b"+OK Farewell.\r\n")
                    return None
                case _:
                    talk.send(b"-ERR log in first\r\n")
        return None

    def _serve(self, talk: Conversation, user: str) -> None:
        mails = dict(enumerate(self._snapshot(user), 1))
        retrieved: set[int] = set()
        deleted: set[int] = set()
        while line := talk.line():
            name, _, rest = line.partition(b" ")
            number = int(rest.split()[0]) if rest[:1].isdigit() else 0
            there = {n: mail for n, mail in mails.items() if n not in deleted}
            if number and number not in there:
                talk.send(b"-ERR no such message\r\n")
                continue
            match name.upper():
                case b"CAPA":
                    talk.send(b"+OK\r\n" + self._capabilities(logged_in=True) + b".\r\n")
                case b"STAT":
                    count = self.counts(len(there))
                    octets = sum(len(mail.raw) for mail in there.values()) if count else 0
                    talk.send(b"+OK %d %d\r\n" % (count, octets))
                case b"UIDL" if number and not self.names_alone:
                    talk.send(b"-ERR not available\r\n")
                case b"UIDL" if number:
                    talk.send(b"+OK %d %s\r\n" % (number, there[number].uidl.encode()))
                case b"LIST" if number:
                    talk.send(b"+OK %d %d\r\n" % (number, self.size(there[number].raw)))
                case b"UIDL":
                    named = list(there.items())[: self.listed_by_uidl]
                    lines = (b"%d %s\r\n" % (n, mail.uidl.encode()) for n, mail in named)
                    talk.send(b"+OK\r\n" + b"".join(lines) + b".\r\n")
                case b"LIST":
                    lines = (b"%d %d\r\n" % (n, self.size(mail.raw)) for n, mail in there.items())
                    talk.send(b"+OK\r\n" + b"".join(lines) + b".\r\n")
                case b"TOP" if self.top:
                    if self.top_retrieves:
                        retrieved.add(number)
                    words = self.refuse_top(there[number])
                    shown = top(there[number].raw, int(rest.split()[1]))
                    talk.send(b"-ERR " + words + b"\r\n" if words else b"+OK\r\n" + stuffed(shown))
                case b"RETR":
                    if self.breaks(there[number]):
                        talk.hang_up()
                    if self.is_silent(there[number]):
                        talk.say_nothing()
                    words = self.refuse(there[number], self.retrieved)
                    if words:
                        talk.send(b"-ERR " + words + b"\r\n")
                        continue
                    self.retrieved += 1
                    retrieved.add(number)
                    raw = b"" if self.gives_empty(there[number]) else self.gives(there[number])
                    talk.send(self.says_before(there[number]))
                    talk.send(b"+OK\r\n" + (stuffed(raw) if self.stuffs else raw + b".\r\n"))
                case b"DELE" if self.refuse_deletion(there[number]):
                    talk.send(b"-ERR not now\r\n")
                case b"DELE":
                    deleted.add(number)
                    talk.send(b"+OK\r\n")
                case b"NOOP":
                    talk.send(b"+OK\r\n")
                case b"RSET":
                    deleted.clear()
                    talk.send(b"+OK\r\n")
                case b"QUIT" if self.refuse_quit is not None and deleted:
                    talk.send(b"-ERR " + self.refuse_quit + b"\r\n")
                    return
                case b"QUIT":
                    self._update(user, [mails[n] for n in retrieved], [mails[n] for n in deleted])
                    talk.send(b"+OK Farewell.\r\n")
                    return
                case _:
                    talk.send(b"-ERR unknown command\r\n")

    def _update(self, user: str, retrieved: list[Stored], deleted: list[Stored]) -> None:
        """The UPDATE state (RFC 1939 section 6), and what the provider's rules add to it."""
        with self._lock:
            self.quits += 1
            gone = [id(mail) for mail in deleted]
            if self.expire == 0 and not self.hides:
                gone += [id(mail) for mail in retrieved]
            if self.expire == 0 and self.hides:
                for mail in retrieved:
                    mail.hidden = True
            self._mails[user] = [mail for mail in self._mails[user] if id(mail) not in gone]

    def _capabilities(self, *, logged_in: bool) -> bytes:
        words = ["USER", "RESP-CODES", "UIDL"]
        words += ["TOP"] if self.top else []
        words += ["PIPELINING"] if self.pipelining else []
        if self.expire is not None and (logged_in or not self.expire_after_login):
            words.append(f"EXPIRE {self.expire}")
        words += [f"LOGIN-DELAY {self.login_delay}"] if self.login_delay else []
        words += ["X-GOOGLE-RICO"] if self.gmail else []
        return "".join(f"{word}\r\n" for word in words).encode()


def top(raw: bytes, lines: int) -> bytes:
    """The header of a mail, and so many lines of its body (RFC 1939 section 7)."""
    head, _, body = raw.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n" + b"".join(body.splitlines(keepends=True)[:lines])


def gmail_rules(**rules: object) -> RuledPop3:
    """Gmail's, without its LOGIN-DELAY of 300 seconds unless said."""
    return RuledPop3(**{"window": 250, "expire": 0, "hides": True, "gmail": True, **rules})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def gmail_pop3() -> Iterator[RuledPop3]:
    """Gmail's rules with a window of three: new mails show only as old ones were let go of."""
    with gmail_rules(window=3) as server:
        yield server


@pytest.fixture(scope="session")
def pop3_without_top() -> Iterator[RuledPop3]:
    with RuledPop3(top=False, pipelining=True) as server:
        yield server
