"""CONTRIBUTING.md's recipes: the files they name exist, and are those that the tree needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.declared.document import ConnectionEntry
from services.admin.api.schemas.connections import ConnectionIn, ConnectionOut
from services.admin.pages.connection_form import values_of
from shared.connection_editing import FIELDS, FIELDS_OF
from shared.connections import Connection, Mode
from shared.forward_kinds import KINDS as FORWARD_KINDS
from shared.forward_kinds import ForwardProtocol

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
#: How a file asks which kind a mailbox is.
ASKS_THE_MODE = re.compile(
    r"\bMode\.[A-Z]|google-imap|microsoft-graph|microsoft-imap|[\"']pop3[\"']"
)
#: How a file asks which broker an address names.
ASKS_THE_BROKER = re.compile(r"\b(?:REDIS|RABBITMQ)_SCHEMES\b|\bscheme_of\(|[\"']amqps?[\"']")
FORM = "services/admin/templates/connections/form.html"
#: Where a field has another form: what is no column, has a page or an inverse of its own, or is
#: given by name.
OTHERWISE = {
    "shared/storage/migrations/": {"certificate_ids"},
    FORM: {"enabled", "verify_certificate"},
}


def recipe(title: str) -> str:
    return TEXT.partition(f"### {title}\n")[2].partition("\n### ")[0]


def paths(text: str) -> set[str]:
    return {name for name in re.findall(r"`([\w./-]+/[\w./-]*)`", text) if "<" not in name}


def text_of(name: str) -> str:
    """A file, or every migration."""
    path = ROOT / name
    files = sorted(path.rglob("*.sql")) if path.is_dir() else [path]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def test_every_file_that_is_named_exists() -> None:
    assert not [name for name in paths(TEXT) if not (ROOT / name).exists()]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_every_field_of_a_connection_is_where_the_recipe_says(step: int) -> None:
    (name,) = paths(
        re.findall(rf"^{step}\. (.+)$", recipe("A field of a connection"), re.MULTILINE)[0]
    )
    text = text_of(name)
    fields = frozenset.union(*FIELDS_OF.values()) - OTHERWISE.get(name, set())
    assert not [field for field in sorted(fields) if not re.search(rf"\b{field}\b", text)]


def test_what_is_made_of_the_description_has_every_field() -> None:
    named = {"certificate_ids": "certificates", "credential_id": "credential"}
    for name, one in FIELDS.items():
        assert name in ConnectionIn.model_fields, name
        assert named.get(name, name) in ConnectionEntry.model_fields, name
        if not one.about.secret:
            assert name in ConnectionOut.model_fields, name
            assert name in values_of(Connection(name="", mode=Mode.IMAP)) or name in OTHERWISE[FORM]
            assert one.kind is bool or one.about.label, name


def test_no_file_but_the_registry_asks_for_the_mode() -> None:
    asking = {
        path.relative_to(ROOT).as_posix()
        for top in ("cli", "services", "shared", "sdk/src", "sdk/schema")
        for path in (ROOT / top).rglob("*")
        if path.suffix in {".py", ".sql", ".html", ".js", ".json"}
        and ASKS_THE_MODE.search(path.read_text(encoding="utf-8"))
    }
    steps, _, recommending = recipe("A kind of mailbox").partition("recommend one to people:")
    ask, name = paths(steps), paths(recommending)
    folders = ("shared/mailbox/doctor/", "shared/storage/migrations/")
    assert not [path for path in asking - ask - name if not path.startswith(folders)], (
        "ask the kind (shared/kinds.py), not the mode"
    )
    assert name <= asking
    for path in name:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert not re.search(r"\bMode\b|[\"']pop3[\"']|kind\.mode|\.protocol\b", text), path


def test_every_forward_kind_and_its_options_are_where_the_recipe_says() -> None:
    steps = dict(re.findall(r"(?ms)^(\d)\. (.+?)(?=^\d\. |\Z)", recipe("A forward kind")))
    text = {name: text_of(name) for step in "12346" for name in paths(steps[step])}
    for kind in ForwardProtocol:
        assert f"ForwardProtocol.{kind.name}: ForwardKind(" in text["shared/forward_kinds.py"]
        assert f"ForwardProtocol.{kind.name}: " in text["shared/forwarding/endpoint_clients.py"]
        assert f"'{kind}'" in text["shared/storage/migrations/"]
        assert f'"{kind}"' in text["tests/integration/forwarding/test_conformance.py"]
        for option in FORWARD_KINDS[kind].options:
            for name in paths(steps["4"]):
                assert re.search(rf"\b{option}\b", text[name]), (option, name)


def test_only_the_registry_and_the_clients_tell_forward_kinds_apart() -> None:
    named = {
        path.relative_to(ROOT).as_posix()
        for top in ("cli", "services", "shared")
        for path in (ROOT / top).rglob("*.py")
        if re.search(r"\bForwardProtocol\.(?:NATS|KAFKA)\b", path.read_text(encoding="utf-8"))
    }
    assert named == {"shared/forward_kinds.py", "shared/forwarding/endpoint_clients.py"}


def test_only_files_of_the_recipe_tell_outputs_apart() -> None:
    named = paths(recipe("An output"))
    asking = {
        path.relative_to(ROOT).as_posix()
        for top in ("services", "shared", "sdk/src")
        for path in (ROOT / top).rglob("*.py")
        if ASKS_THE_BROKER.search(path.read_text(encoding="utf-8"))
    }
    assert asking - named == {"shared/queueing/broker.py"}, "which opens the broker of the jobs"
    steps = dict(re.findall(r"(?ms)^(\d)\. (.+?)(?=^\d\. |\Z)", recipe("An output")))
    for step in "346":
        assert paths(steps[step]) <= asking
