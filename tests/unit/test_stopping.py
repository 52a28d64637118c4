"""A signal stops a service whatever its main thread is doing at that moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

# Waits in ticks so short that the signal nearly always finds the event's lock taken.
SERVICE = """
from shared.telemetry.service_lifecycle import stop_on_signals
stop = stop_on_signals()
print("ready", flush=True)
while not stop.wait(0.00001):
    pass
"""


def test_a_busy_wait_is_ended_by_every_signal() -> None:
    for number in (signal.SIGTERM, signal.SIGINT) * 15:
        service = subprocess.Popen(
            [sys.executable, "-c", SERVICE], stdout=subprocess.PIPE, env={**os.environ}, text=True
        )
        assert service.stdout is not None
        with service.stdout:
            service.stdout.readline()
            service.send_signal(number)
            try:
                assert service.wait(timeout=20) == 0
            finally:
                service.kill()
                service.wait()
