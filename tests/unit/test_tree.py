"""What is tracked belongs there: no dumps, logs or binaries, and nothing large without a reason."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
LARGEST = 200_000
LONGEST_MODULE = 400
#: Locks grow with what they pin.
LARGE_ON_PURPOSE = {".lock"}
PRODUCT = {"cli", "services", "shared", "sdk"}
EVERY_ERROR = {"Exception", "BaseException"}
#: What programs leave behind when they end badly, or while they run.
LEFT_BEHIND = ("MnesiaCore.", "erl_crash.dump", "core.", "dump.rdb", "nohup.out")


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_large_file_is_tracked() -> None:
    large = [
        f"{path.relative_to(ROOT)}: {path.stat().st_size} octets"
        for path in tracked()
        if path.suffix not in LARGE_ON_PURPOSE and path.stat().st_size > LARGEST
    ]
    assert not large


def test_nothing_that_a_program_left_behind_is_tracked() -> None:
    assert not [str(path) for path in tracked() if path.name.startswith(LEFT_BEHIND)]


def test_no_binary_is_tracked_outside_test_data() -> None:
    binary = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if b"\0" in path.read_bytes()[:8192] and "tests" not in path.parts
    ]
    assert not binary


def test_no_module_is_longer_than_one_reads_at_once() -> None:
    long = {
        path.relative_to(ROOT).as_posix()
        for path in tracked()
        if path.suffix == ".py" and len(path.read_bytes().splitlines()) > LONGEST_MODULE
    }
    assert not long


def test_what_catches_every_error_and_goes_on_says_why() -> None:
    """A comment behind `except Exception`, or as the first line of what is done then."""
    silent = [
        f"{path.relative_to(ROOT)}:{handler.lineno}"
        for path in tracked()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in PRODUCT
        for handler in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(handler, ast.ExceptHandler)
        and (handler.type is None or ast.unparse(handler.type) in EVERY_ERROR)
        and not isinstance(handler.body[-1], ast.Raise)
        and not any(
            "#" in line
            for line in path.read_text().splitlines()[handler.lineno - 1 : handler.body[0].lineno]
        )
    ]
    assert not silent
