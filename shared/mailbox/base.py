"""The border to mail servers: what every kind of mailbox offers to the rest of Posthouse.

One implementation a protocol (`imap`, `pop3`, `graph`, `in_memory`); nobody outside this package
speaks one. Of their words others know those of a key (UIDVALIDITY, UID, UIDL). Every method may
raise `TryAgain`, `NeedsPerson` or `MailFailure` from `shared.errors` (or a subclass below), with
the library's own error as the cause.

Looking changes nothing: only `settle` changes a mailbox.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Protocol, runtime_checkable

from shared.connections import AfterDownload, Selection
from shared.errors import PosthouseError
from shared.mail.fields import HEADER_LIMIT as HEADER_LIMIT  # what `headers` cuts at
from shared.messages import Key

#: Mails of a folder that are looked at together, at most: each costs some 200 octets of memory.
MOST_LOOKED_AT: Final = 1_000_000

#: What a folder looked like when everything in it had been handled; opaque JSON, kept in Postgres.
Cursor = Mapping[str, Any]


def is_another_folder(cursor: Cursor, now: Cursor) -> bool:
    """Whether the same UIDs may name other mails now, although UIDVALIDITY is what it was.

    Either a folder of another identity has the name (MAILBOXID, RFC 8474): re-created, or renamed;
    where the server tells identities, and told one before. Or its next UID went back, which a
    server never does (RFC 9051 section 2.3.1.1): it was restored from a backup, or is another
    server, and gives the numbers of mails that were had to new ones.
    """
    before, here = cursor.get("mailbox_id"), now.get("mailbox_id")
    if before is not None and here is not None and before != here:
        return True
    return 0 < int(now.get("uid_next") or 0) < int(cursor.get("uid_next") or 0)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder as people name it: decoded, `/` between levels."""

    name: str
    selectable: bool = True
    special_use: str | None = None  # RFC 6154 attribute without backslash: "Trash", "All"


@dataclass(frozen=True, slots=True)
class FolderStatus:
    """What opening a folder tells, without looking at a single mail."""

    folder: str
    total: int
    unread: int | None  # None: the protocol has no read flag
    uid_validity: int | None  # IMAP only (RFC 9051 section 2.3.1.1)
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class MailRef:
    """One mail on the server, before its octets are here.

    `size` is what the server claims, in octets: a hint for batching and for the size limit, never
    trusted. `arrived` is INTERNALDATE or receivedDateTime. `seen` is None without a read flag.
    """

    key: Key
    size: int
    arrived: datetime | None = None
    seen: bool | None = None
    #: What only some servers have: a POP3 message number (`number`), X-GM-MSGID (`gmail_id`, one
    #: mail under several labels; 64 bits, signed), the provider's `thread` (X-GM-THRID in decimal,
    #: conversationId) and `labels` (tuple; X-GM-LABELS, categories).
    detail: Mapping[str, Any] = field(default_factory=dict, compare=False)


class Known(Protocol):
    """What this connection already had from a folder (downloaded, skipped or quarantined)."""

    def missing(self, keys: Sequence[Key]) -> list[Key]:
        """Those of `keys` that are not known, in the order given. One query at most."""
        ...

    def count(self) -> int:
        """How many keys are known; for POP3 those the server listed last."""
        ...


