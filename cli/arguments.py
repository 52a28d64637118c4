"""What people give on the command line: `--set field=value`, and secrets without showing them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from shared import connection_editing, credentials, handlers
from shared.errors import InvalidInput

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="A field, such as port=1143; repeat it. Values can be read from elsewhere: "
        "password=env:NAME, ca_certificate=file:ca.pem.",
    ),
]
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="WORD", help="What is searched for: the same as --query."),
]
_FIELDS: Final = {
    name: one
    for described in (handlers.FIELDS, credentials.FIELDS, connection_editing.FIELDS)
    for name, one in described.items()
}
#: The types of fields that are no texts, and of what is in lists.
_TYPES: Final = {name: one.kind for name, one in _FIELDS.items()}
_ITEMS: Final = {name: one.items for name, one in _FIELDS.items()}


def fields(settings: Sequence[str] | None, base: Path | None = None) -> dict[str, Any]:
    """`port=993`, `tags=sales,emea`, `password=env:NAME`, `ca_certificate=file:ca.pem`."""
    found: dict[str, Any] = {}
    for setting in settings or ():
        name, equals, text = setting.partition("=")
        name = name.strip()
        if not equals or not name:
            raise InvalidInput(f"{setting!r} is not of the form FIELD=VALUE.", field="set")
        found[name] = _value(name, text, base)
    return found


def search_words(words: Sequence[str] | None, query: str) -> str:
    """What is searched for, whichever way it was given. Raises InvalidInput where both were."""
    if words and query:
        raise InvalidInput("Give the words once: alone, or with --query.", field="query")
    return " ".join(words or ()) or query


def _value(name: str, text: str, base: Path | None) -> Any:
    if text.startswith(("env:", "file:")):
        return read_reference(text, name, base)
    if text == "null":
        return None
    try:
        if _TYPES.get(name) is int:
            return int(text)
        if items := _ITEMS.get(name):
            return [items(part.strip()) for part in text.split(",") if part.strip()]
        if _TYPES.get(name) is Mapping:
            return json.loads(text)
    except ValueError:
        raise InvalidInput(f"{text!r} is no value for {name!r}.", field=name) from None
    if _TYPES.get(name) is bool:
        if text.lower() not in ("true", "false"):
            raise InvalidInput(f"{name!r} is true or false.", field=name)
        return text.lower() == "true"
    return text


def read_reference(reference: str, field: str, base: Path | None = None) -> str:
    """The secret behind `env:NAME` or `file:path` (relative to `base`). Raises InvalidInput."""
    kind, _, where = reference.partition(":")
    if kind == "env":
        if where not in os.environ:
            raise InvalidInput(
                f"The environment has no {where}, which {field!r} is in.", field=field
            )
        return os.environ[where]
    return read_file(reference, field, base).decode("utf-8").rstrip("\r\n")


def read_file(reference: str, field: str, base: Path | None = None) -> bytes:
    """The content of `file:path`. Raises InvalidInput."""
    if "://" in reference:  # the address itself, which says it to everybody who lists processes
        raise InvalidInput(
            f"{field!r} is a secret: say where it is, not what it is.",
            field=field,
            hint="Such as env:ALERTS_URL, a variable of the environment, or file:PATH.",
        )
    path = (base or Path()) / Path(reference.removeprefix("file:")).expanduser()
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"{path}, which {field!r} is in, cannot be read: {error.strerror}.", field=field
        ) from error


def prompted_secret(what: str, *, from_stdin: bool) -> str | None:
    """A secret from standard input, or typed unseen; None where nobody is there to type."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if sys.stdin.isatty():
        return str(typer.prompt(what, hide_input=True))
    return None
