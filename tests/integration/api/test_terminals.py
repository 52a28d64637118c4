"""Lists in a terminal and in a pipe: no id is broken or left out, whatever the names beside it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.api.conftest import TOKEN, Api
from tests.integration.api.test_certificates import p12
from tests.integration.api.test_messages import add_mail, quarantine
from tests.rig.commands import Commands, Ran

#: As names of people and subjects of mails come: one word, from right to left, in wide characters.
HOSTILE = (
    "Rechnungseingangsbenachrichtigungspostfach" * 4,
    "שלום " * 39,
    "👩‍👩‍👧‍👦📬" * 20,
    "日本語の受信箱" * 25,
    "an \x1b[31mordinary\u202e one",
)
Run = Callable[..., Ran]
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Filled:
    """The commands that list something, and what of each item must stand there whole."""

    lists: dict[str, list[str]]


@pytest.fixture(scope="module")
def filled(api: Api) -> Filled:
    mark = uuid.uuid4().hex[:6]

    def post(path: str, **body: object) -> str:
        answer = api.http.post(path, json=body)
        assert answer.status_code in (200, 201), answer.text
        return str(answer.json()["id"])

    names = [f"{mark} {one}"[:190] for one in HOSTILE[:4]]
    made = [api.create(name=one, username=f"{one[:60]}@example.org") for one in names]
    connection = made[0]["id"]
    mails = [str(add_mail(api, connection, subject=one, sender="a@example.org")) for one in HOSTILE]
    kept = uuid.uuid4()
    quarantine(api, kept, connection)
    upload = {"file": ("one.p12", p12("a@example.com"))}
    certificate = api.http.post("certificates", files=upload, data={"password": "open sesame"})
    assert certificate.status_code == 201, certificate.text
    client = "123456789012-abcdefghijklmnopqrstuvwxyz012345.apps.googleusercontent.com"
    credential = post(
        "credentials", name=names[0], provider="google", client_id=client, client_secret="x"
    )
    return Filled(
        {
            "connections list": [str(one["id"]) for one in made],
            "handlers list": [post("handlers", name="x" * 57 + mark), post("handlers", name=mark)],
            "certificates list": [str(certificate.json()["id"])],
            "credentials list": [credential, client],
            "people list": [post("people", name=one[:100], password="a" * 20) for one in names],
            "tokens list": [post("tokens", name=one[:100], role="viewer") for one in names],
            "webhooks list": [
                post("webhooks", name=one[:100], url="http://127.0.0.1:9/", enabled=False)
                for one in names
            ],
            "messages list": mails,
            "quarantine list": [str(kept)],
            "audit": [f"connection/{connection}"],
        }
    )


def environment(api: Api) -> dict[str, str]:
    without = {"COLUMNS", "NO_COLOR", "FORCE_COLOR"}
    inherited = {name: value for name, value in os.environ.items() if name not in without}
    return inherited | {"POSTHOUSE_URL": api.url, "POSTHOUSE_TOKEN": TOKEN, "TERM": "xterm"}


@pytest.fixture(scope="module")
def run(api: Api, commands: Commands) -> Run:
    """Runs a command, in a terminal where its columns are given."""

    def ran(words: str, columns: int | None = None) -> Ran:
        return commands.run(words.split(), environment(api), columns=columns)

    return ran


def in_terminal(run: Run, words: str, columns: int) -> str:
    """What a terminal of this width is sent, without colours."""
    ran = run(words, columns)
    assert ran.code == 0, ran.out
    return _ESCAPES.sub("", ran.out)


def missing(said: str, ids: list[str]) -> list[str]:
    """Those that stand nowhere as a word of one line."""
    words = {word for line in said.splitlines() for word in line.split()}
    return [one for one in ids if one not in words]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_no_id_is_broken_or_left_out_in_a_terminal(run: Run, filled: Filled, columns: int) -> None:
    broken = {}
    for words, ids in filled.lists.items():
        said = in_terminal(run, words, columns)
        assert "\x1b" not in said and "\u202e" not in said, words
        if lost := missing(said, ids):
            broken[words] = (lost, said)
    assert not broken, "\n".join(said for _, said in broken.values())


def test_a_pipe_has_a_line_an_item(run: Run, filled: Filled) -> None:
    """However wide."""
    for words, ids in filled.lists.items():
        ran = run(words)
        assert ran.code == 0, ran.err
        assert "\x1b" not in ran.out, words
        lines = ran.out.splitlines()
        for one in ids:
            assert any(one in line.split() for line in lines), (words, one)
        assert len(lines) == 1 + len(json.loads(run(f"{words} --json").out)["items"]), words


@pytest.mark.usefixtures("filled")
def test_a_pipe_has_the_same_at_each_call(api: Api) -> None:
    """Of processes of their own, whose sets have their members in other orders."""
    command = [str(Path(sys.executable).with_name("posthouse")), "connections", "list"]
    first, second = (
        subprocess.run(command, env=environment(api), capture_output=True, check=True).stdout
        for _ in range(2)
    )
    assert first == second


def test_json_is_an_object_and_a_list_its_items(run: Run, filled: Filled) -> None:
    """A script reads `.items` of whatever lists."""
    connection, handler = filled.lists["connections list"][0], filled.lists["handlers list"][0]
    for words in (
        *filled.lists,
        f"connections runs {connection}",
        "trust-anchors list",
        "trust-anchors lists",
        "senders list",
        f"connections show {connection}",
        f"handlers show {handler}",
        "overview",
    ):
        ran = run(f"{words} --json")
        told = json.loads(ran.out if ran.code == 0 else ran.err)
        assert isinstance(told, dict), words
        assert ran.code == 0 or [*told] == ["error"], (words, told)
        if words.split()[-1] in ("list", "runs", "lists"):
            assert isinstance(told["items"], list), words


def test_a_file_of_many_connections_shows_how_far_it_is(run: Run, tmp_path: Path) -> None:
    """New ones, and the same ones changed."""
    mark, file = uuid.uuid4().hex[:8], tmp_path / "posthouse.yaml"
    (tmp_path / "password").write_text("secret")
    for interval in (1, 9):
        lines = [
            f"- {{name: {mark} {n:03}, mode: imap, host: mail.invalid, username: ann,"
            f" password: 'file:password', interval_minutes: {interval}}}"
            for n in range(60)
        ]
        file.write_text("\n".join(["connections:", *lines]))
        said = in_terminal(run, f"apply -f {file}", 80)
        assert re.search(r"Applying .*\d+%", said), said
        assert "60 of 60 changes made" in said
