"""`posthouse up`: everything on this machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from cli.local.console import Console
from cli.local.data_folder import DataFolder, default_folder
from cli.local.supervisor import Supervisor


def up(
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where everything is kept.", show_default="the XDG data folder"),
    ] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the API and the pages.")
    ] = 8025,
    demo: Annotated[
        bool,
        typer.Option("--demo", help="Add a mailbox with sample mails and a handler that prints."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show every log line, not just problems.")
    ] = False,
) -> None:
    """Runs everything on this machine: Postgres, a broker, all services. Ctrl-C stops it.

    What POSTHOUSE_DATABASE_URL, _BROKER_URL, _OUTPUT_URL or _STORE_URL name is used instead of its
    own.
    """
    from cli.local.stack import LocalStack  # only `up` pays for what these bring along
    from shared.telemetry import logs

    started = time.monotonic()
    logs.configure("up", level="ERROR", format="console")
    os.umask(0o077)  # logs and data are for whoever runs this, and nobody else
    console = Console(verbose=verbose)
    with DataFolder(data_dir or default_folder()) as held:
        supervisor = Supervisor(held.root / "logs", held.root / "run", console)
        stop = _stop_on_signals(supervisor)
        stack = LocalStack(held, supervisor, console, port=port, demo=demo)
        try:
            stack.start(stop.is_set)
            if not stop.is_set():
                stack.print_summary(time.monotonic() - started)
            while not stop.wait(0.2):
                stack.supervise()
        finally:
            console.say("Stopping …")
            stack.stop()
            console.say("Stopped.")


def _stop_on_signals(supervisor: Supervisor) -> threading.Event:
    stop = threading.Event()
    asked = False

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        supervisor.impatient = asked
        asked = True
        # From a thread of its own: the main thread, which this interrupts, may hold the lock.
        threading.Thread(target=stop.set, name="stop").start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup(1) keeps us running
        signal.signal(signal.SIGHUP, on_signal)
    return stop
