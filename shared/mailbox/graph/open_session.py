"""Opening a mailbox over Microsoft Graph."""

from __future__ import annotations

from shared.mailbox.base import Mailbox
from shared.mailbox.connection_attempt import SessionRequest
from shared.mailbox.graph.http import GraphHttp
from shared.mailbox.graph.mailbox import GraphMailbox
from shared.mailbox.net.transcript import Transcript


def open_session(request: SessionRequest) -> Mailbox:
    """Asks for the mailbox over HTTPS. Raises StepFailed."""
    connection, login, allow_host = request.connection, request.login, request.allow_host
    assert login.access_token is not None
    endpoint = login.endpoint or connection.endpoint
    seconds = connection.timeout_ms / 1000
    transcript = Transcript()
    graph = GraphHttp(
        endpoint,
        connection.mailbox,
        login.access_token,
        limiter=request.limiter,
        transcript=transcript,
        application=login.application,
        ca_certificate=login.ca_certificate or "",
        connect_timeout=seconds,
        read_timeout=request.read_timeout_s,
        reach=None if allow_host is None else lambda _: allow_host,
    )
    mailbox = GraphMailbox(graph, connection)
    try:
        mailbox.log_in()
    except BaseException:
        mailbox.close()
        raise
    return mailbox
