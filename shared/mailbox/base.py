"""The border to mail servers: what every kind of mailbox offers to the rest of Posthouse.

One implementation a protocol (`imap`, `pop3`, `graph`, `memory`); nobody outside this package
knows a protocol word. Every method may raise `TryAgain`, `NeedsPerson` or `MailFailure` from
`shared.errors` (or a subclass below), with the library's own error as the cause.

Looking changes nothing: only `settle` changes a mailbox.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from shared.connections import AfterDownload, Selection
from shared.errors import NeedsPerson, PosthouseError
from shared.messages import Key

#: What a folder looked like when everything in it had been handled; opaque JSON, kept in Postgres.
Cursor = Mapping[str, Any]


class StepFailed(PosthouseError):
    """Mixed into errors of opening a mailbox: `step` says where it stopped.

    One of `dns`, `tcp`, `tls`, `greeting`, `login`, `authorisation`, `folder`, `list`, `download`,
    `settle`.
    """

    step: str = ""


class FolderMissing(NeedsPerson):
    """The configured folder does not exist; `near` holds names that look like it."""

    code = "folder-missing"

    def __init__(self, folder: str, near: Sequence[str] = ()) -> None:
        hint = f"Did you mean {', '.join(map(repr, near))}?" if near else "Pick one from the list."
        super().__init__(f"The folder {folder!r} does not exist in this mailbox.", hint=hint)
        self.near = tuple(near)


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
    """One mail on the server, before its bytes are here.

    `size` is what the server claims, in octets: a hint for batching and for the size limit, never
    trusted. `arrived` is INTERNALDATE or receivedDateTime. `seen` is None without a read flag.
    """

    key: Key
    size: int
    arrived: datetime | None = None
    seen: bool | None = None
    #: What only this implementation reads (a POP3 message number, X-GM-MSGID).
    detail: Mapping[str, Any] = field(default_factory=dict)


class Known(Protocol):
    """What this connection already had from a folder (downloaded, skipped or quarantined)."""

    def missing(self, keys: Sequence[Key]) -> list[Key]:
        """Those of `keys` that are not known, in the order given. One query at most."""
        ...

    def count(self) -> int:
        """How many keys are known; for POP3 those the server listed last."""
        ...


@dataclass(frozen=True, slots=True)
class Listing:
    """What is new in the open folder.

    `new` is oldest first. `reset` counts mails that are known and yet unread again (row M10).
    `cursor` is to be kept once every mail of `new` is handled: `changed_since(folder, cursor)` is
    then None until something changes. `complete` is False where the listing stopped early (a
    slice of a huge mailbox): then there is more, and the cursor must not be kept.
    """

    new: tuple[MailRef, ...]
    known: int
    reset: int
    total: int
    unread: int | None
    cursor: Cursor
    complete: bool = True
    #: Keys now listed by the server; None where the listing did not cover the whole folder.
    listed: Sequence[Key] | None = None


class Sink(Protocol):
    """Takes mails as they stream in: begin, write…, end, one mail after the other."""

    def begin(self, ref: MailRef) -> None: ...

    def write(self, chunk: bytes | memoryview) -> None: ...

    def end(self) -> None: ...

    def abandon(self, ref: MailRef, reason: PosthouseError) -> None:
        """This mail only could not be had (vanished, refused, over the limit)."""
        ...


@dataclass(frozen=True, slots=True)
class Login:
    """What proves who we are: a password, or a way to get a fresh OAuth2 access token.

    `access_token(renew)` gives a bearer token for the mailbox's protocol; `renew=True` after the
    server refused the one it gave before.
    """

    username: str
    password: str | None = field(default=None, repr=False)
    access_token: Callable[[bool], str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the server can, as far as it matters to somebody who looks at a test result."""

    read_flag: bool  # mails can be marked read
    folders: bool
    stable_keys: bool = True  # False: POP3 without UIDL, identity from header and size
    exact_delete: bool = True  # False: deleting could touch others' mails, so it only flags
    push: bool = False
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
    ) -> Listing:
        """What is new in the open folder: the oldest `limit` mails of it. Changes nothing.

        Mails that arrived before `since` are left out (INTERNALDATE; POP3: the Date field).
        """
        ...

    def keys(self) -> Sequence[Key]:
        """Every key that the open folder lists now, cheaply. Changes nothing."""
        ...

    def headers(self, refs: Sequence[MailRef]) -> Iterator[tuple[MailRef, bytes]]:
        """The header block of each mail that still exists, octet for octet. Changes nothing."""
        ...

    def download(self, refs: Sequence[MailRef], sink: Sink, *, limit: int) -> None:
        """Streams each mail into `sink`, octet for octet, in bounded memory. Changes nothing.

        A mail that turns out longer than `limit` octets is abandoned with `MailFailure`, as is one
        that the server cannot give; when the session breaks, `TryAgain` is raised and a mail that
        was begun and not ended is void.
        """
        ...

    def settle(self, refs: Sequence[MailRef], action: AfterDownload) -> list[MailRef]:
        """Marks read or deletes exactly these mails; returns those now settled for certain.

        A mail that is gone already counts as settled. Idempotent. On POP3 this ends the session
        with QUIT, as only that deletes (RFC 1939 section 6); the next call logs in again.
        """
        ...

    def is_alive(self) -> bool:
        """Whether a kept-open session still answers, in one cheap round trip."""
        ...

    def close(self) -> None:
        """Ends the session politely where it still answers. Never raises, never expunges."""
        ...
