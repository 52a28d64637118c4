"""`--data-dir`: which `posthouse up` a command asks, whatever the command and the environment."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import typer

from cli.main import app
from tests.rig.commands import Commands

#: What asks no API: services, what is set up without one, and what `up` starts itself.
ALONE = {
    "scheduler", "fetcher", "decryptor", "forwarder", "admin", "migrate",
    "secrets new-key", "secrets keys-of", "secrets rotate", "demo handler", "demo mailbox",
}  # fmt: skip


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield " ".join(path), command
        return
    for name, one in command.commands.items():
        yield from leaves(one, (*path, name))


def test_every_command_that_asks_an_installation_says_how_to_name_it() -> None:
    found = dict(leaves(typer.main.get_command(app)))
    without = {
        name
        for name, command in found.items()
        if [opt for one in command.params for opt in one.opts].count("--data-dir") != 1
    }
    assert without == ALONE
    assert len(found) > 80


@contextmanager
def an_up(folder: Path) -> Iterator[list[str]]:
    """A folder that an `up` runs from, whose API knows no handler; what it was asked."""
    asked: list[str] = []

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers['Authorization']}")
            body = b'{"items": []}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        kept = {"api_url": url, "admin_token": "of-this-up", "output_url": "redis://127.0.0.1:1"}
        (folder / "secrets.json").write_text(json.dumps(kept))
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


def test_the_named_folder_counts_whatever_the_environment_says(
    commands: Commands, tmp_path: Path
) -> None:
    elsewhere = {
        "HOME": "/nonexistent",
        "POSTHOUSE_URL": "http://127.0.0.1:9",
        "POSTHOUSE_TOKEN": "of-another",
        "POSTHOUSE_OUTPUT_URL": "redis://127.0.0.1:9",
    }
    named = ("--data-dir", str(tmp_path))
    with an_up(tmp_path) as asked:
        listed = commands.run(("handlers", "list", *named), elsewhere)
        tailed = commands.run(("tail", "nobody", *named), elsewhere)
    assert "No handler yet" in listed.out, listed.err
    # A queue that nobody has would be followed for ever.
    assert (tailed.code, "There is no handler named 'nobody'" in tailed.err) == (1, True)
    assert [one.rpartition(" ")[2] for one in asked] == ["of-this-up"] * 2


def test_where_no_installation_is_found_the_error_says_how_to_name_one(
    commands: Commands, tmp_path: Path
) -> None:
    for words in (("handlers", "list"), ("messages", "show", "1"), ("overview",), ("export",)):
        ran = commands.run(words, {"HOME": str(tmp_path)})
        assert ran.code == 1
        assert "--data-dir" in ran.err
