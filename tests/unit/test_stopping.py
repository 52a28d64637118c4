"""A signal stops a service whatever its main thread is doing at that moment."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

# Looks at the event without a pause, so that most signals find its lock taken: while a thread
# waits, the lock is free. Each service is a child of one process that has imported everything.
SERVICES = """
import os, sys
from shared.telemetry.service_lifecycle import stop_on_signals
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        stop = stop_on_signals()
        print(os.getpid(), flush=True)
        while not stop.wait(0):
            pass
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_busy_wait_is_ended_by_every_signal() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVICES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as services:
        assert services.stdin is not None
        assert services.stdout is not None
        for number in (signal.SIGTERM, signal.SIGINT) * 15:
            services.stdin.write("start\n")
            services.stdin.flush()
            service = int(services.stdout.readline())
            os.kill(service, number)
            ended, _, _ = select.select([services.stdout], [], [], 20)
            if not ended:
                os.kill(service, signal.SIGKILL)
            assert services.stdout.readline() == "0\n"
        services.stdin.close()
