"""What somebody should know before they rely on a connection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.admin.context import Context
from shared.connections import AfterDownload, Connection, TransportSecurity
from shared.mailbox.base import Capabilities
from shared.mailbox.errors.diagnoses import MORE_SESSIONS
from shared.quantities import counted
from shared.storage import (
    authorisations,
    connections,
    handlers,
    overview,
    scheduling,
    session_shares,
    settlements,
)
from shared.storage.pool import Session

_WINDOW = (
    "Over POP3 this server lists only its oldest mails that no program has retrieved yet (Gmail: "
    "some 250), and lets go of each as soon as it was fetched. So fetching starts from everything, "
    "and no other program should read the mailbox with POP. What becomes of a fetched mail there "
    "is set in Gmail's POP settings. The mode google-imap has none of these limits."
)


@dataclass(frozen=True, slots=True)
class ConnectionWarning:
    """`serious` ones are shown in red. `code` is stable for programs."""

    code: str
    text: str
    serious: bool = False


def warnings_of(ctx: Context, connection: Connection) -> list[ConnectionWarning]:
    """The warnings of a connection, saved or not; the serious ones first."""
    with ctx.transaction() as session:
        return warnings_for(session, connection, ctx.principal.tags)


def warnings_for(
    session: Session, connection: Connection, part: Sequence[str] = ()
) -> list[ConnectionWarning]:
    """The same in the caller's transaction. With `part`, others are named that have one of these
    tags."""
    found = [
        *_on_the_way(connection),
        *_after_download(connection),
        *_authorisation(session, connection),
        *_read_receipts(connection),
        *_push(session, connection),
        *_others(session, connection, part),
        *_sessions(session, connection),
        *_flagged(session, connection),
        *_encrypted(session, connection),
        *_handlers(session, connection),
    ]
    return sorted(found, key=lambda warning: not warning.serious)


def _on_the_way(connection: Connection) -> Iterator[ConnectionWarning]:
    if connection.security is TransportSecurity.NONE:
        yield ConnectionWarning(
            "plain-text",
            "Password and mails travel unencrypted: anyone on the way can read them.",
            serious=True,
        )
    elif not connection.verify_certificate:
        yield ConnectionWarning(
            "not-verified",
            "The server's certificate is not verified: somebody on the way can read along "
            "and take the password.",
            serious=True,
        )


def _after_download(connection: Connection) -> Iterator[ConnectionWarning]:
    kind = connection.kind
    if connection.host.lower() in kind.window_hosts:
        yield ConnectionWarning("pop3-window", _WINDOW)
    elif not kind.marks_read and connection.after_download is AfterDownload.MARK_READ:
        yield ConnectionWarning(
            "pop3-keeps",
            f"{kind.title} cannot mark mails read: they stay on the server as they are, and "
            "only Posthouse knows which ones it has had. Another program sees all of them as "
            "new.",
        )


def _authorisation(session: Session, connection: Connection) -> Iterator[ConnectionWarning]:
    authorised = authorisations.status(session, connection.id)
    if authorised is not None and authorised.grant_ends_at is not None and authorised.valid:
        yield ConnectionWarning(
            "grant-ends",
            "The provider ends this authorisation on "
            f"{authorised.grant_ends_at:%-d %B %Y, %H:%M} UTC, whatever is done with it. At "
            'Google that is so for applications in the state "Testing": publish the '
            "application (Google Auth Platform, Audience), then authorise again.",
            serious=True,
        )


def _read_receipts(connection: Connection) -> Iterator[ConnectionWarning]:
    if connection.kind.sends_receipts and connection.after_download is AfterDownload.MARK_READ:
        yield ConnectionWarning(
            "read-receipts",
            "Where a sender asked for a read receipt, Exchange may send one when Posthouse "
            "marks the mail read: Graph has no way to hold it back. An administrator may "
            "try Set-MailboxMessageConfiguration -ReadReceiptResponse NeverSend (unverified).",
        )


def _push(session: Session, connection: Connection) -> Iterator[ConnectionWarning]:
    if connection.push and connection.id and scheduling.is_push_silent(session, connection.id):
        yield ConnectionWarning(
            "push-silent",
            "The server took the request to tell of new mails (IDLE) and never told of those "
            "that polls found: new mails come with the interval "
            f"({connection.interval_minutes} min). Make it short, or ask those who run the "
            "server; behind some proxies and network file systems nothing is told.",
        )


def _others(
    session: Session, connection: Connection, part: Sequence[str]
) -> Iterator[ConnectionWarning]:
    others = connections.of_folder(session, connection)
    if others:
        named = [one for one in others if not part or {*part} & {*one.tags}]
        names = ", ".join(repr(one.name) for one in named[:3]) or "Another connection"
        yield ConnectionWarning(
            "same-mailbox",
            f"{names} reads the same folder of the same mailbox: each mail is delivered for "
            "both, and what one marks read or deletes the other may never see.",
        )


def _sessions(session: Session, connection: Connection) -> Iterator[ConnectionWarning]:
    for destination in connection.session_destinations():
        sessions = session_shares.known_limit(session, destination)
        if sessions is not None:
            yield ConnectionWarning(
                "few-sessions",
                f"{destination} took no more than {counted(sessions, 'session')} of ours at a time "
                "within the last hour, and closed or refused the others. All its connections "
                "are served in turn, each with a login of its own. To have it quicker, "
                f"{MORE_SESSIONS}.",
            )


def _flagged(session: Session, connection: Connection) -> Iterator[ConnectionWarning]:
    flagged = settlements.count_flagged(session, connection.id)
    if flagged:
        yield ConnectionWarning(
            "only-flagged",
            f"{counted(flagged, 'mail is', 'mails are')} flagged deleted and still in the "
            "folder: this server cannot remove single mails (it has no UIDPLUS), and somebody "
            "else's mails are flagged deleted there, which Posthouse never removes. What "
            "Posthouse flagged goes by itself once those are expunged or no longer flagged.",
        )


def _encrypted(session: Session, connection: Connection) -> Iterator[ConnectionWarning]:
    count = overview.undecrypted(session, connection.id) if connection.id else 0
    if count:
        yield ConnectionWarning(
            "stays-encrypted",
            f"{counted(count, 'mail')} of the last day stayed encrypted, and handlers got "
            f"{'it' if count == 1 else 'them'} so. Each mail's page says why, and for whom it "
            "is encrypted: attach that certificate, then deliver the mails again.",
        )


def _handlers(session: Session, connection: Connection) -> Iterator[ConnectionWarning]:
    # An unsaved connection has id 0: only handlers that take all connections take it.
    if not handlers.taking(session, connection.id):
        yield ConnectionWarning(
            "unused",
            "No enabled handler takes this connection: nothing is downloaded until one does.",
        )


def together(
    said: Sequence[ConnectionWarning], known: Sequence[ConnectionWarning]
) -> list[ConnectionWarning]:
    """What a server said, and what is known without it: mails that the server deletes do not stay
    there as they are."""
    deletes = any(one.code == "server-deletes" for one in said)
    return [*said, *(one for one in known if not (deletes and one.code == "pop3-keeps"))]


def of_server(connection: Connection, capabilities: Capabilities) -> list[ConnectionWarning]:
    """What the server itself said that somebody should know; the serious ones first."""
    found = []
    stays = connection.after_download is AfterDownload.MARK_READ
    days = capabilities.expires_days
    if capabilities.window:
        if connection.host.lower() not in connection.kind.window_hosts:
            found.append(ConnectionWarning("pop3-window", _WINDOW))
    elif days == 0:
        found.append(
            ConnectionWarning(
                "server-deletes",
                "This server deletes every mail that was fetched (it says EXPIRE 0), also where "
                "nothing is to be deleted here. Posthouse confirms a mail only when it is safe; "
                "another program that reads this mailbox gets what is left.",
                serious=stays,
            )
        )
    elif days is not None and stays:
        found.append(
            ConnectionWarning(
                "server-expires",
                f"This server deletes mails by itself (it says EXPIRE {days}): they stay for "
                f"{counted(days, 'day')} at most.",
            )
        )
    if not capabilities.dates:
        found.append(
            ConnectionWarning(
                "no-dates",
                "This server does not tell when its mails arrived (it has no TOP): fetching cannot "
                "start from a date.",
            )
        )
    if capabilities.miscounts:
        found.append(
            ConnectionWarning(
                "miscounts",
                "This server says that there are no mails (STAT) and lists some (UIDL). They are "
                "fetched all the same; each poll asks for the list.",
            )
        )
    if capabilities.login_delay:
        found.append(
            ConnectionWarning(
                "login-delay",
                f"This server wants {capabilities.login_delay:g} seconds between two logins; "
                "fetching waits for them, whatever the interval. Other programs that read the "
                "mailbox count as well.",
            )
        )
    return sorted(found, key=lambda warning: not warning.serious)
