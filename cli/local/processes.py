"""Child processes: started so that they end with us, recorded so that left-overs are found.

On Linux the kernel tells a child when its parent dies. Where it does not (macOS), or where the
child needs time to end, the next start finds it by its record: pid and start time, so that a pid
that meanwhile belongs to somebody else is never touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cli.local.data_folder import write_private

_PR_SET_PDEATHSIG: Final = 1


def spawn(
    argv: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    **options: Any,
) -> subprocess.Popen[bytes]:
    """Starts a program in a session of its own (Ctrl-C is ours to pass on), output into `log`.

    To be called from the main thread: the kernel counts the end of the starting thread as the
    parent's.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    parent = os.getpid()

    def prepare() -> None:
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, int(stop_signal))
            if os.getppid() != parent:  # it ended before we asked
                os._exit(1)

    with log.open("ab") as output:
        return subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment) if environment is not None else None,
            start_new_session=True,
            preexec_fn=prepare,
            **options,
        )


def record(path: Path, pid: int, stop_signal: signal.Signals) -> None:
    """Writes down that this process is ours."""
    entry = {"pid": pid, "identity": identity(pid), "signal": int(stop_signal)}
    write_private(path, json.dumps(entry).encode())


def stop_left_over(path: Path, grace: float = 30.0) -> bool:
    """Ends the process of a record, if it still runs and is ours; says whether there was one."""
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        pid, known, number = int(entry["pid"]), str(entry["identity"]), int(entry["signal"])
    except (OSError, ValueError, KeyError, TypeError):
        path.unlink(missing_ok=True)
        return False
    found = bool(known) and identity(pid) == known
    if found:
        _signal(pid, number)
        deadline = time.monotonic() + grace
        while identity(pid) == known:
            if time.monotonic() > deadline:
                _signal(pid, signal.SIGKILL)
            time.sleep(0.02)
    path.unlink(missing_ok=True)
    return found


def identity(pid: int) -> str:
    """Tells this process from any other that had or will have its pid; empty where it is gone."""
    stat = Path(f"/proc/{pid}/stat")
    if not Path("/proc/self/stat").exists():
        shown = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return shown.stdout.strip()
    try:
        after_name = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    # proc(5): state is the third field, starttime the 22nd; the name (second) is cut off here.
    return "" if after_name[0] == "Z" else f"{boot}/{after_name[19]}"


def end(process: subprocess.Popen[bytes], number: int) -> None:
    """Sends a signal to a child that may have ended already."""
    if process.poll() is None:
        _signal(process.pid, number)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
