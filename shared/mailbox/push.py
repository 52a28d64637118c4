"""What a mailbox offers whose server announces new mails (push)."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from shared.mail.fields import HEADER_LIMIT as HEADER_LIMIT  # what `headers` cuts at
from shared.mailbox.base import Cursor
from shared.mailbox.failures import SessionLost


class PushWait(Protocol):
    """A wait for what the server tells by itself, on a session whose folder is open.

    One thread has many of them: nothing but `release` may block. Until `release` the mailbox has no
    other use. Each method may raise SessionLost, or Refused where the server does not push.
    """

    #: Whether the folder changed between the cursor and the beginning.
    changed: bool
    #: When the state changed last (time.monotonic).
    since: float

    def fileno(self) -> int:
        """Readable when the server told something."""
        ...

    @property
    def awaits_answer(self) -> bool:
        """Whether the server has to answer first; else it waits with us."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the wait is over, confirmed by the server: `begin` again, or `release`."""
        ...

    @property
    def broken(self) -> bool:
        """Whether the session is of no more use."""
        ...

    def begin(self) -> None:
        """Asks the server to tell."""
        ...

    def read(self) -> bool:
        """Takes what came; True where it tells of a mail that is new, or unread again."""
        ...

    def end(self) -> None:
        """Asks the server to end the wait; `ended` once it has."""
        ...

    def release(self) -> None:
        """Makes the session usable for the mailbox's other methods."""
        ...

    def abort(self) -> None:
        """Closes the session without a word."""
        ...

    def lost(self, error: SessionLost) -> SessionLost:
        """The same error with the server's last words and the transcript."""
        ...


@runtime_checkable
class Pushing(Protocol):
    """A mailbox whose server may tell of new mails (IMAP has it); `capabilities.push` says whether
    this one does."""

    def wait_for_push(self, folder: str, cursor: Cursor | None) -> PushWait:
        """Opens the folder, which blocks for a round trip, and prepares the wait. Raises what
        `open` raises."""
        ...
