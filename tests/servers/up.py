"""`posthouse up` as a person starts it: a process of its own, read line by line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Any

from tests.servers.processes import free_port

ROOT = Path(__file__).parents[2]
_READY = "Posthouse is ready"


class Machine:
    """A data folder and a port on which `up` runs, is ended one way or another, and runs again."""

    def __init__(self, folder: Path, *, as_user: Sequence[str] = (), demo: bool = True) -> None:
        self.folder = folder
        self.port = free_port()
        self.demo = demo
        self._as_user = list(as_user)
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self.first_output = ""
        self._reader: Thread | None = None

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        """What this run of `up` has shown so far."""
        return "\n".join(self._lines)

    def start(self) -> None:
        """Returns when it says that it is ready."""
        self._lines = []
        self._process = subprocess.Popen(
            [
                *(*self._as_user, sys.executable, "-P", "-u", "-m", "cli.main", "up"),
                *("--data-dir", str(self.folder), "--port", str(self.port)),
                *(["--demo"] if self.demo else []),
            ],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd="/",
        )
        self._reader = Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        self.wait_for(_READY)

    def started(self) -> Machine:
        """Runs, whatever happened to it before."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        return self

    def wait_for(self, pattern: str, *, seconds: float = 240) -> None:
        """Until the output shows this (a regular expression)."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.output):
            assert self._process is not None
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise AssertionError(
                    f"{pattern!r} was not shown{' before up ended' if ended else ''}:\n"
                    f"{self.output}\n{self._logs()}"
                )
            time.sleep(0.05)

    def end(self, number: int) -> int:
        """Sends a signal to `up` alone; returns its exit code when it has ended."""
        assert self._process is not None and self._reader is not None
        self._process.send_signal(number)
        code = self._process.wait(120)
        self._reader.join(10)
        return code

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs another `posthouse` command beside it."""
        return subprocess.run(
            [*self._as_user, sys.executable, "-P", "-m", "cli.main", *arguments],
            env=self.environment() | {"POSTHOUSE_DATA_DIR": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
            cwd="/",
            **options,
        )

    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("POSTHOUSE_")}
        return clean | {"PYTHONPATH": f"{ROOT}:{ROOT / 'sdk' / 'src'}", "COLUMNS": "200"}

    def processes(self) -> list[int]:
        """Every process that belongs to this folder: by its command line, its environment, or where
        it works (some servers write over the other two)."""
        mark, found = str(self.folder).encode(), []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                known = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                known += os.fsencode((entry / "cwd").readlink())
                is_zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                continue
            if mark in known and not is_zombie:
                found.append(int(entry.name))
        return found

    def pid_of(self, name: str) -> int:
        """The process that a child runs as now: a service, `demo handler`, `postgres`, `broker`."""
        record = self.folder / "run" / f"{name.replace(' ', '-')}.json"
        pid = int(json.loads(record.read_text())["pid"])
        if pid not in self.processes():
            raise LookupError(f"{name} does not run")
        return pid

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.append(line.rstrip("\n"))

    def _logs(self) -> str:
        parts = []
        for path in sorted((self.folder / "logs").glob("*.log")):
            parts.append(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}")
        return "\n".join(parts)
