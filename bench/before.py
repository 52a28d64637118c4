"""The code of an earlier commit beside this one: each in a process of its own, in turns."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
THIS = "this"


@contextmanager
def codes(before: str, measuring: Sequence[str] = ()) -> Iterator[dict[str, Path]]:
    """Name → tree of each code to measure; that of the commit `before` (empty: none) first.

    The files that are `measuring` come from this code there, too.
    """
    if not before:
        yield {THIS: ROOT}
        return
    tree = Path(tempfile.mkdtemp(prefix="posthouse-before-"))
    try:
        archive = subprocess.run(
            ["git", "archive", before], cwd=ROOT, check=True, stdout=subprocess.PIPE
        ).stdout
        subprocess.run(["tar", "-x"], cwd=tree, input=archive, check=True)
        for file in measuring:
            shutil.copy(ROOT / file, tree / file)
        if _needs(tree) != _needs(ROOT):  # else the environment that runs this has it all
            subprocess.run(["make", "-s", ".venv/.dev"], cwd=tree, check=True, stdout=sys.stderr)
        yield {f"before ({before})": tree, THIS: ROOT}
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def _needs(tree: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (tree / "requirements").glob("dev.*")}


def in_turn(codes: dict[str, Path], turn: int) -> list[tuple[str, Path]]:
    """The codes in the order of this turn: each is the first one in every other."""
    return list(codes.items())[:: 1 if turn % 2 == 0 else -1]


def ask(tree: Path, question: str, argv: Sequence[str]) -> None:
    """`python -m bench` in a process that imports `tree` and nothing of another one."""
    path = os.pathsep.join([str(tree), str(tree / "sdk" / "src")])
    own = tree / ".venv" / "bin" / "python"
    subprocess.run(
        [str(own) if own.exists() else sys.executable, "-m", "bench", question, *argv],
        cwd=tree,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def measured(tree: Path, question: str, argv: Sequence[str]) -> Any:
    """What the bench of `tree` found: the JSON that it writes to the file after `--one`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "measured.json"
        ask(tree, question, [*argv, "--one", str(out)])
        return json.loads(out.read_text())


def beside(
    commit: str, measuring: Sequence[str], question: str, turns: int, argv: Sequence[str], *,
    peers: bool, renamed: Mapping[str, str],
) -> dict[str, list[Any]]:  # fmt: skip
    """What a bench finds by name, of a commit and of this code, in turns with servers of their own.

    What the commit's code finds is called as `renamed` says, else `… before`. The peers are asked
    beside this code alone, where `peers` are wanted.
    """
    found: dict[str, list[Any]] = {}
    with codes(commit, measuring) as trees:
        for turn in range(turns):
            for name, tree in in_turn(trees, turn):
                is_this = name == THIS
                alone = [] if is_this and peers else ["--only-posthouse"]
                for what, values in measured(tree, question, [*argv, *alone]).items():
                    of = what if is_this else renamed.get(what, f"{what} before")
                    found.setdefault(of, []).extend(values)
    return found
