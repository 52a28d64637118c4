"""Opening a mailbox over POP3."""

from __future__ import annotations

from shared.mailbox.base import Mailbox
from shared.mailbox.connection_attempt import ConnectionAttempt, SessionRequest
from shared.mailbox.failures import SessionLost
from shared.mailbox.pop3 import capa_breaks
from shared.mailbox.pop3 import login as pop3_login
from shared.mailbox.pop3.mailbox import Pop3Mailbox
from shared.mailbox.pop3.session import Pop3Session


def open_session(request: SessionRequest) -> Mailbox:
    """Connects, and logs in over POP3, again where a session ended. Raises StepFailed."""
    connection, login = request.connection, request.login
    breaks = capa_breaks.of_server(login.endpoint or connection.endpoint)

    def log_in(renew_first: bool) -> Pop3Session:
        asks = breaks.is_asked
        try:
            return log_in_once(renew_first, asks)
        except SessionLost:
            if not asks or breaks.is_asked:
                raise
        return log_in_once(renew_first, False)

    def log_in_once(renew_first: bool, asks_capabilities: bool) -> Pop3Session:
        attempt = ConnectionAttempt(request)
        try:
            stream = attempt.connect()
            session = Pop3Session(stream)
            with attempt.greeting(stream):
                session.read_greeting()
                if attempt.starts_plain:
                    session.start_tls(connection.endpoint[0])
                    attempt.upgrade(stream)
            if asks_capabilities:
                read_capabilities(session)
            else:
                session.unasked = True
                stream.transcript.note("CAPA is left out: sessions of this server ended at it")
            pop3_login.log_in(session, connection, login, renew=renew_first)
            stream.shrink()
        except BaseException as error:
            attempt.failed(error, "login")
            raise
        return session

    def read_capabilities(session: Pop3Session) -> None:
        try:
            session.read_capabilities()
        except SessionLost:
            if not session.answered_capa:
                breaks.broke(connection.id)
            raise
        finally:
            if session.answered_capa:
                breaks.answered()

    return Pop3Mailbox(log_in(request.renew), lambda: log_in(False))
