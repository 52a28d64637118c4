"""The `posthouse` command tells errors in words and exits with a code that says what kind."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol

import pytest

from cli import client, printing
from shared.vault import Vault
from tests.rig.commands import Commands, Ran


class Run(Protocol):
    """Runs a command with these words and nothing else in its environment."""

    def __call__(self, *words: str, **environment: str) -> Ran: ...


@pytest.fixture(name="run")
def _run(commands: Commands) -> Run:
    def run(*words: str, **environment: str) -> Ran:
        return commands.run(words, {"HOME": "/nonexistent", "COLUMNS": "200", **environment})

    return run


def test_a_missing_setting_is_named_without_a_traceback(run: Run) -> None:
    done = run("fetcher", POSTHOUSE_STORE_URL="file:///nonexistent")
    assert done.code == 2
    assert "POSTHOUSE_DATABASE_URL" in done.err and "Traceback" not in done.err


def test_debug_shows_where_an_error_came_from(run: Run) -> None:
    done = run("--debug", "fetcher")
    assert done.code == 1 and "Traceback" in done.err


def test_a_database_that_is_away_is_told_with_what_to_do(run: Run) -> None:
    url = "postgresql://posthouse:hunter2@127.0.0.1:1/posthouse"
    done = run("migrate", POSTHOUSE_DATABASE_URL=url)
    assert done.code == 1
    assert 'at "127.0.0.1", port 1 failed' in done.err
    assert "Check POSTHOUSE_DATABASE_URL" in done.err
    assert "hunter2" not in done.err + done.out and "Traceback" not in done.err


def test_an_unknown_command_is_a_usage_error(run: Run) -> None:
    assert run("no-such-command").code == 2
    assert run("up", "--port", "0").code == 2


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("handlers", "dead"), "'dead-letters'"),
        (("handlers", "deadletters"), "'dead-letters'"),
        (("handlers", "remove"), "'delete'"),
        (("connection", "list"), "'connections'"),
        (("mails",), "'messages'"),
        (("certificates", "add"), "'upload'"),
        (("messages", "search"), "'list'"),
        (("status",), "'overview'"),
    ],
)
def test_a_command_that_is_not_there_is_answered_with_what_was_meant(
    run: Run, words: tuple[str, ...], meant: str
) -> None:
    done = run(*words)
    assert done.code == 2
    # Nothing else: `delete` shares letters with what lists dead letters, and destroys.
    assert f"Did you mean {meant}?" in " ".join(done.err.split())


def test_a_secret_on_the_command_line_is_refused_and_not_repeated(run: Run) -> None:
    done = run("webhooks", "add", "night", "--url", "https://hooks.example/a-secret")
    assert done.code == 2
    assert "env:ALERTS_URL" in done.err
    assert "a-secret" not in done.err + done.out


def test_the_version_is_shown(run: Run) -> None:
    assert run("--version").out.startswith("posthouse 0.")


def test_a_new_key_can_be_used_and_is_another_every_time(run: Run) -> None:
    first, second = (run("secrets", "new-key").out.strip() for _ in range(2))
    assert first != second
    Vault.from_settings([first, second])


def test_the_demo_mailbox_is_missed_in_words(run: Run, tmp_path: Path) -> None:
    done = run("demo", "send", "--data-dir", str(tmp_path))
    assert done.code == 1 and "posthouse up --demo" in done.err
    done = run("demo", "send", str(tmp_path / "none.eml"))
    assert done.code == 2 and "none.eml cannot be read" in done.err


def test_a_service_needs_little_to_say_its_help() -> None:
    """Help must not load the database, the broker or the mail libraries: it would take seconds."""
    code = (
        "import sys, cli.main\n"
        "heavy = {'psycopg', 'dramatiq', 'fastapi', 'imapclient', 'cryptography'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_with_json_an_error_is_json(run: Run) -> None:
    ran = run("connections", "list", "--json", POSTHOUSE_URL="http://127.0.0.1:9")
    assert ran.code == 2
    error = json.loads(ran.err)["error"]
    assert (error["field"], ran.out) == ("POSTHOUSE_TOKEN", "")
    assert "is not set" in error["message"]


def test_a_piped_table_has_a_line_an_item(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    printing.table(("id", "name"), [["01890a5d-ac96-774b-bcce-b302099a8057", long]] * 2, empty="")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(one.split() == ["01890a5d-ac96-774b-bcce-b302099a8057", long] for one in lines[1:])


@pytest.mark.parametrize(
    "environment", [{}, {"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}, {"COLUMNS": "40"}]
)
def test_a_piped_table_is_whole_whatever_terminal_there_is_not(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: dict[str, str],
) -> None:
    """A simple terminal has 80 columns for what draws tables, also where colours go into a pipe."""
    monkeypatch.setenv("TERM", "dumb")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    long = "a subject of many words " * 20
    printing.table(("id", "subject", "state"), [["7", long, ("working", "green")]] * 2, empty="")
    printing.pairs([("name", "desk"), ("rules", long)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert [long.strip() in one for one in lines] == [False, True, True, False, True]


def test_piped_help_is_whole(run: Run) -> None:
    """Drawn in 80 columns it cut `--without-atta…`, and what commands do."""
    said = run("messages", "list", "--help", COLUMNS="80").out
    assert "--with-attachment / --without-attachment" in said
    assert "`data.mail.thread`" in said
    every = " ".join(run("--help", COLUMNS="80").out.split())
    assert "deletes what has aged out. " in every
    assert "…" not in said + every and "..." not in every.partition("Options:")[2]


@pytest.mark.parametrize(
    ("words", "said", "field"),
    [
        ("connections list --jsn", "--jsn", ""),
        ("connections show", "name", "name"),
        ("connections lst", "Did you mean 'list'?", ""),
        ("connections list --page 0", "greater than or equal to 1", "page"),
        ("connections list --page x", "integer", "page"),
        ("doctor", "name", "name"),
    ],
)
def test_a_misused_command_tells_programs_so_as_json(
    run: Run, words: str, said: str, field: str
) -> None:
    """As every other error: one document on standard error, and nothing beside it."""
    done = run(*words.split(), "--json")
    assert (done.code, done.out) == (2, "")
    error = json.loads(done.err)["error"]
    assert (error["code"], error.get("field", "")) == ("invalid", field)
    assert said in error["message"]
    assert f"posthouse {words.split()[0]}" in error["hint"]


def test_help_is_for_people_whatever_else_is_given(run: Run) -> None:
    done = run("connections", "list", "--help", "--json")
    assert done.code == 0
    assert "Shows the connections" in done.out


class _Terminal(io.StringIO):
    """Notes when something is said."""

    def __init__(self) -> None:
        super().__init__()
        self.said = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.said.set()
        return super().write(text)


def test_who_waits_at_a_terminal_is_told_for_what(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server answers when that was said, or when it should have been long ago."""
    terminal = _Terminal()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            terminal.said.wait(10)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(client, "_SILENT_S", 0.01)
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            with client.Api(url, "token") as api:
                api.get("overview")
        finally:
            server.shutdown()
            thread.join()
    assert terminal.getvalue() == f"Waiting for the API at {url}, 15 s at most …\n"
