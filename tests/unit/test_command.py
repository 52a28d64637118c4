"""The `posthouse` command tells errors in words and exits with a code that says what kind."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cli import client, printing
from shared.vault import Vault


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        env={"HOME": "/nonexistent", "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_missing_setting_is_named_without_a_traceback() -> None:
    done = _run("fetcher", POSTHOUSE_STORE_URL="file:///nonexistent")
    assert done.returncode == 2
    assert "POSTHOUSE_DATABASE_URL" in done.stderr and "Traceback" not in done.stderr


def test_debug_shows_where_an_error_came_from() -> None:
    done = _run("--debug", "fetcher")
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_a_database_that_is_away_is_told_with_what_to_do() -> None:
    url = "postgresql://posthouse:hunter2@127.0.0.1:1/posthouse"
    done = _run("migrate", POSTHOUSE_DATABASE_URL=url)
    assert done.returncode == 1
    assert 'at "127.0.0.1", port 1 failed' in done.stderr
    assert "Check POSTHOUSE_DATABASE_URL" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout and "Traceback" not in done.stderr


def test_an_unknown_command_is_a_usage_error() -> None:
    assert _run("no-such-command").returncode == 2
    assert _run("up", "--port", "0").returncode == 2


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
    words: tuple[str, ...], meant: str
) -> None:
    done = _run(*words)
    assert done.returncode == 2
    # Nothing else: `delete` shares letters with what lists dead letters, and destroys.
    assert f"Did you mean {meant}?" in " ".join(done.stderr.split())


def test_a_secret_on_the_command_line_is_refused_and_not_repeated() -> None:
    done = _run("webhooks", "add", "night", "--url", "https://hooks.example/a-secret")
    assert done.returncode == 2
    assert "env:ALERTS_URL" in done.stderr
    assert "a-secret" not in done.stderr + done.stdout


def test_the_version_is_shown() -> None:
    assert _run("--version").stdout.startswith("posthouse 0.")


def test_a_new_key_can_be_used_and_is_another_every_time() -> None:
    first, second = (_run("secrets", "new-key").stdout.strip() for _ in range(2))
    assert first != second
    Vault.from_settings([first, second])


def test_the_demo_mailbox_is_missed_in_words(tmp_path: Path) -> None:
    done = _run("demo", "send", "--data-dir", str(tmp_path))
    assert done.returncode == 1 and "posthouse up --demo" in done.stderr
    done = _run("demo", "send", str(tmp_path / "none.eml"))
    assert done.returncode == 2 and "none.eml cannot be read" in done.stderr


def test_a_service_needs_little_to_say_its_help() -> None:
    """Help must not load the database, the broker or the mail libraries: it would take seconds."""
    code = (
        "import sys, cli.main\n"
        "heavy = {'psycopg', 'dramatiq', 'fastapi', 'imapclient', 'cryptography'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_with_json_an_error_is_json() -> None:
    ran = _run("connections", "list", "--json", POSTHOUSE_URL="http://127.0.0.1:9")
    assert ran.returncode == 2
    error = json.loads(ran.stderr)["error"]
    assert (error["field"], ran.stdout) == ("POSTHOUSE_TOKEN", "")
    assert "is not set" in error["message"]


def test_a_piped_table_has_a_line_an_item(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    printing.table(("id", "name"), [["01890a5d-ac96-774b-bcce-b302099a8057", long]] * 2, empty="")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(one.split() == ["01890a5d-ac96-774b-bcce-b302099a8057", long] for one in lines[1:])


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
def test_a_misused_command_tells_programs_so_as_json(words: str, said: str, field: str) -> None:
    """As every other error: one document on standard error, and nothing beside it."""
    done = _run(*words.split(), "--json")
    assert (done.returncode, done.stdout) == (2, "")
    error = json.loads(done.stderr)["error"]
    assert (error["code"], error.get("field", "")) == ("invalid", field)
    assert said in error["message"]
    assert f"posthouse {words.split()[0]}" in error["hint"]


def test_help_is_for_people_whatever_else_is_given() -> None:
    done = _run("connections", "list", "--help", "--json")
    assert done.returncode == 0
    assert "Shows the connections" in done.stdout


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
