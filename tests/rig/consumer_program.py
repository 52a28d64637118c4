"""A handler's program with the SDK: `python -m tests.rig.consumer_program URL HANDLER FILE [STEP]`.

Writes the id of each event to FILE. With STEP it ends as by SIGKILL at its fifth event: `taken`,
before it is written, or `answered`, after it; or it stands still there until SIGCONT: `stalled`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from posthouse import Consumer, MailEvent

_LAST = 5


def main(url: str, handler: str, file: str, step: str = "") -> None:
    """Until it is stopped."""
    count = 0

    def handle(event: MailEvent) -> None:
        nonlocal count
        count += 1
        if count == _LAST and step == "taken":
            os.kill(os.getpid(), signal.SIGKILL)
        if count == _LAST and step == "stalled":
            # For this thread: sent to the process, another one may take it, and this one goes on
            # until the stop reaches it.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        with Path(file).open("a") as out:
            out.write(f"{event.id}\n")
        if count == _LAST and step == "answered":
            os.kill(os.getpid(), signal.SIGKILL)

    Consumer(url, handler, stale_after_s=2).run(handle)


if __name__ == "__main__":
    main(*sys.argv[1:])
