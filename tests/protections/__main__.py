"""`python -m tests.protections [NAMES]`: removes protections one by one, and runs their tests.

NAMES: parts (`fetcher`), protections (`fetcher.quit-after-commit`) or patterns (`*.lease-*`); all
where there is none. Of each it says

- held: without it a test fails, by an assertion or an error that the product raises
- not held: without it all its tests pass
- broken: nothing can be said, as the tests fail with it as well, nothing was collected, the
  product cannot be imported any more, or there was no end within the time

and ends with 1 where one is not held or broken.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.protections import ROOT, Protection, protections
from tests.protections.copied_tree import CopiedTree
from tests.protections.verdicts import Verdict, Word, passes, verdict

#: Seconds for the tests of one protection.
_TIMEOUT_S = 300.0


def chosen(names: Sequence[str], listed: Sequence[Protection]) -> list[Protection]:
    """Raises ValueError for a name that chooses none."""
    for name in names:
        if not any(_is_meant(one, name) for one in listed):
            raise ValueError(f"{name} is neither a part nor a protection of tests/protections")
    return [one for one in listed if not names or any(_is_meant(one, name) for name in names)]


def _is_meant(one: Protection, name: str) -> bool:
    return one.part == name or fnmatch.fnmatchcase(one.full_name, name)


class _Runner:
    """Copies of the tree, each for one protection at a time."""

    def __init__(self, trees: Sequence[CopiedTree], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._free: SimpleQueue[CopiedTree] = SimpleQueue()
        for tree in trees:
            self._free.put(tree)

    def passes(self, tests: Sequence[str], timeout_s: float) -> bool:
        tree = self._free.get()
        try:
            return passes(tree, tests, timeout_s)
        finally:
            self._free.put(tree)

    def verdict(self, one: Protection, *, tests_pass: bool) -> Verdict:
        started = time.monotonic()
        if not tests_pass and not self.passes(one.tests, self._timeout_s):
            found = Verdict(Word.BROKEN, "its tests fail with it as well")
        else:
            tree = self._free.get()
            try:
                found = verdict(tree, one, self._timeout_s)
            finally:
                self._free.put(tree)
        took = f"{time.monotonic() - started:.0f} s"
        print(f"{found.word.value:<8}  {one.full_name}  ({took}) {found.reason}", flush=True)
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.protections",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAMES")
    parser.add_argument("--workers", type=int, default=1, help="so many at the same time")
    parser.add_argument("--timeout", type=float, default=_TIMEOUT_S, help="seconds for each")
    parser.add_argument(
        "--tests-pass",
        action="store_true",
        help="take for granted that the tests pass while nothing is removed",
    )
    options = parser.parse_args(arguments)
    try:
        listed = chosen(options.names, protections())
    except ValueError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory(prefix="posthouse-protections-") as folder:
        trees = [CopiedTree(ROOT, Path(folder) / str(n)) for n in range(options.workers)]
        runner = _Runner(trees, options.timeout)
        tests = sorted({test for one in listed for test in one.tests})
        tests_pass = options.tests_pass or runner.passes(tests, options.timeout * len(listed))
        with ThreadPoolExecutor(options.workers) as threads:
            found = list(
                threads.map(lambda one: runner.verdict(one, tests_pass=tests_pass), listed)
            )
    count = Counter(one.word for one in found)
    print(", ".join(f"{word.value}: {count[word]}" for word in Word))
    return 0 if count[Word.HELD] == len(found) else 1


if __name__ == "__main__":
    sys.exit(main())