class NothingKnown:
    """`Known` of a mailbox that Posthouse has never seen."""

    def missing(self, keys: Sequence[Key]) -> list[Key]:
        return list(keys)

    def count(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Listing:
    """What is new in the open folder.

    `new` is oldest first. `known` counts the mails looked at that this connection already had
    (with `count_known`: of the whole folder), `reset` those of them that are unread again (row
    M10). `cursor` is to be kept once every mail of `new` is handled: `changed_since(folder,
    cursor)` is then None until something changes (see `cursor_after` for what settling changes).
    `more` is how many new mails a `limit` left out: then `complete` is False and the cursor must
    not be kept.
    """

    new: tuple[MailRef, ...]
    known: int
    #: Keys of the mails that were had and are unread; empty without a read flag.
    reset_keys: Sequence[Key]
    total: int
    unread: int | None
    cursor: Cursor
    complete: bool = True
    more: int = 0
    #: Mails that may be new and whose date, which `since` asks for, cannot be had now: with the
    #: reason. They are not in `new`, and looked at again.
    undated: Sequence[tuple[MailRef, PosthouseError]] = ()
    #: Keys now listed by the server; None where the listing did not cover the whole folder.
    listed: Sequence[Key] | None = None
    #: Keys that say no more than where in the list a mail stands: they name others once one before
    #: them is gone. In the order of the list.
    by_place: Sequence[Key] = ()
    #: The reason where the folder counts mails that the server does not name: they may be new.
    not_listed: PosthouseError | None = None

    @property
    def reset(self) -> int:
        """How many mails that were had are unread."""
        return len(self.reset_keys)

    @property
    def new_count(self) -> int:
        """How many mails are new, with those that a slice left out."""
        return len(self.new) + self.more


class Sink(Protocol):
    """Takes mails as they stream in: begin, write…, end, one mail after the other.

    The order is the server's, not that of the request. Each mail asked for is either ended or
    abandoned exactly once, unless `download` raises. An error that a sink raises ends the session
    and comes out of `download` as it is.
    """

    def begin(self, ref: MailRef) -> None: ...

    def write(self, chunk: bytes | memoryview) -> None:
        """Takes the next octets. A memoryview is reused after the call: copy what you keep."""
        ...

    def end(self) -> None: ...

    def abandon(self, ref: MailRef, reason: PosthouseError) -> None:
        """This mail only could not be had; after `begin`, what was written of it is void.

        `reason` is a MailFailure with code `too-large`, a `MailRefused` (the server lists the
        mail and does not give it: its fault or the server's state), or a TryAgain with code
        `mail-vanished` (it is gone from the server, and the next listing lacks it) or
        `mail-not-asked` (others were refused one after another, so it was not tried).
        """
        ...


@dataclass(frozen=True, slots=True)
class Login:
    """What proves who we are: a password, or a way to get a fresh OAuth2 access token.

    `access_token(renew)` gives a bearer token for the mailbox's protocol; `renew=True` after the
    server refused the one it gave before. `endpoint` and `ca_certificate` (PEM) are where an OAuth2
    credential leads to, where that is elsewhere than the connection says (clouds, gateways).
    """

    username: str
    password: str | None = field(default=None, repr=False)
    access_token: Callable[[bool], str] | None = field(default=None, repr=False)
    endpoint: tuple[str, int] | None = None
    ca_certificate: str | None = None
    #: PEM, with its private key: shown in the TLS handshake, and logged in with (EXTERNAL, RFC 4422
    #: appendix A) where there is no password.
    client_certificate: str | None = field(default=None, repr=False)
    #: A person gave the grant and can give it again; False: the application acts for itself.
    by_person: bool = True
    #: This account logged in and was read before: a token that is refused now says little.
    worked: bool = False
    #: The client id by which the provider counts requests.
    application: str = ""
    #: The only way of giving the password that is to be tried, of those that the server offers:
    #: `LOGIN command`, `USER`, `APOP` or a SASL mechanism. Empty: the best one.
    mechanism: str = ""

    def with_fresh_token(self) -> Login:
        """The same, with an access token that is asked for now, not one that was kept."""
        given = self.access_token
        if given is None:
            return self

        def renewed(_: bool) -> str:
            given(False)
            return given(True)

        return replace(self, access_token=renewed)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the server can, as far as runs decide by it and people see it in a test."""

    read_flag: bool  # mails can be marked read
    folders: bool
    stable_keys: bool = True  # False: POP3 without UIDL, identity from header and size
    #: The key of a mail that is gone may be that of another one: the server gives it again
    #: (RFC 1939 section 7), or it is made of a header that several mails have.
    reuses_keys: bool = False
    exact_delete: bool = True  # False: deleting could touch others' mails, so it only flags
    push: bool = False
    #: An open session sees what arrives later. False for POP3: a session is a snapshot, so log in
    #: again for each poll, and do not keep the session (it locks the mailbox).
    keeps_open: bool = True
    #: Settling ends the session, and the end of a session settles. True for POP3: QUIT carries out
    #: deletions, and confirms to some servers what was retrieved. So one settling a session.
    settles_by_ending: bool = False
    #: Whether a mail's date can be had without the mail. False: POP3 without TOP.
    dates: bool = True
    #: Days that the server keeps a mail once it was retrieved (EXPIRE, RFC 2449 section 6.7): 0
    #: means that it goes with the end of the session. None: as long as nobody deletes it.
    expires_days: int | None = None
    #: The server lists only its oldest mails that were not retrieved yet (Gmail over POP3): newer
    #: ones show as those are taken.
    window: bool = False
    #: The server counted no mail and listed some (POP3: STAT and UIDL).
    miscounts: bool = False
    #: Seconds that the server wants between two logins (LOGIN-DELAY, RFC 2449 section 6.5).
    login_delay: float = 0.0
    names: tuple[str, ...] = ()  # the server's own words, for people


class Mailbox(Protocol):
    """An open, logged-in session. Not shared between threads."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def server(self) -> str:
        """What the server says of itself (greeting or ID), for people."""
        ...

    @property
    def transcript(self) -> Sequence[str]:
        """The last protocol lines (bounded), secrets removed, bodies left out."""
        ...

    def folders(self) -> list[Folder]:
        """Every folder of the mailbox; the inbox alone where the protocol has none."""
        ...

    def changed_since(self, folder: str, cursor: Cursor | None) -> FolderStatus | None:
        """None where nothing can have changed since `cursor`, found out as cheaply as possible."""
        ...

    def open(self, folder: str) -> FolderStatus:
        """Opens `folder` (empty: the inbox) for the methods below. Raises FolderMissing."""
        ...

    def list_new(
        self,
        known: Known,
        selection: Selection,
        *,
        since: datetime | None = None,
        limit: int | None = None,
        cursor: Cursor | None = None,
        count_known: bool = False,
    ) -> Listing:
        """What is new in the open folder. Changes nothing.

        `since`: only mails that arrived then or later. `limit`: at most so many in `new` (0: only
        counts, which costs no look at any mail). `cursor`: everything that it covers was handled,
        which spares looking there again with `Selection.ALL`. `count_known`: count the known mails
        of the whole folder, for people.

        With `Selection.UNREAD` a mail that somebody read or flagged deleted is left alone; `ALL`
        takes every mail.
        """
        ...

    def keys(self) -> Sequence[Key]:
        """Every key that the open folder lists now, cheaply. Changes nothing."""
        ...

    def cursor_after(
        self, cursor: Cursor, settled: Sequence[MailRef], action: AfterDownload
    ) -> Cursor:
        """What `cursor` (of a listing) becomes once these mails of it were settled.

        Without this the next poll takes our own flags for a change, and lists for nothing.
        """
        ...

    def headers(self, refs: Sequence[MailRef]) -> Iterator[tuple[MailRef, bytes]]:
        """The header block of each mail that still exists, octet for octet. Changes nothing.

        With the empty line that ends it; cut at `HEADER_LIMIT` octets.
        """
        ...

    def download(self, refs: Sequence[MailRef], sink: Sink, *, limit: int) -> None:
        """Streams each mail into `sink`, octet for octet, in bounded memory. Changes nothing.

        A mail that turns out longer than `limit` octets is abandoned with `MailFailure`, one that
        the server does not give with `MailRefused`: the session is in step then and goes on. When
        the session breaks, `SessionLost` is raised and a mail that was begun and not ended is
        void. Claimed sizes over `limit` are not even asked for.
        """
        ...

    def settle(self, refs: Sequence[MailRef], action: AfterDownload) -> list[MailRef]:
        """Marks read or deletes exactly these mails; returns those now settled for certain.

        A mail that is gone already counts as settled. Idempotent. Whoever calls it says that these
        mails are durable and committed here: a POP3 session that retrieved any other mail ends
        without QUIT, whatever happens. On POP3 this ends the session with QUIT, as only that
        deletes (RFC 1939 section 6); the next call logs in again.
        """
        ...

    def leave(self) -> None:
        """Ends the work in the open folder, where `settle` changed something in it.

        Some servers write changed flags only when the folder is left: until then everybody else
        sees the mails as unread. The session goes on.
        """
        ...

    def is_alive(self) -> bool:
        """Whether a kept-open session still answers, in one cheap round trip."""
        ...

    def close(self) -> None:
        """Ends the session politely where it still answers. Never raises, never expunges.

        Over POP3 a polite end confirms what was retrieved: it is said only where all of that was
        given to `settle`, else the connection is closed without a word.
        """
        ...


@runtime_checkable
class Pollable(Protocol):
    """`changed_since` in two halves, for one thread with many kept-open sessions (IMAP has it).

    Write to all of them first, then read from each: fifty polls cost one round trip. Between the
    halves no other method may be called. Whether a mailbox has it: `isinstance(mailbox, Pollable)`.
    """

    def poll_send(self, folder: str, cursor: Cursor | None) -> None:
        """Asks, and does not wait for the answer."""
        ...

    def poll_receive(self, *, within: float | None = None) -> FolderStatus | None:
        """The answer, as `changed_since` gives it; `within` seconds, or the session is lost."""
        ...


@runtime_checkable
class AskingAhead(Protocol):
    """A mailbox that can be told what comes next: it asks for what that needs, and nobody waits for
    the answer (IMAP has it). Something else may come all the same."""

    def listing_is_next(
        self, selection: Selection, since: datetime | None, cursor: Cursor, *, count_known: bool
    ) -> None:
        """`open`, and then `list_new` with these: what that asks goes out with `open`."""
        ...

    def settling_is_next(self) -> None:
        """`settle`, of mails that are durable and committed here."""
        ...

    def waiting_is_next(self, folder: str) -> None:
        """`wait_for_push` in this folder; the one that is open is left (`leave`)."""
        ...
