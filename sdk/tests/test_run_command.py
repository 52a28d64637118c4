"""`python -m posthouse run`: what cannot begin says why, and what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_MODULE = "def handle(event): ...\ndef two(event, other): ...\nimport nowhere_to_be_found\n"


def _run(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("POSTHOUSE_")}
    done = subprocess.run(
        [sys.executable, "-m", "posthouse", *arguments],
        cwd=folder,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("callback", "variables", "why"),
    [
        ("tickets", {}, "'tickets' is no MODULE:CALLBACK, such as tickets:handle"),
        ("nothing:handle", {}, "there is no module 'nothing' here or among the packages"),
        ("broken:handle", {}, "No module named 'nowhere_to_be_found'"),
        ("tickets:missing", {}, "the module 'tickets' has no 'missing'"),
        ("tickets:two", {}, "cannot be called with an event alone"),
        ("tickets:handle", {}, "set POSTHOUSE_BROKER_URL, or give --url"),
        (
            "tickets:handle",
            {"POSTHOUSE_BROKER_URL": "redis://127.0.0.1:1"},
            "set POSTHOUSE_HANDLER, or give --handler",
        ),
        (
            "tickets:handle",
            {"POSTHOUSE_BROKER_URL": "redis://127.0.0.1:1", "POSTHOUSE_HANDLER": "tickets"},
            "POSTHOUSE_SIGNING_KEY",
        ),
    ],
)
def test_what_cannot_begin_says_why(
    tmp_path: Path, callback: str, variables: dict[str, str], why: str
) -> None:
    (tmp_path / "broken.py").write_text(_MODULE)
    (tmp_path / "tickets.py").write_text(_MODULE.replace("import nowhere_to_be_found\n", ""))
    code, said = _run(tmp_path, "run", callback, **variables)
    assert code == 2
    assert why in said


def test_a_hook_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "tickets.py").write_text("def handle(event): ...\n")
    code, said = _run(tmp_path, "run", "tickets:handle", "--on-outcome", "tickets:count")
    assert code == 2
    assert "the module 'tickets' has no 'count'" in said
