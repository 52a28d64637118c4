"""Every failure that Posthouse knows, each with a verdict.

A library's error is translated once, at the border where it appears (`shared.mailbox`,
`shared.storage`, `shared.queueing`), and chained as the cause. What follows from an error is read
from its class, never from its text:

- `TryAgain`: the same attempt may succeed later; honours the other side's Retry-After.
- `NeedsPerson`: no retry helps before somebody changes something (password, consent, folder).
- `MailFailure`: only this mail cannot be processed; it goes to quarantine, the rest goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

T = TypeVar("T")


class PosthouseError(Exception):
    """The root. `str()` is a sentence for people: what failed and where.

    `hint` says what to do about it, `code` is stable for programs (`login-refused`).
    """

    code = "internal"
    #: The protocol lines that led here, secrets removed, where there was a protocol.
    transcript: Sequence[str] = ()

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if code is not None:
            self.code = code


class InvalidInput(PosthouseError):
    """What somebody gave us is not acceptable; `field` names the offending one.

    `more`: what else is wrong with the same input, at most one for each field.
    """

    code = "invalid"

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        hint: str = "",
        more: Sequence[InvalidInput] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        self.field = field
        self.more = tuple(more)

    @property
    def every(self) -> tuple[InvalidInput, ...]:
        """This one, and what else is wrong."""
        return (self, *self.more)

    def renamed(self, name: Callable[[str], str]) -> InvalidInput:
        """The same with its fields called as `name` says."""
        first, *rest = (InvalidInput(str(e), field=name(e.field), hint=e.hint) for e in self.every)
        first.more = tuple(rest)
        return first


class Refusals:
    """Collects what is wrong with several fields, so that somebody is told all of it at once."""

    def __init__(self) -> None:
        self._found: dict[str, InvalidInput] = {}

    def __contains__(self, field: str) -> bool:
        return field in self._found

    def add(self, error: InvalidInput) -> None:
        """The first that is wrong with a field counts: what follows may follow from it."""
        for one in error.every:
            self._found.setdefault(one.field, one)

    def read(self, read: Callable[[], T], otherwise: T) -> T:
        """What `read` gives; `otherwise` where it raises, which is collected."""
        try:
            return read()
        except InvalidInput as error:
            self.add(error)
            return otherwise

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Collects what is raised inside."""
        try:
            yield
        except InvalidInput as error:
            self.add(error)

    def finish(self, order: Iterable[str] = ()) -> None:
        """Raises InvalidInput with all that was found, in the `order` of the fields."""
        numbers = {name: number for number, name in enumerate(order)}
        found = sorted(self._found.values(), key=lambda one: numbers.get(one.field, len(numbers)))
        if found:
            first, *rest = found
            raise InvalidInput(str(first), field=first.field, hint=first.hint, more=rest)


class NotFound(PosthouseError):
    """The thing asked for does not exist (any more)."""

    code = "not-found"


class Conflict(PosthouseError):
    """The change contradicts what is there: a taken name, a thing in use.

    `members`: what programs need to know beside words and code, as JSON.
    """

    code = "conflict"
    members: Mapping[str, Any] = {}


class NameTaken(Conflict):
    """Something else of that kind has the name (names differ by more than case)."""

    code = "name-taken"
    field = "name"
    members: Mapping[str, Any] = {"field": field}


class ChangedMeanwhile(Conflict):
    """It is not what it was when somebody began to change it. `named`: by the version of it that
    the request named."""

    code = "changed-meanwhile"

    def __init__(self, message: str, *, hint: str, named: bool) -> None:
        super().__init__(message, hint=hint)
        self.named = named


@dataclass(frozen=True, slots=True)
class User:
    """One thing that uses another: what it is (`connection`), its id and its name."""

    kind: str
    id: int
    name: str


class InUse(Conflict):
    """It cannot be deleted: `used_by` says by what it is used."""

    code = "in-use"

    def __init__(self, message: str, used_by: Sequence[User], *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.used_by = tuple(used_by)
        self.members = {"used_by": [asdict(user) for user in used_by]}


class TryAgain(PosthouseError):
    """A failure that may be gone later. `retry_after` is in seconds, None where unknown."""

    code = "try-again"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.retry_after = retry_after


class OwnFailure(TryAgain):
    """Something of Posthouse's own failed (database, store, key, lease), not the other side."""


class NeedsPerson(PosthouseError):
    """A failure that stays until somebody changes something."""

    code = "needs-person"


class MailFailure(PosthouseError):
    """This one mail cannot be processed; nothing is wrong with its mailbox."""

    code = "mail-failure"


class NeedsAuthorisation(NeedsPerson):
    """The OAuth2 grant is gone or was never given: somebody must log in at the provider again."""

    code = "needs-authorisation"


class LeaseLost(OwnFailure):
    """Another worker holds (or took over) the lease: what we hold must not be committed."""

    code = "lease-lost"


class SecretUnreadable(PosthouseError):
    """A stored secret cannot be opened: the row was tampered with, or is of another version."""

    code = "secret-unreadable"


class SecretKeyMissing(OwnFailure):
    """A stored secret was sealed with a key that this process does not have (yet).

    Others may have it: while a new key is rolled out, or where services have keys of their own.
    It says nothing about what the secret belongs to.
    """

    code = "secret-key-missing"
