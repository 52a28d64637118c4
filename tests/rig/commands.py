"""Runs `posthouse …` in a blink: a process that has imported it, and forks on demand.

`Commands` is the handle for tests; this file, run as a program, is the process itself. It reads one
JSON line a command (words, environment, columns of the terminal or null) and answers with one: exit
status and what was said.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.servers.processes import end_with_parent

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Ran:
    """`code` is the exit status; in a terminal all that was said is in `out`."""

    code: int
    out: str
    err: str


class Commands:
    """One a test session. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).resolve())],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'sdk/src'}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=end_with_parent,
            text=True,
        )

    def run(
        self, words: Sequence[str], environment: Mapping[str, str], *, columns: int | None = None
    ) -> Ran:
        """Nothing on standard input; into pipes, or a terminal of so many columns."""
        order = {"words": list(words), "environment": dict(environment), "columns": columns}
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return Ran(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def _be(words: list[str], environment: dict[str, str], out: int, err: int) -> None:
    from cli.main import main

    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    for number, descriptor, name in ((1, out, "stdout"), (2, err, "stderr")):
        os.dup2(descriptor, number)
        before = getattr(sys, name)
        new = io.TextIOWrapper(
            io.FileIO(number, "w"),
            encoding=before.encoding,
            errors=before.errors,
            line_buffering=os.isatty(number),
        )
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["posthouse", *words]
    main()


def _forked(order: dict[str, Any], out: int, err: int) -> int:
    """The process id of the command."""
    pid = os.fork()
    if pid:
        return pid
    code: object = 1
    try:
        _be(order["words"], order["environment"], out, err)
        code = 0
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def _in_terminal(order: dict[str, Any]) -> dict[str, Any]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, order["columns"], 0, 0))
    pid = _forked(order, theirs, theirs)
    os.close(theirs)
    said = b""
    try:
        while chunk := os.read(ours, 65536):
            said += chunk
    except OSError:  # Linux says so that the other side is closed
        pass
    os.close(ours)
    return {"code": _status(pid), "out": said.decode(), "err": ""}


def _in_pipes(order: dict[str, Any]) -> dict[str, Any]:
    """Into files, which take any amount while nobody reads them."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        code = _status(_forked(order, out.fileno(), err.fileno()))
        return {"code": code, "out": _read(out), "err": _read(err)}


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def _status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    import httpx  # noqa: F401
    import rich.progress
    import rich.table  # noqa: F401

    import cli.main  # noqa: F401

    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps((_in_terminal if order["columns"] else _in_pipes)(order)), flush=True)


if __name__ == "__main__":
    main()
