"""Opening a mailbox, step by step, so that a failure says exactly where it stopped and why."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator

from shared.connections import Connection, Mode, TransportSecurity
from shared.mailbox.base import Login, Mailbox, OAuthRefused, SessionLost, StepFailed, Unreachable
from shared.mailbox.errors import diagnosis
from shared.mailbox.errors.provider_errors import TOO_MANY
from shared.mailbox.graph.http import GraphHttp
from shared.mailbox.graph.mailbox import GraphMailbox
from shared.mailbox.imap import login as imap_login
from shared.mailbox.imap.mailbox import ImapMailbox
from shared.mailbox.imap.session import ImapSession
from shared.mailbox.net.connect import (
    AllowHost,
    Deadline,
    client_certificate_refused,
    connect_tcp,
    resolve,
    start_tls,
    tls_context,
)
from shared.mailbox.net.limiting import ProcessLimiter, RequestLimiter
from shared.mailbox.net.stream import Stream
from shared.mailbox.net.transcript import Transcript
from shared.mailbox.pop3 import login as pop3_login
from shared.mailbox.pop3.mailbox import Pop3Mailbox
from shared.mailbox.pop3.session import Pop3Session

READ_TIMEOUT_S = 60.0


def open_mailbox(
    connection: Connection,
    login: Login,
    *,
    read_timeout_s: float = READ_TIMEOUT_S,
    allow_host: AllowHost | None = None,
    limiter: RequestLimiter | None = None,
) -> Mailbox:
    """Connects and logs in; opens no folder yet.

    The connection's own timeout bounds everything up to the greeting, `read_timeout_s` each wait
    for the server after it. `allow_host` is asked about every address that the host resolves to
    (see `connect.resolve`). A refused access token is renewed once. `limiter` holds Graph's
    requests at one mailbox down over all replicas; without one, in this process.

    Raises a `StepFailed` with `step`, `code`, `hint` and `transcript`: Unreachable (try again) or
    Refused (needs a person), or `refusals.LoginNeeded`. The usual refusals of providers have the
    codes of `shared.mailbox.errors.diagnosis`; the others: `unknown-host`, `dns-failed`,
    `dns-timeout`, `host-forbidden`, `connect-timeout`, `connection-refused`, `unreachable`,
    `tls-failed`, `certificate-expired`, `certificate-untrusted`, `certificate-wrong-host`,
    `ca-unreadable`, `client-certificate-refused`, `client-certificate-unreadable`,
    `starttls-refused`, `greeting-timeout`, `not-imap`, `not-pop3`, `preauth`,
    `server-refused`, `plaintext-login-refused`, `login-refused`, `login-unavailable`,
    `mailbox-in-use`, `login-delay`, `login-method-missing`, `oauth-refused`, `connection-lost`,
    `read-timeout`, `protocol-error`.
    """
    opener = _OPENERS.get(connection.mode)
    try:
        if opener is None:
            return _open_graph(connection, login, read_timeout_s, allow_host, limiter or _HERE)
        try:
            return opener(connection, login, read_timeout_s, allow_host, False)
        except OAuthRefused:
            return opener(connection, login, read_timeout_s, allow_host, True)
    except StepFailed as error:
        understood = diagnosis.of_refusal(error, token=login.access_token is not None)
        if login.worked:
            understood = diagnosis.of_account_that_worked(understood)
        understood = diagnosis.for_application(understood) if not login.by_person else understood
        if understood is error:
            raise
        understood.transcript = error.transcript
        raise understood from error


#: For those who run without Postgres: the requests of this process.
_HERE = ProcessLimiter()


def _open_graph(
    connection: Connection,
    login: Login,
    read_timeout_s: float,
    allow_host: AllowHost | None,
    limiter: RequestLimiter,
) -> Mailbox:
    assert login.access_token is not None
    endpoint = login.endpoint or connection.endpoint
    seconds = connection.timeout_ms / 1000
    transcript = Transcript()
    graph = GraphHttp(
        endpoint,
        connection.mailbox,
        login.access_token,
        limiter=limiter,
        transcript=transcript,
        ca_certificate=login.ca_certificate or "",
        connect_timeout=seconds,
        read_timeout=read_timeout_s,
        reach=None if allow_host is None else lambda _: allow_host,
    )
    mailbox = GraphMailbox(graph, connection)
    try:
        mailbox.log_in()
    except BaseException:
        mailbox.close()
        raise
    return mailbox


def _open_imap(
    connection: Connection,
    login: Login,
    read_timeout_s: float,
    allow_host: AllowHost | None,
    renew: bool,
) -> Mailbox:
    attempt = _Attempt(connection, login, read_timeout_s, allow_host)
    try:
        stream = attempt.connect()
        session = ImapSession(stream)
        with attempt.greeting(stream):
            imap_login.read_greeting(session)
            if attempt.starts_plain:
                imap_login.start_tls(session, connection.endpoint[0])
                attempt.upgrade(stream)
        try:
            imap_login.log_in(session, connection, login, renew=renew)
        except SessionLost as error:
            raise session.lost(error) from error
        stream.rest()
    except BaseException as error:
        attempt.failed(error, "login")
        raise
    return ImapMailbox(session, connection)


def _open_pop3(
    connection: Connection,
    login: Login,
    read_timeout_s: float,
    allow_host: AllowHost | None,
    renew: bool,
) -> Mailbox:
    def log_in(renew_first: bool) -> Pop3Session:
        attempt = _Attempt(connection, login, read_timeout_s, allow_host)
        try:
            stream = attempt.connect()
            session = Pop3Session(stream)
            with attempt.greeting(stream):
                session.read_greeting()
                if attempt.starts_plain:
                    session.start_tls(connection.endpoint[0])
                    attempt.upgrade(stream)
            session.ask_capabilities()
            pop3_login.log_in(session, connection, login, renew=renew_first)
            stream.rest()
        except BaseException as error:
            attempt.failed(error, "login")
            raise
        return session

    return Pop3Mailbox(log_in(renew), lambda: log_in(False))


class _Attempt:
    """One attempt to connect: the socket so far, the time left, the log."""

    def __init__(
        self,
        connection: Connection,
        login: Login,
        read_timeout_s: float,
        allow_host: AllowHost | None,
    ) -> None:
        self.transcript = Transcript()
        self._connection = connection
        # A token goes over verified TLS only, to whom the credential trusts (`shared.clouds`).
        self._token = login.access_token is not None
        self._verify = connection.verify_certificate or self._token
        self._ca_certificate = login.ca_certificate
        if not self._token:
            self._ca_certificate = login.ca_certificate or connection.ca_certificate
        self._client_certificate = login.client_certificate
        self._host, self._port = login.endpoint or connection.endpoint
        self._read_timeout_s = read_timeout_s
        self._allow_host = allow_host
        self._deadline = Deadline(connection.timeout_ms / 1000)
        self._socket: socket.socket | None = None

    @property
    def security(self) -> TransportSecurity:
        """Fixed for the hosted providers; what the administrator chose for others."""
        own = self._connection.mode in (Mode.IMAP, Mode.POP3)
        chosen = self._connection.security if own else TransportSecurity.TLS
        if self._token and chosen is TransportSecurity.NONE:
            return TransportSecurity.TLS  # in plain text a token goes nowhere, whatever is stored
        return chosen

    @property
    def starts_plain(self) -> bool:
        return self.security is TransportSecurity.STARTTLS

    def connect(self) -> Stream:
        """A connected socket, with TLS where it starts with that."""
        addresses = resolve(self._host, self._port, self._deadline, self._allow_host)
        self._socket = connect_tcp(
            self._host, addresses, self._port, self._deadline, self.transcript
        )
        if self.security is TransportSecurity.TLS:
            self._handshake()
        return Stream(self._socket, self.transcript, self._read_timeout_s)

    def upgrade(self, stream: Stream) -> None:
        """TLS over a session that began in plain text."""
        self._handshake(agreed=True)
        assert self._socket is not None
        stream.socket = self._socket

    def _handshake(self, *, agreed: bool = False) -> None:
        assert self._socket is not None
        context = tls_context(self._verify, self._ca_certificate, self._client_certificate)
        self._socket = start_tls(
            self._socket,
            self._host,
            context,
            self._deadline,
            self.transcript,
            agreed=agreed,
            shown=bool(self._client_certificate),
        )

    @contextlib.contextmanager
    def greeting(self, stream: Stream) -> Iterator[None]:
        """What the server says first belongs to the connection attempt and its timeout."""
        stream.bound(self._deadline.left())
        try:
            yield
        except SessionLost as error:
            if isinstance(error.__cause__, ssl.SSLError):
                # TLS 1.3 says only now what it makes of our certificate (RFC 8446 section 4.4.2.4).
                given = bool(self._client_certificate)
                refused = client_certificate_refused(self._host, error.__cause__, given=given)
                if refused is not None:
                    raise refused from error
            if error.code != "read-timeout":
                error.step = error.step or "greeting"
                error.hint = error.hint or (
                    "The server ends the connection before it says a word. Many do so where more "
                    f"sessions are open than they allow. {TOO_MANY.hint}"
                )
                raise
            tls_first = self.security is not TransportSecurity.TLS
            raise Unreachable(
                f"{self._host} port {self._port} accepts connections but says nothing within "
                f"{self._deadline.seconds:g} s.",
                step="greeting",
                code="greeting-timeout",
                hint="Perhaps this port starts with TLS: choose TLS, or another port."
                if tls_first
                else "The server is overloaded, or this is not a mail server.",
            ) from error
        stream.bound(None)

    def failed(self, error: BaseException, step: str) -> None:
        """Leaves nothing open, and puts the protocol log into the error."""
        if self._socket is not None:
            self._socket.close()
        if isinstance(error, StepFailed):
            error.step = error.step or step
            error.transcript = self.transcript.lines


_Opener = Callable[[Connection, Login, float, AllowHost | None, bool], Mailbox]
#: One opener a mode; the last argument says whether to renew the access token first.
_OPENERS: dict[Mode, _Opener] = {
    Mode.IMAP: _open_imap,
    Mode.POP3: _open_pop3,
    Mode.GOOGLE_IMAP: _open_imap,
    Mode.MICROSOFT_IMAP: _open_imap,
}
