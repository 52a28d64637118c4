"""Children of `posthouse up` as real processes: restarted, stopped, found again, never mistaken."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import rich.console

from cli.local import processes, supervisor
from cli.local.console import Console
from cli.local.supervisor import Program, Supervisor
from shared.errors import TryAgain

_STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('up', flush=True); time.sleep(60)"
)


@pytest.fixture
def shown() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def stack(tmp_path: Path, shown: io.StringIO) -> Iterator[Supervisor]:
    console = Console()
    console._rich = rich.console.Console(file=shown, width=200, soft_wrap=True)
    (tmp_path / "logs").mkdir()
    (tmp_path / "run").mkdir()
    kept = Supervisor(tmp_path / "logs", tmp_path / "run", console)
    yield kept
    kept.impatient = True
    kept.stop()


def _python(name: str, code: str, **options: object) -> Program:
    return Program(name, [sys.executable, "-u", "-c", code], **options)  # type: ignore[arg-type]


def _tend_until(stack: Supervisor, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        stack.supervise()
        time.sleep(0.02)


def test_a_child_that_dies_comes_back_after_growing_pauses(
    stack: Supervisor, shown: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE", 0.01)
    child = stack.start(_python("fetcher", "print('born', flush=True); raise SystemExit(3)"))
    child._pause = 0.01
    _tend_until(stack, lambda: child.log.read_bytes().count(b"born") >= 3)
    told = [line for line in shown.getvalue().splitlines() if "ended with exit code 3" in line]
    assert told[0].startswith("! fetcher") and str(child.log) in told[0]
    pauses = [float(line.split(" in ")[1].split(" s")[0]) for line in told]
    assert pauses == sorted(set(pauses))  # each longer than the one before


def test_a_child_that_is_killed_is_named_with_its_signal(
    stack: Supervisor, shown: io.StringIO
) -> None:
    child = stack.start(_python("admin", "import time; time.sleep(60)"))
    child.signal(signal.SIGKILL)
    _tend_until(stack, lambda: "SIGKILL" in shown.getvalue())
    _tend_until(stack, lambda: child.is_running)


def test_stopping_waits_for_the_grace_and_no_longer(stack: Supervisor, shown: io.StringIO) -> None:
    stubborn = stack.start(_python("stubborn", _STUBBORN, grace=0.3))
    polite = stack.start(_python("polite", "import time; print('up', flush=True); time.sleep(60)"))
    _tend_until(
        stack, lambda: b"up" in stubborn.log.read_bytes() and b"up" in polite.log.read_bytes()
    )
    stack.stop()
    assert not stubborn.is_running and not polite.is_running
    assert "stubborn did not stop in time" in shown.getvalue()
    assert "polite did not" not in shown.getvalue()


def test_only_problems_reach_the_console_and_what_speaks_is_shown_whole(
    stack: Supervisor, shown: io.StringIO
) -> None:
    lines = [
        '{"level": "info", "message": "dull"}',
        '{"level": "warning", "message": "mailbox slow", "connection": 7}',
        "LOG: nothing",
        "FATAL: too many",
    ]
    code = f"import time\nfor l in {lines!r}: print(l, flush=True)\ntime.sleep(60)"
    stack.start(_python("fetcher", code, problem=b"FATAL"))
    stack.start(_python("handler", "import time; print('a [mail]'); time.sleep(60)", speaks=True))
    _tend_until(stack, lambda: "FATAL" in shown.getvalue() and "[mail]" in shown.getvalue())
    assert "mailbox slow" in shown.getvalue() and "connection=7" in shown.getvalue()
    assert "dull" not in shown.getvalue() and "LOG: nothing" not in shown.getvalue()
    assert "a [mail]" in shown.getvalue()


def test_what_never_gets_ready_is_an_error_that_names_its_log(stack: Supervisor) -> None:
    def never() -> None:
        raise TryAgain("no answer")

    child = stack.start(_python("broker", "import time; time.sleep(60)", ready=never))
    with pytest.raises(TryAgain, match=r"broker was not ready.*no answer") as caught:
        stack.wait_ready([child], 0.2, lambda: False)
    assert str(child.log) in caught.value.hint
    stack.wait_ready([child], 60, lambda: True)  # somebody pressed Ctrl-C: no waiting


def test_a_child_that_says_it_is_stuck_is_ended(
    stack: Supervisor, shown: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    monkeypatch.setattr(supervisor, "_PROBE_EVERY", 0.05)
    server = HTTPServer(("127.0.0.1", 0), Stuck)
    Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    child = stack.start(_python("fetcher", "import time; time.sleep(60)", health_port=port))
    first = child._process.pid if child._process else 0
    _tend_until(stack, lambda: "makes no progress" in shown.getvalue())
    _tend_until(stack, lambda: child.is_running and child._process.pid != first)  # type: ignore[union-attr]
    server.shutdown()


def test_a_left_over_is_ended_by_its_record(tmp_path: Path, stack: Supervisor) -> None:
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    processes.record(tmp_path / "run" / "fetcher.json", orphan.pid, signal.SIGTERM)
    assert stack.stop_left_over() == ["fetcher"]
    assert orphan.wait(10) == -signal.SIGTERM
    assert not (tmp_path / "run" / "fetcher.json").exists()


def test_a_pid_that_belongs_to_somebody_else_now_is_left_alone(
    tmp_path: Path, stack: Supervisor
) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    path = tmp_path / "run" / "postgres.json"
    processes.record(path, stranger.pid, signal.SIGINT)
    path.write_text(path.read_text().replace(processes.identity(stranger.pid), "another/1"))
    (tmp_path / "run" / "damaged.json").write_text("{")
    assert stack.stop_left_over() == []
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from cli.local import processes\n"
        "child = processes.spawn([sys.executable, '-c', 'import time; time.sleep(60)'],"
        " log=Path(sys.argv[1]))\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "log")], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    known = processes.identity(pid)
    assert known
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while processes.identity(pid) == known:
        assert time.monotonic() < deadline, "an orphan"
        time.sleep(0.02)
    assert processes.identity(os.getpid())
