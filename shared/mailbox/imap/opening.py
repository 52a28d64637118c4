"""Opening a mailbox over IMAP."""

from __future__ import annotations

from shared.mailbox.base import Mailbox
from shared.mailbox.connection_attempt import ConnectionAttempt, Opening
from shared.mailbox.failures import SessionLost
from shared.mailbox.imap.login import log_in, read_greeting, start_tls
from shared.mailbox.imap.mailbox import ImapMailbox
from shared.mailbox.imap.session import ImapSession


def open_session(opening: Opening) -> Mailbox:
    """Connects, and logs in over IMAP. Raises StepFailed."""
    connection, login = opening.connection, opening.login
    attempt = ConnectionAttempt(opening)
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
            log_in(session, connection, login, renew=opening.renew)
        except SessionLost as error:
            raise session.lost(error) from error
        stream.shrink()
    except BaseException as error:
        attempt.failed(error, "login")
        raise
    return ImapMailbox(session, connection)
