"""The short drills: each starts servers of its own, breaks what it names, and loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.drills.__main__ import NAMES
from tests.rig.stack import ROOT

SHORT = ("rotation", "failover", "rolling-upgrade")


def hold(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.drills", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.promise("I2", "I3", "I7", "T2")
@pytest.mark.parametrize("name", SHORT)
def test_a_short_drill_loses_nothing(name: str) -> None:
    held = hold(name)
    assert held.returncode == 0, held.stdout + held.stderr
    print(held.stdout)  # rolling-upgrade says from what
    last = held.stdout.splitlines()[-1]
    assert last.startswith(f"drill {name}: sent ")
    assert " lost 0 " in last


def test_what_an_upgrade_starts_from_can_be_chosen_and_is_told() -> None:
    """A typing error is no upgrade from something else."""
    held = hold("rolling-upgrade", "--from", "no-such-version")
    assert held.returncode != 0
    assert "no-such-version" in held.stderr
    assert "Traceback" not in held.stderr
    assert "lost" not in held.stdout


def test_the_page_of_operators_names_every_drill() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"| `{name}` |" not in page] == []


def test_an_unknown_drill_is_refused_with_the_names() -> None:
    held = hold("earthquake")
    assert held.returncode == 2
    assert all(name in held.stderr for name in NAMES)
