"""Runs again, alone, what failed among all tests: `python -m tests.alone CODE`.

Two processes share a machine with some forty servers, and a third of a second can pass between
two lines of a test. What fails there and passes alone is a defect all the same, of the product or
of the test, and it is named at the end for whoever mends it; but it says nothing against the
change that is tested. So a few failures are tried alone, several times over, and each time must
pass. More than a few are no accident.

A fixture of a module or of the session that fails once fails all tests that ask for it: one fault,
which pytest does not tell from many. As a plugin this module notes what each of them failed by.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

#: Where pytest keeps the names of what failed (`-o cache_dir`, relative to the root of the tree).
CACHE = ".pytest_cache/all"
#: Faults, and the tests that failed by them.
MOST = 5
MOST_TESTS = 60
TIMES = 3
_FAULTS = "alone/faults"


class _Faults:
    """Notes what each test failed by: its own name, or the error of what it needs."""

    def __init__(self, cache: pytest.Cache) -> None:
        self._cache = cache
        self._faults: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._faults[report.nodeid] = _fault(report)

    def pytest_sessionfinish(self) -> None:
        self._cache.set(_FAULTS, self._faults)


def _fault(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash) if report.when == "setup" and crash is not None else report.nodeid


def pytest_configure(config: pytest.Config) -> None:
    """Where the reports of all test processes come together."""
    cache = getattr(config, "cache", None)
    if not hasattr(config, "workerinput") and cache is not None:
        config.pluginmanager.register(_Faults(cache))


def _kept(root: Path, name: str) -> Mapping[str, Any]:
    path = root / CACHE / "v" / name
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def failed(root: Path) -> list[str]:
    """The node ids of the tests that failed in the last run of all tests."""
    return list(_kept(root, "cache/lastfailed"))


def passes_alone(root: Path, tests: Sequence[str]) -> bool:
    """Whether `tests` pass, one after another in one process, every time."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-v", *tests]
    return all(subprocess.run(command, cwd=root, check=False).returncode == 0 for _ in range(TIMES))


def main(root: Path, code: int) -> int:
    """The exit code for `make`, after pytest ended with `code`: 0 where all that failed passes."""
    tests, known = failed(root), _kept(root, _FAULTS)
    faults = {known.get(one, one) for one in tests}
    # Any other code than "some tests failed" says that not all tests ran.
    if code != pytest.ExitCode.TESTS_FAILED or not tests:
        return code
    if len(faults) > MOST or len(tests) > MOST_TESTS:
        return code
    print(f"\n{len(tests)} failed among all tests. Alone, {TIMES} times:", file=sys.stderr)
    if not passes_alone(root, tests):
        return code
    print("\nThese tests failed among all and pass alone. Each is a defect to be found:")
    print(*tests, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parents[1], int(sys.argv[1])))
