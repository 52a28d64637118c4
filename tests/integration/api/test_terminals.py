"""Lists in a terminal and in a pipe: no id is broken or left out, whatever the names beside it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.api.conftest import TOKEN, Api
from tests.integration.api.test_certificates import p12
from tests.integration.api.test_messages import add_mail, quarantine

#: As names of people and subjects of mails come: one word, from right to left, in wide characters.
HOSTILE = (
    "Rechnungseingangsbenachrichtigungspostfach" * 4,
    "שלום " * 39,
    "👩‍👩‍👧‍👦📬" * 20,
    "日本語の受信箱" * 25,
    "an \x1b[31mordinary\u202e one",
)
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


def in_terminal(api: Api, words: str, columns: int) -> str:
    """What a terminal of this width is sent, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    ran = subprocess.Popen(
        [str(Path(sys.executable).with_name("posthouse")), *words.split()],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=environment(api),
    )
    os.close(theirs)
    said = b"".join(_chunks(ours))
    os.close(ours)
    assert ran.wait(60) == 0, said.decode()
    return _ESCAPES.sub("", said.decode())


def _chunks(terminal: int) -> Iterator[bytes]:
    """Until the other side is closed, which Linux tells as an error."""
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:
            return
        if not chunk:
            return
        yield chunk


def environment(api: Api) -> dict[str, str]:
    without = {"COLUMNS", "NO_COLOR", "FORCE_COLOR"}
    inherited = {name: value for name, value in os.environ.items() if name not in without}
    return inherited | {"POSTHOUSE_URL": api.url, "POSTHOUSE_TOKEN": TOKEN, "TERM": "xterm"}


def missing(said: str, ids: list[str]) -> list[str]:
    """Those that stand nowhere as a word of one line."""
    words = {word for line in said.splitlines() for word in line.split()}
    return [one for one in ids if one not in words]


def rows_of(api: Api, words: str) -> int:
    """How many items the list has, as JSON says it."""
    command = [str(Path(sys.executable).with_name("posthouse")), *words.split(), "--json"]
    shown = subprocess.run(command, env=environment(api), capture_output=True, check=True).stdout
    return len(json.loads(shown)["items"])


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_no_id_is_broken_or_left_out_in_a_terminal(api: Api, filled: Filled, columns: int) -> None:
    broken = {}
    for words, ids in filled.lists.items():
        said = in_terminal(api, words, columns)
        assert "\x1b" not in said and "\u202e" not in said, words
        if lost := missing(said, ids):
            broken[words] = (lost, said)
    assert not broken, "\n".join(said for _, said in broken.values())


def test_a_pipe_has_a_line_an_item(api: Api, filled: Filled) -> None:
    """However wide, and the same at each call."""
    for words, ids in filled.lists.items():
        command = [str(Path(sys.executable).with_name("posthouse")), *words.split()]
        runs = [
            subprocess.run(command, env=environment(api), capture_output=True, check=True)
            for _ in range(2 if words == "connections list" else 1)
        ]
        assert len({run.stdout for run in runs}) == 1, words
        lines = runs[0].stdout.decode().splitlines()
        assert b"\x1b" not in runs[0].stdout, words
        for one in ids:
            assert any(one in line.split() for line in lines), (words, one)
        assert len(lines) == 1 + rows_of(api, words), words


def test_json_is_an_object_and_a_list_its_items(api: Api, filled: Filled) -> None:
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
        command = [str(Path(sys.executable).with_name("posthouse")), *words.split(), "--json"]
        ran = subprocess.run(command, env=environment(api), capture_output=True, text=True)
        told = json.loads(ran.stdout if ran.returncode == 0 else ran.stderr)
        assert isinstance(told, dict), words
        assert ran.returncode == 0 or [*told] == ["error"], (words, told)
        if words.split()[-1] in ("list", "runs", "lists"):
            assert isinstance(told["items"], list), words


def test_a_file_of_many_connections_shows_how_far_it_is(api: Api, tmp_path: Path) -> None:
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
        said = in_terminal(api, f"apply -f {file}", 80)
        assert re.search(r"Applying .*\d+%", said), said
        assert "60 of 60 changes made" in said
