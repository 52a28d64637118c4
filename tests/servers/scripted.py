"""A server that plays a script: for what no real mail server does, or not when it is asked to.

    def script(talk: Conversation) -> None:
        talk.send(b"* OK ready\\r\\n")
        tag, name, rest = talk.command()
        ...

    with ScriptedServer(script) as server: ...  # server.port, server.heard

Each connection plays the script anew. When it returns, the connection is closed. `imap` and `pop3`
make scripts of a whole server in which a test replaces single answers.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from types import TracebackType

from tests.servers.certificates import ServerIdentity

Script = Callable[["Conversation"], None]
#: Bytes to send before the command's OK, or a function that does everything by itself.
Answer = bytes | Callable[["Conversation", bytes, bytes], None]


class Conversation:
    """One connection, from the server's side."""

    def __init__(self, sock: socket.socket, heard: list[bytes], stopping: threading.Event) -> None:
        self._socket = sock
        self._heard = heard
        self._stopping = stopping
        self._lines = sock.makefile("rb")

    def send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def line(self) -> bytes:
        """The next line of the client without its end; empty when it has gone."""
        line = self._lines.readline().rstrip(b"\r\n")
        self._heard.append(line)
        return line

    def octets(self, count: int) -> bytes:
        """So many octets of the client: a literal."""
        return self._lines.read(count)

    def command(self) -> tuple[bytes, bytes, bytes]:
        """The next IMAP command: tag, name (`UID FETCH` is one), arguments."""
        tag, _, rest = self.line().partition(b" ")
        name, _, rest = rest.partition(b" ")
        if name.upper() == b"UID":
            second, _, rest = rest.partition(b" ")
            name += b" " + second
        return tag, name.upper(), rest

    def ok(self, tag: bytes, text: bytes = b"done") -> None:
        self.send(tag + b" OK " + text + b"\r\n")

    def start_tls(self, identity: ServerIdentity) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity.certificate, identity.key)
        self._socket = context.wrap_socket(self._socket, server_side=True)
        self._lines = self._socket.makefile("rb")

    def say_nothing(self) -> None:
        """Until the client goes away or the test ends."""
        self._socket.settimeout(0.05)
        while not self._stopping.is_set():
            try:
                if not self._socket.recv(4096):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def hang_up(self) -> None:
        """An abrupt end: the client sees a reset or an end of file."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError


class ScriptedServer:
    """Listens on a free loopback port and plays a script to every connection."""

    def __init__(self, script: Script, *, tls: ServerIdentity | None = None) -> None:
        self._script = script
        self._tls = tls
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.host = "127.0.0.1"
        #: Every line that clients sent.
        self.heard: list[bytes] = []
        self.connections = 0

    def __enter__(self) -> ScriptedServer:
        thread = threading.Thread(target=self._accept, daemon=True)
        thread.start()
        self._threads.append(thread)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            # A line of its own waits for no acknowledgement of the one before it: 40 ms each.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._sockets.append(sock)
            thread = threading.Thread(target=self._play, args=(sock,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _play(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, ssl.SSLError, ValueError):
            talk = Conversation(sock, self.heard, self._stopping)
            if self._tls is not None:
                talk.start_tls(self._tls)
            self._script(talk)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()


MAILS = {
    1: b"Subject: one\r\n\r\nfirst\r\n",
    2: b"Subject: two\r\n\r\nsecond\r\n",
    3: b"Subject: three\r\n\r\nthird\r\n",
}
CAPABILITY = b"IMAP4rev1 UIDPLUS UNSELECT"


def imap(
    answers: Mapping[str, Answer] | None = None,
    *,
    mails: Mapping[int, bytes] = MAILS,
    capability: bytes = CAPABILITY,
    greeting: bytes = b"* OK scripted server ready\r\n",
    settles: bool = False,
    live: dict[int, bytes] | None = None,
) -> Script:
    """A whole IMAP server with `mails` (UID → octets) in its inbox, all unread for ever, or with
    `settles` until they are marked read. `live` in place of `mails`: what a test puts in arrives.

    `answers` replaces what it says to single commands (`UID FETCH`, `LOGIN`, …; `METADATA` for a
    FETCH of sizes, `HEADERS` for one of headers).
    """
    given = dict(answers or {})
    there = dict(mails) if live is None else live
    read: set[int] = set()
    #: The highest UID that was ever given.
    highest = [0]

    def script(talk: Conversation) -> None:
        talk.send(greeting)
        while True:
            tag, name, rest = talk.command()
            if not tag:
                return
            key = name.decode()
            if name == b"UID FETCH":
                key = "UID FETCH" if b"BODY" in rest.upper() else "METADATA"
                key = "HEADERS" if b"[HEADER]" in rest.upper() else key
            answer = given.get(key)
            if callable(answer):
                answer(talk, tag, rest)
                continue
            if answer is None:
                highest[0] = max(highest[0], *there, 0)
                if settles and key == "UID STORE" and b"Seen" in rest:
                    read.update(read_set(rest.split(b" ")[0], max(there, default=0)))
                answer = _usual(key, rest, there, capability, read, highest[0] + 1)
            talk.send(answer)
            talk.ok(tag)
            if name == b"LOGOUT":
                return

    return script


def _usual(
    name: str, rest: bytes, mails: dict[int, bytes], capability: bytes, read: set[int], top: int
) -> bytes:
    """What a decent server answers, before the OK; it forgets `mails` that are removed. The next
    mail gets the UID `top`."""
    named = read_set(rest.split(b" ")[0], top)
    wanted = [uid for uid in mails if uid in named]
    match name:
        case "CAPABILITY":
            return b"* CAPABILITY " + capability + b"\r\n"
        case "STATUS":
            return (
                b"* STATUS "
                + rest.partition(b" (")[0]
                + b" (MESSAGES %d UIDNEXT %d UIDVALIDITY 7 UNSEEN %d)\r\n"
                % (len(mails), top, len(mails.keys() - read))
            )
        case "SELECT" | "EXAMINE":
            access = b"READ-WRITE" if name == "SELECT" else b"READ-ONLY"
            return (
                b"* %d EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n* OK [UIDNEXT %d] ok\r\n"
                b"* OK [%s] ok\r\n" % (len(mails), top, access)
            )
        case "UID SEARCH":
            found = [uid for uid in mails if uid not in read or b"UNSEEN" not in rest]
            if b"DELETED" in rest.replace(b"UNDELETED", b""):
                found = []
            return b"* SEARCH" + b"".join(b" %d" % uid for uid in found) + b"\r\n"
        case "METADATA":
            return b"".join(
                b'* %d FETCH (UID %d RFC822.SIZE %d INTERNALDATE "22-Nov-2026 10:00:00 +0000" '
                b"FLAGS ())\r\n" % (uid, uid, len(mails[uid]))
                for uid in wanted
            )
        case "FETCH":
            asked = read_set(rest.split(b" ")[0], len(mails))
            return b"".join(
                flags_response(number, uid, seen=uid in read)
                for number, uid in enumerate(sorted(mails), 1)
                if number in asked
            )
        case "UID FETCH":
            return b"".join(body_response(uid, mails[uid]) for uid in wanted)
        case "UID STORE" if b" +FLAGS (" in rest:
            flags = rest.partition(b"(")[2].rstrip(b")")
            return b"".join(
                b"* %d FETCH (UID %d FLAGS (%s))\r\n" % (number, uid, flags)
                for number, uid in enumerate(sorted(mails), 1)
                if uid in named
            )
        case "UID EXPUNGE" | "UID MOVE":
            for uid in wanted:
                del mails[uid]
        case "LIST":
            return b'* LIST (\\HasNoChildren) "/" INBOX\r\n'
        case "LOGOUT":
            return b"* BYE see you\r\n"
    return b""


def flags_response(number: int, uid: int, *, seen: bool = False) -> bytes:
    """A FETCH response with the flags of a mail."""
    return b"* %d FETCH (UID %d FLAGS (%s))\r\n" % (number, uid, b"\\Seen" if seen else b"")


def body_response(uid: int, mail: bytes) -> bytes:
    """A FETCH response with a body, as most servers write it."""
    return b"* %d FETCH (UID %d BODY[] {%d}\r\n%s)\r\n" % (uid, uid, len(mail), mail)


def read_set(text: bytes, top: int) -> set[int]:
    """The UIDs of a sequence set; `*` is `top`."""
    found: set[int] = set()
    for word in text.split(b","):
        first, _, last = word.partition(b":")
        if first.isdigit():
            end = top if last == b"*" else int(last or first)
            found |= set(range(int(first), end + 1))
    return found


def pop3(
    answers: Mapping[str, Answer] | None = None,
    *,
    mails: Mapping[int, bytes] = MAILS,
    uidls: Mapping[int, bytes] | None = None,
    capabilities: bytes = b"UIDL\r\nTOP\r\nPIPELINING\r\n",
    greeting: bytes = b"+OK scripted server ready\r\n",
) -> Script:
    """A whole POP3 server; session numbers are the keys of `mails`.

    UIDLs are `uidl-<number>` where `uidls` does not give others.

    `answers` replaces what it says to single commands, status line and all.
    """
    given = dict(answers or {})
    names = {number: b"uidl-%d" % number for number in mails} if uidls is None else uidls

    def script(talk: Conversation) -> None:
        talk.send(greeting)
        while True:
            line = talk.line()
            if not line:
                return
            name, _, rest = line.partition(b" ")
            key = name.decode().upper()
            answer = given.get(key)
            if callable(answer):
                answer(talk, b"", rest)
                continue
            talk.send(
                _usual_pop3(key, rest, mails, names, capabilities) if answer is None else answer
            )
            if key == "QUIT":
                return

    return script


def stuffed(mail: bytes) -> bytes:
    """A mail as POP3 carries it, with its final dot."""
    text = b"\r\n" + mail
    return text.replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


def _usual_pop3(
    name: str,
    rest: bytes,
    mails: Mapping[int, bytes],
    uidls: Mapping[int, bytes],
    capabilities: bytes,
) -> bytes:
    number = int(rest.split()[0]) if rest[:1].isdigit() else 0
    if number and number not in mails:
        return b"-ERR no such message\r\n"
    match name:
        case "CAPA":
            return b"+OK\r\n" + capabilities + b".\r\n"
        case "STAT":
            return b"+OK %d %d\r\n" % (len(mails), sum(map(len, mails.values())))
        case "UIDL" if number:
            return b"+OK %d %s\r\n" % (number, uidls[number])
        case "UIDL":
            return b"+OK\r\n" + b"".join(b"%d %s\r\n" % pair for pair in uidls.items()) + b".\r\n"
        case "LIST" if number:
            return b"+OK %d %d\r\n" % (number, len(mails[number]))
        case "LIST":
            lines = b"".join(b"%d %d\r\n" % (n, len(mail)) for n, mail in mails.items())
            return b"+OK\r\n" + lines + b".\r\n"
        case "RETR":
            return b"+OK\r\n" + stuffed(mails[number])
        case "TOP":
            return b"+OK\r\n" + stuffed(mails[number].partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    return b"+OK\r\n"
