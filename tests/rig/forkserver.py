"""Starts services in a blink: a process that has imported everything, and forks on demand.

`Forkserver` is the handle for tests; this file, run as a program, is the process itself. It
reads one JSON line a child: environment, service, log, and the step at which the child shall be
killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.servers.processes import end_with_parent

ROOT = Path(__file__).resolve().parents[2]
#: Seconds between what services do by themselves.
_HASTY = (
    ("shared.heartbeats", "_EVERY_S", 2.0),
    ("services.fetcher.session_affinity", "_PRUNE", 1.0),
)


class Child:
    """A service that the forkserver forked. Its exit status is not known, only that it ended."""

    def __init__(self, pid: int, service: str) -> None:
        self.pid = pid
        self.args = service

    def poll(self) -> int | None:
        """None while it runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return 0
        return None

    def wait(self, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.01)

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Forkserver:
    """One a test session. Thread-safe."""

    def __init__(
        self, root: Path = ROOT, program: Path | None = None, *, hasty: bool = False
    ) -> None:
        """`root` is the checkout whose code it runs; `program` changes it, and calls `main`.

        `hasty` shortens intervals of the services that no setting names (`_HASTY`): for tests that
        wait for what comes after one, and not for those that measure.
        """
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            # This file, whatever it is called in another checkout.
            [
                *(sys.executable, "-P", str((program or Path(__file__)).resolve())),
                *(["hasty"] if hasty else []),
            ],
            cwd=root,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "sdk/src")])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=end_with_parent,
            text=True,
        )

    def fork(
        self,
        service: str,
        environment: Mapping[str, str],
        log: Path,
        *,
        die_at: str = "",
        stall_at: str = "",
    ) -> Child:
        """`die_at` is `step` or `step:n`: SIGKILL when it is reached for the n-th time.

        `stall_at` likewise: SIGSTOP, as a machine without memory or a moved virtual one does it.
        """
        order = {
            "service": service,
            "environment": dict(environment),
            "log": str(log),
            "at": die_at or stall_at,
            "signal": signal.SIGKILL if die_at else signal.SIGSTOP,
        }
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return Child(int(self._process.stdout.readline()), service)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def struck(at: str, number: int) -> Callable[[str], None]:
    """A `reached` hook that sends a signal to this very process: SIGKILL is a power cut."""
    step, _, times = at.partition(":")
    left = [int(times or 1)]

    def reached(name: str) -> None:
        if name == step:
            left[0] -= 1
            if left[0] == 0:
                # To this thread: it takes the signal before it does anything more. One to the
                # process is taken by any thread, while this one may go on to the end of the run.
                signal.pthread_kill(threading.get_ident(), number)

    return reached


def _lifecycle() -> Any:
    """How a service begins and ends; it has another name in 0.1.0, from which upgrades start."""
    try:
        return importlib.import_module("shared.telemetry.service_lifecycle")
    except ModuleNotFoundError:
        return importlib.import_module("shared.telemetry.process")


def _be(order: dict[str, Any]) -> None:
    from shared import settings
    from shared.telemetry import logs, traces

    lifecycle = _lifecycle()

    service = order["service"]
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(order["environment"])
    kind = getattr(
        importlib.import_module(f"services.{service}.settings"), f"{service.title()}Settings"
    )
    chosen = settings.load(kind)
    logs.configure(service, level=chosen.log_level)
    traces.configure(service)
    stop = lifecycle.stop_on_signals()
    built = importlib.import_module(f"services.{service}.main").build(chosen)
    if order["at"]:
        reached = struck(order["at"], order["signal"])
        if service == "fetcher":
            built.dispatcher.tools = dataclasses.replace(built.dispatcher.tools, reached=reached)
        elif service == "forwarder":
            built.reached = reached
        else:
            built.decrypting = dataclasses.replace(built.decrypting, reached=reached)
    lifecycle.banner(service)
    try:
        built.run(stop)
    finally:
        traces.shutdown()


def main() -> None:
    import services.decryptor.main
    import services.fetcher.main
    import services.forwarder.main
    import services.scheduler.main  # noqa: F401

    for module, name, seconds in _HASTY if "hasty" in sys.argv else ():
        assert hasattr(importlib.import_module(module), name), (module, name)
        setattr(importlib.import_module(module), name, seconds)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the kernel
    for line in sys.stdin:
        order = json.loads(line)
        importlib.import_module(f"services.{order['service']}.main")  # admin's, where one starts
        gc.freeze()  # a child that collects garbage would copy all that it shares
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # ends with the forkserver
            os.setsid()
            with open(os.devnull) as nothing:
                os.dup2(nothing.fileno(), 0)
            try:
                _be(order)
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
