"""What `make test` says of tests that failed among all others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.alone import CACHE, main

TESTS = """
import pathlib

def test_unlucky():
    pass

def test_broken():
    assert False

def test_sometimes():
    been = pathlib.Path(__file__).with_name("been")
    assert not been.exists()
    been.touch()
"""


@pytest.mark.parametrize(
    ("failed", "code", "ends"),
    [
        (["test_unlucky"], 1, 0),
        (["test_broken"], 1, 1),
        (["test_unlucky", "test_broken"], 1, 1),
        # Once is not enough.
        (["test_sometimes"], 1, 1),
        # Stopped before all had run, or nothing was collected.
        (["test_unlucky"], 2, 2),
        ([f"test_{number}" for number in range(4)], 1, 1),
        ([], 1, 1),
    ],
)
def test_only_what_passes_alone_is_let_through(
    failed: list[str], code: int, ends: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    names = tmp_path / CACHE / "v" / "cache" / "lastfailed"
    names.parent.mkdir(parents=True)
    names.write_text(json.dumps({f"test_some.py::{name}": True for name in failed}))
    assert main(tmp_path, code) == ends
    assert ("failed among all and pass alone" in capfd.readouterr().out) is (ends == 0)
