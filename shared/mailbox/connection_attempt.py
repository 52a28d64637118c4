"""One attempt to connect to a mail server, step by step: names, TCP, TLS, its first words."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from shared.connections import Connection, TransportSecurity
from shared.mailbox import wait_budget
from shared.mailbox.base import Login
from shared.mailbox.errors.diagnoses import TOO_MANY
from shared.mailbox.failures import SessionLost, StepFailed, Unreachable
from shared.mailbox.net.connect import AllowHost, Deadline, connect_tcp, resolve
from shared.mailbox.net.pipelining import Pipelining
from shared.mailbox.net.request_limits import RequestLimiter
from shared.mailbox.net.stream import Stream
from shared.mailbox.net.tls import client_certificate_refused, start_tls, tls_context
from shared.mailbox.net.transcript import Transcript
from shared.mailbox.wait_budget import ServerTooSlow


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """What the opener of a kind gets.

    `renew` says to ask for an access token anew first. `limiter` bounds the requests at one mailbox
    over all replicas, where a kind makes single requests.
    """

    connection: Connection
    login: Login
    read_timeout_s: float
    allow_host: AllowHost | None
    limiter: RequestLimiter
    renew: bool = False


class ConnectionAttempt:
    """One attempt to connect: the socket so far, the time left, the log."""

    def __init__(self, request: SessionRequest) -> None:
        connection, login = request.connection, request.login
        self.transcript = Transcript()
        self._connection = connection
        # A token goes over verified TLS only, to whom the credential trusts
        # (`shared.microsoft_clouds`).
        self._token = login.access_token is not None
        self._verify = connection.verify_certificate or self._token
        self._ca_certificate = login.ca_certificate
        if not self._token:
            self._ca_certificate = login.ca_certificate or connection.ca_certificate
        self._client_certificate = login.client_certificate
        self._host, self._port = login.endpoint or connection.endpoint
        self._read_timeout_s = request.read_timeout_s
        self._allow_host = request.allow_host
        seconds = connection.timeout_ms / 1000
        #: Pays for the attempt. Where it has less left than the connection's time-out, it ends it.
        self._work = wait_budget.current()
        left = seconds if self._work is None else max(self._work.left, 0.0)
        self._cut_short = left < 0.9 * seconds
        self._deadline = Deadline(left if self._cut_short else seconds)
        self._socket: socket.socket | None = None

    @property
    def security(self) -> TransportSecurity:
        """Fixed for the hosted providers; what the administrator chose for others."""
        own = self._connection.kind.has_server
        chosen = self._connection.security if own else TransportSecurity.TLS
        if self._token and chosen is TransportSecurity.NONE:
            return TransportSecurity.TLS  # in plain text a token goes nowhere, whatever is stored
        return chosen

    @property
    def starts_plain(self) -> bool:
        return self.security is TransportSecurity.STARTTLS

    def connect(self) -> Stream:
        """A connected socket, with TLS where it starts with that: where TLS fails at one of several
        addresses, with the next one. Raises what failed first."""
        with self._waiting():
            left = resolve(self._host, self._port, self._deadline, self._allow_host)
        failure: StepFailed | None = None
        while True:
            try:
                with self._waiting():
                    self._socket, address = connect_tcp(
                        self._host, left, self._port, self._deadline, self.transcript
                    )
                if self.security is TransportSecurity.TLS:
                    self._handshake()
                server = Pipelining((self._host, self._port))
                return Stream(self._socket, self.transcript, self._read_timeout_s, server)
            except StepFailed as error:
                failure = failure or error
                left = [one for one in left if one != address] if error.step == "tls" else []
                if not left or self._deadline.expired():
                    raise failure from failure.__cause__
                assert self._socket is not None
                self._socket.close()
                self.transcript.note(f"no TLS at {address}: {error}")

    def upgrade(self, stream: Stream) -> None:
        """TLS over a session that began in plain text."""
        self._handshake(agreed=True)
        assert self._socket is not None
        stream.socket = self._socket

    def _handshake(self, *, agreed: bool = False) -> None:
        assert self._socket is not None
        context = tls_context(self._verify, self._ca_certificate, self._client_certificate)
        with self._waiting():
            self._socket = start_tls(
                self._socket,
                self._host,
                context,
                self._deadline,
                self.transcript,
                agreed=agreed,
                shown=bool(self._client_certificate),
            )

    def _waiting(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._work is None else self._work.waiting()

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
        """Leaves nothing open, and puts the protocol log into the error.

        Raises ServerTooSlow in its place where the budget of the work ended the attempt.
        """
        if self._socket is not None:
            self._socket.close()
        if self._work is not None and self._cut_short and self._deadline.expired():
            late = ServerTooSlow(self._work.seconds)
            late.step = getattr(error, "step", "") or step
            late.transcript = self.transcript.lines
            raise late from error
        if isinstance(error, StepFailed):
            error.step = error.step or step
            error.transcript = self.transcript.lines
