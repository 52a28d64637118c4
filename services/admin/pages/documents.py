"""The documents of this version as pages: the runbook that alerts link to, settings, operations.

Open to everybody: they hold nothing of an installation, and who is called at night may not be able
to log in. They are the files of `docs/`, which the wheel carries along.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from starlette.responses import Response

from services.admin.auth.route_permissions import PUBLIC
from services.admin.pages.rendering import render
from shared.errors import NotFound

router = APIRouter(prefix="/documents")

_PACKAGED: Final = Path(__file__).parents[1] / "documents"
#: As the wheel has them, or as the tree has them.
FOLDER: Final = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[3] / "docs"
#: The SDK's README: the one document that is not of `docs/`.
_SDK: Final = "sdk"
_GROUPS: Final = {
    "When something is wrong": ["runbook", "operations", "logs", "metrics"],
    "Mailboxes": ["mailboxes", "google", "microsoft", "certificates"],
    "Handlers": [_SDK, "rules", "forwarding"],
    "Setting it up": ["first-afternoon", "settings", "apply", "scale"],
}


@router.get("", dependencies=[PUBLIC])
def page(request: Request) -> Response:
    return render(
        request, "documents.html", title="Documents", documents=titles(), groups=groups(), text=""
    )


@router.get("/{name}", dependencies=[PUBLIC])
def document(request: Request, name: str) -> Response:
    if name not in titles():
        raise NotFound(f"There is no document {name!r}.", hint="All are listed under /documents.")
    return render(request, "documents.html", title=titles()[name], documents={}, text=as_html(name))


@cache
def titles() -> dict[str, str]:
    """Name in the address → first heading, in the order of the headings."""
    found = {name: _heading(path) for name, path in _files().items()}
    return dict(sorted(found.items(), key=lambda item: item[1].casefold()))


@cache
def groups() -> dict[str, list[str]]:
    """What is needed at night first; documents that no group names are the last one."""
    rest = [name for name in titles() if not any(name in names for names in _GROUPS.values())]
    return {**_GROUPS, "More": rest}


@cache
def as_html(name: str) -> Markup:
    """A document as HTML. Its headings can be linked to as on code hosts: `#a-heading`."""
    # Raw HTML stays text: what is shown is what was written here, but nothing has to rely on it.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(_files()[name].read_text(encoding="utf-8"))
    _label_cells(tokens)
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", _anchor(tokens[at + 1].content))
        elif token.type == "table_open":
            token.attrSet("tabindex", "0")  # it scrolls on a phone, by keys as well
        elif token.type == "th_open" and not tokens[at + 1].content:
            token.tag = tokens[at + 2].tag = "td"  # the corner of a table heads nothing
        elif token.type == "inline":
            token.children = list(_with_links(token.children or []))
    return Markup(markdown.renderer.render(tokens, markdown.options, {}))  # noqa: S704


def _label_cells(tokens: Sequence[Token]) -> None:
    """Each cell but a row's first with the heading of its column, which a phone shows before it."""
    headings: list[str] = []
    column = -1
    for at, token in enumerate(tokens):
        if token.type == "table_open":
            headings = []
        elif token.type == "th_open":
            headings.append(_plain(tokens[at + 1]))
        elif token.type == "tr_open":
            column = -1
        elif token.type == "td_open":
            column += 1
            if column and headings[column]:
                token.attrSet("data-label", headings[column])


def _plain(inline: Token) -> str:
    return "".join(child.content for child in inline.children or [])


@cache
def _files() -> dict[str, Path]:
    """Those of `docs/`, and what authors of handlers read."""
    found = {path.stem: path for path in FOLDER.glob("*.md")}
    return found if FOLDER == _PACKAGED else found | {_SDK: FOLDER.parent / "sdk/README.md"}


def _heading(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").replace("`", "").strip()


def _anchor(heading: str) -> str:
    words = re.sub(r"[^\w\- ]", "", heading.casefold())
    return words.replace(" ", "-")


def _with_links(tokens: list[Token]) -> list[Token]:
    """Links between documents lead to their pages; those to other files of the tree are text."""
    kept, is_open = [], True
    for token in tokens:
        if token.type == "link_open":
            target = _target(str(token.attrGet("href") or ""))
            is_open = target is not None
            if target is None:
                continue
            token.attrSet("href", target)
        elif token.type == "link_close" and not is_open:
            continue
        kept.append(token)
    return kept


def _target(address: str) -> str | None:
    path, mark, anchor = address.partition("#")
    if address.startswith("https://") or (mark and not path):
        return address
    name = _SDK if path == "../sdk/README.md" else path.removeprefix("../docs/").removesuffix(".md")
    return f"/documents/{name}{mark}{anchor}" if name in titles() else None
