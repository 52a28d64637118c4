"""Opening a mailbox over IMAP."""

from __future__ import annotations

from shared.mailbox.base import Mailbox
from shared.mailbox.connection_attempt import ConnectionAttempt, SessionRequest
from shared.mailbox.failures import SessionLost
from shared.mailbox.imap.login import log_in, read_greeting, start_tls
from shared.mailbox.imap.mailbox import ImapMailbox
from shared.mailbox.imap.session import ImapSession


def open_session(request: SessionRequest) -> Mailbox:
    """Connects, and logs in over IMAP. Raises StepFailed."""
    connection, login = request.connection, request.login
    attempt = ConnectionAttempt(request)
    try:
        stream = attempt.connect()
        session = ImapSession(stream)
        with attempt.greeting(stream):
            read_greeting(session)
            if attempt.starts_plain:
                try:
                    start_tls(session, connection.endpoint[0])
                except SessionLost as error:
                    lost = session.lost(error)
                    lost.step = "tls"
                    raise lost from error
                attempt.upgrade(stream)
        try:
            log_in(session, connection, login, renew=request.renew)
        except SessionLost as error:
            raise session.lost(error) from error
        stream.shrink()
    except BaseException as error:
        attempt.failed(error, "login")
        raise
    return ImapMailbox(session, connection)
