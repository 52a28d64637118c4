"""Runs again, alone, what failed among all tests: `python -m tests.alone CODE`.

Two processes share a machine with some forty servers, and a third of a second can pass between
two lines of a test. What fails there and passes alone is a defect all the same, of the product or
of the test, and it is named at the end for whoever mends it; but it says nothing against the
change that is tested. So a few failures are tried alone, several times over, and each time must
pass. More than a few are no accident.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

#: Where pytest keeps the names of what failed (`-o cache_dir`, relative to the root of the tree).
CACHE = ".pytest_cache/all"
MOST = 3
TIMES = 3


def failed(root: Path) -> list[str]:
    """The node ids of the tests that failed in the last run of all tests."""
    names = root / CACHE / "v" / "cache" / "lastfailed"
    return list(json.loads(names.read_text())) if names.exists() else []


def passes_alone(root: Path, tests: Sequence[str]) -> bool:
    """Whether `tests` pass, one after another in one process, every time."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-v", *tests]
    return all(subprocess.run(command, cwd=root, check=False).returncode == 0 for _ in range(TIMES))


def main(root: Path, code: int) -> int:
    """The exit code for `make`, after pytest ended with `code`: 0 where all that failed passes."""
    tests = failed(root)
    # Any other code than "some tests failed" says that not all tests ran.
    if code != pytest.ExitCode.TESTS_FAILED or not 0 < len(tests) <= MOST:
        return code
    print(f"\n{len(tests)} failed among all tests. Alone, {TIMES} times:", file=sys.stderr)
    if not passes_alone(root, tests):
        return code
    print("\nThese tests failed among all and pass alone. Each is a defect to be found:")
    print(*tests, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parents[1], int(sys.argv[1])))
