"""What starting a server as a child process needs, whichever server it is.

A session that is killed with SIGKILL runs no finaliser: a server ends with its parent
(`end_with_parent`), or a guard that reads from a pipe notices (`ServerProcess`).
"""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


#: Below those that the kernel gives to outgoing connections.
_PORTS = range(15_000, 32_000)
#: So many test processes side by side (pytest-xdist) have ports of their own.
_PARTS = 8


def ports_of(worker: str) -> Iterator[int]:
    """The ports of a test process, over and over; of all of them, where it is none of several.

    In their order: none comes again soon, also where its server is stopped for a while.
    """
    own = _PORTS
    if worker:
        size = len(_PORTS) // _PARTS
        first = int(worker.removeprefix("gw")) % _PARTS * size
        own = _PORTS[first : first + size]
    start = random.SystemRandom().randrange(len(own))
    return itertools.cycle([*own[start:], *own[:start]])


_OWN_PORTS = ports_of(os.environ.get("PYTEST_XDIST_WORKER", ""))


def free_port() -> int:
    """A loopback port that nobody listens on right now, and that no other server gets meanwhile."""
    while True:
        port = next(_OWN_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def end_with_parent() -> None:
    """For `preexec_fn`: the kernel ends this child when the test session dies, however it dies.

    To the kernel the parent is the thread: a server that is to stay is not started by a short one.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def private_folder(name: str, owner: str | None = None) -> Path:
    """A new folder below the temporary one (short: some servers put sockets there)."""
    folder = Path(tempfile.mkdtemp(prefix=f"posthouse-{name}-"))
    if owner is not None and os.getuid() == 0:
        shutil.chown(folder, user=owner)
    return folder


def wait_until(
    ready: Callable[[], bool],
    what: str,
    *,
    seconds: float = 30,
    process: subprocess.Popen[bytes] | None = None,
    log: Path | None = None,
) -> None:
    """Polls until `ready()`; fails with the end of the server's log where it never gets so."""
    deadline = time.monotonic() + seconds
    while not ready():
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-3000:] if log and log.exists() else ""
            why = "ended at once" if ended else f"was not ready in {seconds:.0f} s"
            raise RuntimeError(f"{what} {why}.\n{tail}")
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    """The direct children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def accepts(port: int) -> bool:
    """Whether something accepts connections on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class ServerProcess:
    """One running server. `log` takes its output; crash dumps lie in `folder`, or beside it."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(argv),
                env=None if env is None else dict(env),
                cwd=folder or log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", f"read -r _; kill -9 -- -{self._process.pid} 2>/dev/null"],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_until(self, ready: Callable[[], bool], *, seconds: float = 60) -> None:
        """Returns once `ready()`; raises with the end of the log where that does not come."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running or time.monotonic() > deadline:
                what = "did not come up" if self.running else "ended at once"
                self.kill()
                tail = self.log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{self._process.args!r} {what}:\n{tail}")
            time.sleep(0.02)

    def pause(self) -> None:
        """SIGSTOP: the server keeps its connections and answers nothing."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def stop(self, *, seconds: float = 30) -> None:
        """SIGTERM, as an administrator stops it; SIGKILL where it takes longer than `seconds`."""
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                pass
        self.kill()

    def kill(self) -> None:
        """SIGKILL to all of it, as the kernel does when memory runs out."""
        self._guard.kill()
        self._guard.wait()
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
