"""What a shell completes, asked as a shell asks; and names that nothing has."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.integration.api.conftest import TOKEN, Api, Posthouse


def completed(api: Api, line: str, **more: str) -> list[str]:
    """What bash offers for the last word of a line."""
    words = line.split(" ")
    env = {
        **os.environ,
        "POSTHOUSE_URL": api.url,
        "POSTHOUSE_TOKEN": TOKEN,
        "_POSTHOUSE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    program = Path(sys.executable).with_name("posthouse")
    ran = subprocess.run(
        [program], env=env | more, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.stderr == ""
    return ran.stdout.split()


def test_words_and_names_are_completed(api: Api) -> None:
    mark = uuid.uuid4().hex[:8]
    api.create(tags=[f"{mark}-one", f"{mark}-two"])
    api.http.post("handlers", json={"name": f"h-{mark}"})
    assert completed(api, "posthouse connections bul") == ["bulk"]
    assert completed(api, "posthouse connections list --health over") == ["overdue"]
    assert completed(api, f"posthouse connections list --tag {mark}-t") == [f"{mark}-two"]
    assert completed(api, f"posthouse tail h-{mark[:4]}") == [f"h-{mark}"]
    away = "http://127.0.0.1:1"
    assert completed(api, f"posthouse tail h-{mark[:4]}", POSTHOUSE_URL=away) == []


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_tail_of_an_unknown_handler_says_so(posthouse: Posthouse, form: tuple[str, ...]) -> None:
    ran = posthouse("tail", "nobody-has-this", *form)
    assert ran.code == 1
    assert "There is no handler named 'nobody-has-this'" in ran.err
