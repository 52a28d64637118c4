"""Opening a mailbox, step by step, so that a failure says exactly where it stopped and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from shared.connections import Connection
from shared.mailbox.base import Login, Mailbox
from shared.mailbox.connection_attempt import SessionRequest
from shared.mailbox.errors import server_answers
from shared.mailbox.failures import OAuthRefused, StepFailed
from shared.mailbox.graph import open_session as graph
from shared.mailbox.imap import open_session as imap
from shared.mailbox.net.connect import AllowHost
from shared.mailbox.net.request_limits import ProcessLimiter, RequestLimiter
from shared.mailbox.pop3 import open_session as pop3

READ_TIMEOUT_S = 60.0
#: By the `protocol` of a kind (`shared.kinds`). Each raises StepFailed.
OPENERS: Final[Mapping[str, Callable[[SessionRequest], Mailbox]]] = {
    "imap": imap.open_session,
    "pop3": pop3.open_session,
    "graph": graph.open_session,
}
#: For those who run without Postgres: the requests of this process.
_HERE: Final = ProcessLimiter()


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
    Refused (needs a person), or `diagnoses.LoginNeeded`. The usual refusals of providers have the
    codes of `shared.mailbox.errors`; the others: `unknown-host`, `dns-failed`,
    `dns-timeout`, `host-forbidden`, `connect-timeout`, `connection-refused`, `unreachable`,
    `tls-failed`, `certificate-expired`, `certificate-untrusted`, `certificate-wrong-host`,
    `ca-unreadable`, `client-certificate-refused`, `client-certificate-unreadable`,
    `starttls-refused`, `starttls-unavailable`, `greeting-timeout`, `not-imap`, `not-pop3`,
    `preauth`, `server-refused`, `plaintext-login-refused`, `login-refused`, `login-unavailable`,
    `mailbox-in-use`, `login-delay`, `login-method-missing`, `oauth-refused`, `connection-lost`,
    `read-timeout`, `protocol-error`, `too-slow`.
    """
    open_session = OPENERS[connection.kind.protocol]
    request = SessionRequest(connection, login, read_timeout_s, allow_host, limiter or _HERE)
    try:
        try:
            return open_session(request)
        except OAuthRefused:
            return open_session(replace(request, renew=True))
    except StepFailed as error:
        understood = server_answers.of_refusal(error, token=login.access_token is not None)
        if login.worked:
            understood = server_answers.of_account_that_worked(understood)
        if not login.by_person:
            understood = server_answers.for_application(understood)
        if understood is error:
            raise
        understood.transcript = error.transcript
        raise understood from error
