"""What every mail server of the tests offers, whichever program it is.

    server.deliver("alice", [b"Subject: one\\r\\n\\r\\n..."])
    server.flags("alice")                                   # what is left, and how it is marked
    with server.client("alice") as other: ...               # imapclient, as somebody else

Mails are brought in and looked at over IMAP, so that a test says the same on every server.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

PASSWORD = "secret"
_APPEND_BATCH = 4 << 20  # octets a MULTIAPPEND


class Identity(Protocol):
    """A certificate and its key as PEM files (tests.servers.certificates makes them)."""

    @property
    def certificate(self) -> Path: ...

    @property
    def key(self) -> Path: ...


class MailServer(Protocol):
    """A running server: ports on `host` (0 where it has no such listener), users, mails."""

    host: str
    imap_port: int
    imaps_port: int
    pop3_port: int
    pop3s_port: int
    #: How it names folders: the delimiter, and what personal folders begin with.
    separator: str
    prefix: str

    def start(self) -> None:
        """Returns when every listener answers. After `stop` the ports and mails are the same."""
        ...

    def stop(self) -> None: ...

    def add_user(self, user: str, password: str = PASSWORD) -> None:
        """Lets this user log in; nothing where the user is known already."""
        ...

    def forget_user(self, user: str) -> None:
        """Gives back the room of a user that no test needs any more."""
        ...

    def deliver(
        self,
        user: str,
        mails: Iterable[bytes],
        folder: str = "INBOX",
        *,
        flags: str = "",
        password: str = PASSWORD,
    ) -> None: ...

    def client(self, user: str, password: str = PASSWORD) -> AbstractContextManager[Any]: ...

    def flags(self, user: str, folder: str = "INBOX") -> dict[int, set[str]]: ...


class ImapAccess:
    """Delivering and looking over IMAP in plain text, for servers with `host` and `imap_port`."""

    host: str
    imap_port: int

    def add_user(self, user: str, password: str = PASSWORD) -> None:
        raise NotImplementedError

    def deliver(
        self,
        user: str,
        mails: Iterable[bytes],
        folder: str = "INBOX",
        *,
        flags: str = "",
        password: str = PASSWORD,
    ) -> None:
        """Appends mails, in large transactions where the server can (RFC 3502).

        `folder` is in the server's own words (delimiter, modified UTF-7); it is created where
        missing. `flags` as IMAP writes them: `\\\\Seen \\\\Flagged`.
        """
        self.add_user(user, password)
        with _Appender(self.host, self.imap_port, user, password) as appender:
            appender.append(mails, folder, flags)

    def deliver_large(self, user: str, subject: str, octets: int) -> str:
        """Appends one mail of at least so many octets in little memory; returns its SHA-256."""
        self.add_user(user)
        head = f"Subject: {subject}\r\n\r\n".encode()
        block = b"".join(b"%076d\r\n" % n for n in range(10_000))
        blocks = -(-octets // len(block))
        digest = hashlib.sha256(head)
        with _Appender(self.host, self.imap_port, user, PASSWORD) as appender:
            appender.begin(len(head) + blocks * len(block))
            appender.send(head)
            for _ in range(blocks):
                digest.update(block)
                appender.send(block)
            appender.finish()
        return digest.hexdigest()

    @contextlib.contextmanager
    def client(self, user: str, password: str = PASSWORD) -> Iterator[Any]:
        """An IMAPClient session in plain text, to look at a mailbox and to be somebody else."""
        from imapclient import IMAPClient

        self.add_user(user, password)
        with IMAPClient(self.host, self.imap_port, ssl=False, timeout=30) as session:
            session.login(user, password)
            yield session

    def flags(self, user: str, folder: str = "INBOX") -> dict[int, set[str]]:
        """UID → flags (without \\\\Recent) of every mail in a folder."""
        with self.client(user) as session:
            session.select_folder(folder, readonly=True)
            uids = session.search("ALL")
            found = session.fetch(uids, ["FLAGS"]) if uids else {}
            return {
                uid: {flag.decode() for flag in data[b"FLAGS"]} - {r"\Recent"}
                for uid, data in found.items()
            }


class _Appender:
    """A session that appends, many mails a command and without waiting where the server can."""

    def __init__(self, host: str, port: int, user: str, password: str) -> None:
        self._socket = socket.create_connection((host, port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = self._socket.makefile("rb")
        self._answers.readline()
        quoted = user.replace("\\", "\\\\").replace('"', '\\"')
        self._command(f'LOGIN "{quoted}" "{password}"'.encode())
        announced = b" ".join(self._command(b"CAPABILITY")).upper().split()
        self._literal_plus = b"LITERAL+" in announced
        self._multiappend = b"MULTIAPPEND" in announced

    def __enter__(self) -> _Appender:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._command(b"LOGOUT", may_fail=True)  # some servers write only now
        self._answers.close()
        self._socket.close()

    def append(self, mails: Iterable[bytes], folder: str, flags: str) -> None:
        name = '"' + folder.replace("\\", "\\\\").replace('"', '\\"') + '"'
        if folder.upper() != "INBOX":
            self._command(b"CREATE " + name.encode(), may_fail=True)
        head = b" (" + flags.encode() + b")"
        if not (self._literal_plus and self._multiappend):
            for mail in mails:
                self._append_one(b"APPEND " + name.encode() + head, mail)
            return
        batch: list[bytes] = []
        held = 0
        for mail in mails:
            batch += [head + b" {%d+}\r\n" % len(mail), mail]
            held += len(mail)
            if held > _APPEND_BATCH or len(batch) >= 2000:
                self._command(b"".join([b"APPEND ", name.encode(), *batch]))
                batch, held = [], 0
        if batch:
            self._command(b"".join([b"APPEND ", name.encode(), *batch]))

    def _append_one(self, command: bytes, mail: bytes) -> None:
        self.send(b"x " + command + b" {%d}\r\n" % len(mail))
        while not (answer := self._answers.readline()).startswith(b"+"):
            if not answer.startswith(b"*"):
                raise RuntimeError(f"the server refused {command!r}: {answer!r}")
        self.send(mail)
        self.finish()

    def begin(self, size: int) -> None:
        """A mail of `size` octets for the inbox, whose octets follow with `send`."""
        self.send(b"x APPEND INBOX {%d%s}\r\n" % (size, b"+" if self._literal_plus else b""))
        if not self._literal_plus:
            self._answers.readline()

    def send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def finish(self) -> None:
        self._command(b"", begun=True)

    def _command(
        self, command: bytes, *, may_fail: bool = False, begun: bool = False
    ) -> list[bytes]:
        self._socket.sendall(b"\r\n" if begun else b"x " + command + b"\r\n")
        untagged = []
        while not (answer := self._answers.readline()).startswith(b"x "):
            if not answer:
                raise ConnectionError("the server hung up")
            untagged.append(answer)
        if not answer.startswith(b"x OK") and not may_fail:
            raise RuntimeError(f"the server refused {command[:60]!r}: {answer!r}")
        return untagged
