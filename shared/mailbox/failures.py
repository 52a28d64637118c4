"""Errors of a mailbox: at which step it failed, and what was said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared.errors import MailFailure, NeedsPerson, PosthouseError, TryAgain
from shared.mail.fields import HEADER_LIMIT as HEADER_LIMIT  # what `headers` cuts at


class StepFailed(PosthouseError):
    """Mixed into errors of a mailbox: `step` says where it stopped, `transcript` what was said.

    The step is one of `dns`, `tcp`, `tls`, `greeting`, `login`, `authorisation`, `folder`,
    `list`, `download`, `settle`; empty where the session broke between two steps.
    """

    step: str = ""
    transcript: Sequence[str] = ()


class Unreachable(StepFailed, TryAgain):
    """The server cannot be talked to at the moment; whatever the step."""

    code = "unreachable"

    def __init__(
        self,
        message: str,
        *,
        step: str = "",
        hint: str = "",
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code, retry_after=retry_after)
        self.step = step


class SessionLost(Unreachable):
    """The session broke (hang-up, silence, nonsense): it must be closed, a new one may work.

    `by_server`: the server ended it itself, with its words (BYE) or with nonsense. Otherwise it may
    as well have been the network between here and there. `throttled`, `passing`: those words are
    about the server, whatever was asked for, or say that this passes.
    """

    code = "connection-lost"

    def __init__(
        self,
        message: str,
        *,
        step: str = "",
        hint: str = "It is tried again by itself. If it stays: the server may limit connections, "
        "or something between here and there ends them; the protocol log shows the last words.",
        code: str | None = None,
        retry_after: float | None = None,
        by_server: bool = False,
        throttled: bool = False,
        passing: bool = False,
    ) -> None:
        super().__init__(message, step=step, hint=hint, code=code, retry_after=retry_after)
        self.by_server = by_server
        self.throttled = throttled
        self.passing = passing


class LoginTooSoon(Unreachable):
    """The server wants time between two logins (LOGIN-DELAY, RFC 2449 section 6.5): no failure.

    `retry_after` is always given.
    """

    code = "login-delay"

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(
            message,
            step="login",
            hint="Nothing needs to be done: the next login waits as long as the server wants. "
            "Another program that reads the mailbox counts as well.",
            retry_after=retry_after,
        )


class Refused(StepFailed, NeedsPerson):
    """The server answers, and says no: somebody must change something."""

    code = "refused"

    def __init__(
        self, message: str, *, step: str = "", hint: str = "", code: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.step = step


class OAuthRefused(Refused):
    """The server refused the access token.

    `details` is the JSON object that it answered with (XOAUTH2 and RFC 7628 section 3.2.2: mostly
    `status`, `schemes`, `scope`), empty where there was none; `server_text` is its last line.
    """

    code = "oauth-refused"

    def __init__(self, message: str, *, details: Mapping[str, Any], server_text: str) -> None:
        super().__init__(
            message,
            step="authorisation",
            hint="Check that the account may use this protocol, then authorise again.",
        )
        self.details = dict(details)
        self.server_text = server_text


def mail_vanished() -> TryAgain:
    """The reason to abandon a mail that somebody removed between the listing and now.

    No MailFailure: there is nothing to quarantine, and the next listing lacks the mail.
    """
    return TryAgain("This mail is no longer on the server.", code="mail-vanished")


def mail_too_large(size: int, limit: int) -> MailFailure:
    """The reason to abandon a mail over the limit; `size` as far as it is known."""
    known = f"{size} octets" if size > limit else "more octets than the server says"
    return MailFailure(
        f"This mail has {known}; at most {limit} are taken.",
        code="too-large",
        hint="Raise POSTHOUSE_MAX_MESSAGE_BYTES, or take the mail from the mailbox by hand.",
    )


class FolderMissing(Refused):
    """The configured folder does not exist; `near` holds names that look like it."""

    code = "folder-missing"

    def __init__(self, folder: str, near: Sequence[str] = ()) -> None:
        hint = f"Did you mean {', '.join(map(repr, near))}?" if near else "Pick one from the list."
        super().__init__(
            f"The folder {folder!r} does not exist in this mailbox.", step="folder", hint=hint
        )
        self.near = tuple(near)
