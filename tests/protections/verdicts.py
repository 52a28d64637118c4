"""Whether the tests of a protection fail without it, and by what."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import pytest

from tests.protections import Protection
from tests.protections.copied_tree import CopiedTree
from tests.servers.processes import end_with_parent

#: What says that the code does not fit together any more, and nothing of what it protects.
_DOES_NOT_FIT: Final = (
    "ImportError",
    "ModuleNotFoundError",
    "NameError",
    "SyntaxError",
    "UnboundLocalError",
    "psycopg.errors.SyntaxError",
    "psycopg.errors.Undefined",
)
#: Of a reason, characters that are shown.
_SHOWN: Final = 160


class Word(Enum):
    HELD = "held"
    NOT_HELD = "not held"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Verdict:
    word: Word
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Ran:
    """`code` of pytest, None where it did not end; what tests said that failed, by their names, and
    those that could not begin or end."""

    code: int | None
    failures: Sequence[tuple[str, str]] = ()
    errors: Sequence[tuple[str, str]] = ()


def passes(tree: CopiedTree, tests: Sequence[str], timeout_s: float) -> bool:
    """Whether the tests pass in the tree as it is."""
    return _run(tree, tests, timeout_s).code == pytest.ExitCode.OK


def verdict(tree: CopiedTree, one: Protection, timeout_s: float) -> Verdict:
    """What its tests say without it."""
    try:
        text = one.removed_from((tree.folder / one.module).read_text(encoding="utf-8"))
    except ValueError as error:
        return Verdict(Word.BROKEN, str(error))
    with tree.changed(one.module, text):
        if reason := _does_not_fit(tree, one.module):
            return Verdict(Word.BROKEN, reason)
        return _judged(_run(tree, one.tests, timeout_s), timeout_s)


def _judged(ran: _Ran, timeout_s: float) -> Verdict:
    if ran.code is None:
        return Verdict(Word.BROKEN, f"no end within {timeout_s:.0f} s")
    if ran.code == pytest.ExitCode.OK:
        return Verdict(Word.NOT_HELD)
    if ran.code != pytest.ExitCode.TESTS_FAILED:
        return Verdict(Word.BROKEN, f"pytest ended with {ran.code}: nothing was tested")
    if not ran.failures:
        what = _shown(*ran.errors[0]) if ran.errors else "nothing is told"
        return Verdict(Word.BROKEN, f"no test failed, but what one needs: {what}")
    test, said = ran.failures[0]
    shown = _shown(test, said)
    if said.startswith(_DOES_NOT_FIT) or "pytest-timeout" in said:
        return Verdict(Word.BROKEN, shown)
    return Verdict(Word.HELD, shown)


def _shown(test: str, said: str) -> str:
    return f"{test}: {' '.join(said.split())[:_SHOWN]}"


def _does_not_fit(tree: CopiedTree, module: str) -> str:
    """Why the changed module is no program any more; empty where it is one, or has statements of
    Postgres, whose tests say so."""
    if not module.endswith(".py"):
        return ""
    command = ["-m", "ruff", "check", "--quiet", "--no-cache", "--output-format=concise"]
    checked = subprocess.run(
        [tree.python, *command, "--select=E9,F821,F822,F823", module],
        cwd=tree.folder,
        check=False,
        capture_output=True,
        text=True,
    )
    return " ".join((checked.stdout + checked.stderr).split()[:30]) if checked.returncode else ""


def _run(tree: CopiedTree, tests: Sequence[str], timeout_s: float) -> _Ran:
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.xml"
        options = ["-q", "-n", "0", "-x", "-p", "no:cacheprovider", f"--junitxml={results}"]
        process = subprocess.Popen(
            [tree.python, "-m", "pytest", *options, *tests],
            cwd=tree.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        try:
            code = process.wait(timeout_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                return _Ran(None)
            raise
        if not results.exists():
            return _Ran(code)
        return _Ran(code, _told(results, "failure"), _told(results, "error"))


def _told(results: Path, kind: str) -> list[tuple[str, str]]:
    return [
        (case.get("name", ""), told.get("message", ""))
        for case in ElementTree.parse(results).iter("testcase")
        for told in case.findall(kind)
    ]
