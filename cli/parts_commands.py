"""`posthouse messages parts` and `part`: what a mail consists of, and one part as a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, Any, cast

import typer

from cli import downloads, printing
from cli.client import Api
from cli.printing import AsJson
from shared.errors import InvalidInput, NotFound
from shared.quantities import sized

MessageId = Annotated[str, typer.Argument(help="The id that the list shows.", show_default=False)]
Original = Annotated[
    bool, typer.Option("--original", help="Of the mail as it was downloaded, not decrypted.")
]


def parts(message_id: MessageId, original: Original = False, as_json: AsJson = False) -> None:
    """Shows the parts of a mail: texts, attachments, messages in it."""
    with Api.from_environment() as api:
        found = api.get(f"messages/{message_id}/parts", original=original or None)
    if as_json:
        printing.as_json(found)
        return
    rows = [
        (one["path"], one["content_type"], one["name"], one["disposition"], sized(one["size"]))
        for one in found["items"]
    ]
    printing.table(("path", "type", "name", "disposition", "size"), rows, empty="It has none.")
    if found["left_off"]:
        printing.say(f"{found['left_off']:,} more are not listed.", "dim")


def part(
    message_id: MessageId,
    path: Annotated[str, typer.Argument(help="As `parts` shows it: 2.1.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            show_default=False,
            help="A file; or a folder, in which it gets its own name, made safe, and never takes "
            "another file's place. Default: standard output.",
        ),
    ] = None,
    original: Original = False,
) -> None:
    """Downloads one part of a mail, decoded."""
    if output is None and sys.stdout.isatty():
        raise InvalidInput(
            "A part is not written to a terminal: it may be anything.",
            field="output",
            hint="Give --output FILE or FOLDER, or pipe it.",
        )
    with Api.from_environment() as api:
        chunks = api.download(f"messages/{message_id}/parts/{path}", original=original or None)
        if output is not None and output.is_dir():
            told = _told(api, message_id, path, original=original)
            printing.say(str(_saved(told, chunks, output)))
        else:
            downloads.write(chunks, output)


def _told(api: Api, message_id: str, path: str, *, original: bool) -> dict[str, Any]:
    """What the list of parts says of one; of one that may lie behind the end of the list nothing
    but its path."""
    listed = api.get(f"messages/{message_id}/parts", original=original or None)
    for one in listed["items"]:
        if one["path"] == path:
            return cast("dict[str, Any]", one)
    if listed["left_off"]:
        return {"path": path, "content_type": ""}
    raise NotFound(
        f"The mail {message_id} has no part {path}.",
        hint=f"`posthouse messages parts {message_id}` shows what it has.",
    )


def _saved(told: dict[str, Any], chunks: Iterator[bytes], folder: Path) -> Path:
    """In the folder, as handlers save attachments: by its name, beside what is there."""
    from posthouse.contents import Attachment
    from posthouse.mail import Part

    one = Part(**told)
    return Attachment(one, lambda _path: cast("IO[bytes]", _Stream(chunks))).save(folder)


class _Stream:
    """Chunks as what is copied from; none of them is empty."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, _size: int = -1) -> bytes:
        return next(self._chunks, b"")
