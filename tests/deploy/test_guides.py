"""What the guides name of Posthouse is there: labels, buttons, commands with their options, errors.

What they say of Google's and Microsoft's consoles nothing here can know: those words are listed.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import typer

from cli.main import app
from tests.deploy.manifests import ROOT

GUIDES: Final = ("README.md", "docs/google.md", "docs/mailboxes.md", "docs/microsoft.md")
DOCUMENTS: Final = sorted(
    [*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "sdk/README.md"], key=str
)
#: Of the vendors' consoles, and names that are made up.
FOREIGN: Final = {
    *("API permissions", "APIs & Services, OAuth consent screen", "Add a permission", "Add key"),
    *("Access and data control", "Accounts in this organizational directory only", "Add new"),
    *("Add or remove scopes", "Advanced", "API controls", "App registrations", "Audience", "Apps"),
    *("Application (client) ID", "Application permissions", "APIs my organization uses", "Clients"),
    *("Authorized redirect URIs", "Certificates & secrets", "Create client", "Create new key"),
    *("Create service account", "Data Access", "Delegated", "Directory (tenant) ID"),
    *("End user access", "Enterprise applications", "Forwarding and POP/IMAP", "Get started"),
    *("Gmail", "Go to … (unsafe)", "Google Auth Platform", "Google Workspace", "Internal", "JSON"),
    *("Grant admin consent", "IAM & Admin", "Keys", "Manage app access", "Microsoft Graph"),
    *("Manage domain wide delegation", "Managed application in local directory", "Object ID"),
    *("New client secret", "New registration", "Office 365 Exchange Online", "POP and IMAP access"),
    *("Posthouse of Example Ltd", "Public client", "Publish app", "Redirect URI", "Security"),
    *(
        "Service accounts",
        "Single-page application",
        "Test users",
        "Testing",
        "Web",
    ),
    "Web application",
}


def named(guide: str) -> Iterator[str]:
    """What a guide sets off as a name, each step of a way by itself. What begins small is stressed,
    and what a point of a list begins with is its heading."""
    text = re.sub(r"```.*?```", "", (ROOT / guide).read_text(), flags=re.DOTALL)
    for found in re.finditer(r"(- )?(\*\*?)([^*]+)\2", text):
        if found[1]:
            continue
        for part in " ".join(found[3].split()).split("→"):
            name = part.strip()
            if not name[0].islower() and not name.endswith((".", ":")) and name.count(" ") < 8:
                yield name


@cache
def shown() -> str:
    """All that templates and the code hold between quotes, and what stands in elements."""
    texts = [path.read_text() for path in ROOT.glob("services/admin/templates/**/*.html")]
    found = [
        text
        for one in texts
        for text in (*re.findall(r">([^<>{}]+)<", one), *re.findall(r'"([^"{}]+)"', one))
    ]
    return "\n".join(text.strip() for text in (*found, *strings()))


@cache
def strings() -> list[str]:
    """Every text of the code that is for people."""
    trees = [
        ast.parse(path.read_text())
        for folder in ("services", "shared", "cli")
        for path in (ROOT / folder).rglob("*.py")
    ]
    return [
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


@pytest.mark.parametrize("guide", GUIDES)
def test_every_label_that_a_guide_names_is_shown_somewhere(guide: str) -> None:
    assert [one for one in named(guide) if one not in FOREIGN and not is_shown(one)] == []


def is_shown(name: str) -> bool:
    """Whole, or where it has several words as the beginning of what is shown."""
    lines = shown().splitlines()
    parts = [part.strip() for part in name.split("…")]
    if len(parts) == 1 and " " not in name:
        return name in lines
    return all(any(line.startswith(part) for line in lines) for part in parts)


def test_every_foreign_word_is_used() -> None:
    used = {one for guide in GUIDES for one in named(guide)}
    assert FOREIGN - used == set()


def test_every_error_that_a_guide_explains_is_one_of_ours() -> None:
    wrong = []
    for guide in GUIDES:
        table = (ROOT / guide).read_text().partition("| Posthouse says |")[2]
        for row in re.findall(r"^\| (.+?) \|", table, flags=re.MULTILINE):
            for part in re.split(r"…| / |\(with `\w+`\)", row):
                words = part.strip(" .")
                if words and not any(words in one for one in strings()):
                    wrong.append((guide, words))
    assert wrong == []


def commands(path: Path) -> Iterator[str]:
    """Each command of ours that a document names, whole."""
    text = path.read_text().replace("\\\n", " ")
    for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL):
        yield from re.findall(
            r"(?<!-m )(?<!from )\b(posthouse [^|>&#\n]+)", block, flags=re.MULTILINE
        )
    inline = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    yield from (" ".join(one.split()) for one in re.findall(r"`(posthouse [^`]+)`", inline))


def fault(command: str) -> str:
    """What of it there is not; empty where it can be typed so."""
    at: Any = typer.main.get_command(app)
    words = shlex.split(command.replace("…", "X"))[1:]
    while words and hasattr(at, "commands") and not words[0].startswith("-"):
        if words[0] not in at.commands:
            return f"no such command: {words[0]}"
        at = at.commands[words.pop(0)]
    known = {name for one in at.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
    given = [word.partition("=")[0] for word in words if word.startswith("-") and word != "-"]
    return ", ".join(one for one in given if one not in known)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_that_a_document_names_is_there(document: Path) -> None:
    wrong = [(one, why) for one in commands(document) if (why := fault(one))]
    assert wrong == []
