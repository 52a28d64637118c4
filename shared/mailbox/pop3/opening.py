"""Opening a mailbox over POP3."""

from __future__ import annotations

from shared.mailbox.base import Mailbox
from shared.mailbox.connection_attempt import ConnectionAttempt, Opening
from shared.mailbox.pop3 import login as pop3_login
from shared.mailbox.pop3.mailbox import Pop3Mailbox
from shared.mailbox.pop3.session import Pop3Session


def open_session(opening: Opening) -> Mailbox:
    """Connects, and logs in over POP3, again where a session ended. Raises StepFailed."""
    connection, login = opening.connection, opening.login

    def log_in(renew_first: bool) -> Pop3Session:
        attempt = ConnectionAttempt(opening)
        try:
            stream = attempt.connect()
            session = Pop3Session(stream)
            with attempt.greeting(stream):
                session.read_greeting()
                if attempt.starts_plain:
                    session.start_tls(connection.endpoint[0])
                    attempt.upgrade(stream)
            session.read_capabilities()
            pop3_login.log_in(session, connection, login, renew=renew_first)
            stream.shrink()
        except BaseException as error:
            attempt.failed(error, "login")
            raise
        return session

    return Pop3Mailbox(log_in(opening.renew), lambda: log_in(False))
