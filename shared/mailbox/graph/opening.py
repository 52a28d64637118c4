"""Opening a mailbox over Microsoft Graph."""

from __future__ import annotations

from shared.mailbox.base import Mailbox
from shared.mailbox.connection_attempt import Opening
from shared.mailbox.graph.http import GraphHttp
from shared.mailbox.graph.mailbox import GraphMailbox
from shared.mailbox.net.transcript import Transcript


def open_session(opening: Opening) -> Mailbox:
    """Asks for the mailbox over HTTPS. Raises StepFailed."""
    connection, login, allow_host = opening.connection, opening.login, opening.allow_host
    assert login.access_token is not None
    endpoint = login.endpoint or connection.endpoint
    seconds = connection.timeout_ms / 1000
    transcript = Transcript()
    graph = GraphHttp(
        endpoint,
        connection.mailbox,
        login.access_token,
        limiter=opening.limiter,
        transcript=transcript,
        application=login.application,
        ca_certificate=login.ca_certificate or "",
        connect_timeout=seconds,
        read_timeout=opening.read_timeout_s,
        reach=None if allow_host is None else lambda _: allow_host,
    )
    mailbox = GraphMailbox(graph, connection)
    try:
        mailbox.log_in()
    except BaseException:
        mailbox.close()
        raise
    return mailbox
