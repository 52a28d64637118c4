"""What Postgres refuses, as errors that name the field: taken names, and things in use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from psycopg import errors as pg

from shared.errors import InvalidInput, NameTaken


@contextmanager
def refused(
    kind: str, name: str, references: Mapping[str, tuple[str, str]] | None = None
) -> Iterator[None]:
    """Turns what the constraints of a table refuse into words.

    `references`: part of a foreign key's name → (field, what it should name). The transaction is
    void afterwards, as always after an error of Postgres.
    """
    try:
        yield
    except pg.UniqueViolation as error:
        raise NameTaken(
            f"There is a {kind} named {name!r} already.",
            hint="Names are compared without regard to case; choose another one.",
        ) from error
    except pg.ForeignKeyViolation as error:
        constraint = error.diag.constraint_name or ""
        for part, (field, what) in (references or {}).items():
            if part in constraint:
                raise InvalidInput(
                    f"{field!r} names a {what} that is gone.", field=field
                ) from error
        raise


@contextmanager
def unique_name() -> Iterator[None]:
    """Raises InvalidInput, at the field, where a name or an address of mail is taken."""
    try:
        yield
    except pg.UniqueViolation as error:
        which = "email" if "email" in (error.diag.constraint_name or "") else "name"
        word = "address" if which == "email" else "name"
        raise InvalidInput(f"This {word} is taken.", field=which) from error
