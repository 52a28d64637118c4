"""Keeps child processes running: starts them, starts them again when they end, stops them in order.

A child that ends comes back after a pause that doubles up to half a minute; one that has run well
for a minute starts over with short pauses. A child that answers `/healthz` with "stuck" three
times in a row is ended and comes back the same way.
"""

from __future__ import annotations

import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cli.local import processes
from cli.local.console import Console, Follower
from shared.errors import PosthouseError, TryAgain

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_RUNS_WELL: Final = 60.0
_PROBE_EVERY: Final = 15.0
_STUCK_AFTER: Final = 3
_LARGEST_LOG: Final = 20 << 20
#: How a Python program says why it ended: our own errors, or the last line of a traceback.
CRASH: Final = rb"^([\w.]+\.)?(\w*Error|\w*Exception)\b"


@dataclass(frozen=True)
class Program:
    """A program to keep running.

    `ready` raises until it can be used. `problem` matches the lines of its log that people should
    see where the log is not JSON; `speaks` shows every line as it is. `health_port` is where it
    answers `/healthz` and `/readyz`.
    """

    name: str
    argv: Sequence[str | Path]
    environment: Mapping[str, str] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 30.0
    ready: Callable[[], None] | None = None
    health_port: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    problem: bytes = b""
    speaks: bool = False


class Child:
    """One program, running or about to run again."""

    def __init__(self, program: Program, logs: Path, records: Path, console: Console) -> None:
        self.program = program
        self.log = logs / f"{program.name}.log"
        self._record = records / f"{program.name}.json"
        self._console = console
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._again_at = 0.0
        self._pause = _FIRST_PAUSE
        self._probed_at = 0.0
        self._stuck = 0
        if self.log.exists() and self.log.stat().st_size > _LARGEST_LOG:
            self.log.replace(self.log.with_suffix(".log.1"))
        self.follower = Follower(
            program.name, self.log, console, problem=program.problem, speaks=program.speaks
        )

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        program = self.program
        self._process = processes.spawn(
            program.argv,
            log=self.log,
            environment=program.environment,
            stop_signal=program.stop_signal,
            **program.options,
        )
        processes.record(self._record, self._process.pid, program.stop_signal)
        self._started_at = self._probed_at = time.monotonic()
        self._stuck = 0

    def supervise(self) -> None:
        """Notices an end, starts it again when its time has come, and shows its new log lines."""
        self.follower.show()
        now = time.monotonic()
        if self._process is None:
            if now >= self._again_at:
                self.start()
        elif self._process.poll() is not None:
            self._plan_restart(now)
        elif self.program.health_port and now - self._probed_at > _PROBE_EVERY:
            self._probed_at = now
            self._stuck = self._stuck + 1 if self._is_stuck() else 0
            if self._stuck >= _STUCK_AFTER:
                self._console.problem(self.program.name, "makes no progress; ending it")
                self.signal(signal.SIGKILL)

    def check(self) -> None:
        """Raises TryAgain until the program can be used."""
        if not self.is_running:
            raise TryAgain(f"{self.program.name} is not running.")
        if self.program.ready is not None:
            self.program.ready()
        if self.program.health_port and _status(self.program.health_port, "/readyz") != 200:
            raise TryAgain(f"{self.program.name} is not ready yet.")

    def signal(self, number: int) -> None:
        if self._process is not None:
            processes.end(self._process, number)

    def stopped(self) -> None:
        """To be called once it has ended for good."""
        self.follower.show()
        self._record.unlink(missing_ok=True)
        self._process = None

    def _plan_restart(self, now: float) -> None:
        assert self._process is not None
        if now - self._started_at > _RUNS_WELL:
            self._pause = _FIRST_PAUSE
        how = _in_words(self._process.returncode)
        self._console.problem(
            self.program.name, f"{how}; starting it again in {self._pause:g} s (log: {self.log})"
        )
        self._process = None
        self._again_at = now + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def _is_stuck(self) -> bool:
        # No answer at all may be a machine that sleeps or swaps: only "stuck" counts.
        return _status(self.program.health_port, "/healthz") == 503


class Supervisor:
    """The children of one `posthouse up`, in the order in which they were started."""

    def __init__(self, logs: Path, records: Path, console: Console) -> None:
        self._logs = logs
        self._records = records
        self._console = console
        self._children: list[Child] = []
        self.impatient = False  # set by a second Ctrl-C: no more grace

    def stop_left_over(self) -> list[str]:
        """Ends what an `up` that was killed left running here; returns the names."""
        found = []
        paths = sorted(self._records.glob("*.json"), key=lambda p: p.stem in {"postgres", "broker"})
        for path in paths:
            if processes.stop_left_over(path):
                found.append(path.stem)
        return found

    def start(self, program: Program) -> Child:
        child = Child(program, self._logs, self._records, self._console)
        self._children.append(child)
        child.start()
        return child

    def wait_ready(
        self, children: Iterable[Child], seconds: float, give_up: Callable[[], bool]
    ) -> None:
        """Tends everything until these can be used. Raises TryAgain where they do not get there.

        Returns early where `give_up()`: somebody wants everything to stop.
        """
        deadline = time.monotonic() + seconds
        waiting = list(children)
        while waiting and not give_up():
            self.supervise()
            try:
                waiting[0].check()
            except PosthouseError as error:
                if time.monotonic() > deadline:
                    name, log = waiting[0].program.name, waiting[0].log
                    raise TryAgain(
                        f"{name} was not ready within {seconds:.0f} s: {error}",
                        hint=f"Its log is {log}.",
                    ) from error
                time.sleep(0.1)
            else:
                waiting.pop(0)

    def supervise(self) -> None:
        for child in self._children:
            child.supervise()

    def stop(self, children: Iterable[Child] | None = None) -> None:
        """Asks these (default: all) to end, together; kills what does not within its grace."""
        stopping = [*(self._children if children is None else children)]
        for child in stopping:
            child.signal(child.program.stop_signal)
        begun = time.monotonic()
        while running := [child for child in stopping if child.is_running]:
            for child in running:
                child.follower.show()
                if self.impatient or time.monotonic() - begun > child.program.grace:
                    self._console.problem(child.program.name, "did not stop in time; killing it")
                    child.signal(signal.SIGKILL)
            time.sleep(0.05)
        for child in stopping:
            child.stopped()
            self._children.remove(child)


def _status(port: int, path: str) -> int:
    """The HTTP status of a child's answer; 0 where it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=3) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError):
        return 0


def _in_words(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
