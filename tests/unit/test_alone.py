"""What `make test` says of tests that failed among all others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.alone import CACHE, MOST, MOST_TESTS, main

ROOT = Path(__file__).parents[2]
TESTS = """
import os
import pathlib
import signal

import pytest

HERE = pathlib.Path(__file__).parent

def first_time(name):
    been = HERE / name
    if been.exists():
        return False
    been.touch()
    return True

def test_unlucky():
    pass

def test_broken():
    assert False

def test_sometimes():
    assert not first_time("been")

@pytest.fixture(scope="module")
def server():
    assert not first_time("server"), "it did not start"

@pytest.mark.parametrize("number", range(9))
def test_needs_it(server, number):
    pass

@pytest.fixture
def ends():
    yield
    assert not first_time("ends")

def test_ends(ends):
    pass

def test_kills_its_process():
    if first_time("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def without_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take seconds to import, in each of the processes that are started here."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "xdist.plugin")


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
        ([f"test_{number}" for number in range(MOST + 1)], 1, 1),
        ([], 1, 1),
    ],
)
def test_only_what_passes_alone_is_let_through(
    failed: list[str], code: int, ends: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_some.py").write_text(TESTS.replace("not first_time", "first_time"))
    kept(tmp_path, "cache/lastfailed", {f"test_some.py::{name}": True for name in failed})
    assert main(tmp_path, code) == ends
    assert ("failed among all and pass alone" in capfd.readouterr().out) is (ends == 0)


def kept(root: Path, name: str, values: dict[str, object]) -> None:
    path = root / CACHE / "v" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def test_by_one_fault_not_all_tests_may_fail(tmp_path: Path) -> None:
    """To try all of them again would take as long as all of them took."""
    failed = [f"test_some.py::test_{number}" for number in range(MOST_TESTS + 1)]
    kept(tmp_path, "cache/lastfailed", dict.fromkeys(failed, True))
    kept(tmp_path, "alone/faults", dict.fromkeys(failed, "a server did not start"))
    assert main(tmp_path, 1) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_fixture_or_the_end_of_a_process_did_is_one_fault(
    workers: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nine tests could not begin, one could not end, and one was running in a process that died."""
    (tmp_path / "test_some.py").write_text(TESTS)
    chosen = "needs_it or test_ends" + (" or kills" if workers else "")
    options = ["-p", "tests.alone", "-o", f"cache_dir={CACHE}", "--dist", "worksteal", "-k", chosen]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", str(workers), *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    failed = json.loads((tmp_path / CACHE / "v/cache/lastfailed").read_text())
    if workers:
        assert "test_some.py::test_kills_its_process" in failed
    else:  # of two processes it is chance which of them has how many of the nine
        assert len(failed) == 10
    assert main(tmp_path, ran.returncode) == 0
    told = capfd.readouterr().out.rpartition("to be found:\n")[2]
    assert told.splitlines() == [*failed]
