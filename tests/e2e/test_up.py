"""`posthouse up --demo`, as somebody with nothing but this machine meets it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psycopg
import pytest

from shared.storage.sealed_columns import columns_of
from shared.vault import SecretKey
from tests.servers.processes import private_folder
from tests.servers.up import Machine

# Seven processes start anew five times here: seconds on a quiet machine, minutes on a busy one.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SUBJECTS = (
    "Welcome to Posthouse",
    "Grüße aus Köln: Rückfrage zur Bestellung",
    "Angebot für Müller",
    "Newsletter",
    "Your receipt, with a logo",
    "Rechnung 2026-0815",
    "Weekly figures",
    "Scan of 40 pages",
    "Invitation: stand-up",
    r"Re: \[ticket #4711\]",
    "お問い合わせ",
    "Undelivered mail returned",
    r"\(no subject\)",
    r"Payslip \(encrypted\)",
    r"Contract draft \(signed\)",
    r"Minutes \(signed, then encrypted\)",
)
#: From within: two of them were encrypted, one is the name of an attachment.
TEXTS = (
    "Only the holder of the attached certificate's key can read this.",
    "First signed by the board, then encrypted for you.",
    "+ Rechnung für Müller.pdf",
)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """One data folder for all tests here: each finds it as the one before left it."""
    with Machine(private_folder("up")) as made:
        made.start()
        for subject in SUBJECTS:
            made.wait_for(f"✉ {subject}")
        for text in TEXTS:
            made.wait_for(re.escape(text))
        made.first_output = made.output
        yield made


def _send(machine: Machine, subject: str, *options: str) -> None:
    sent = machine.run("demo", "send", "--subject", subject, *options)
    assert sent.returncode == 0, sent.stderr
    machine.wait_for(re.escape(subject))


def _gone(machine: Machine) -> None:
    _until(lambda: not machine.processes())


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while True:
        with contextlib.suppress(LookupError):
            if done():
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _acknowledged(machine: Machine) -> None:
    """Until the handler has acknowledged all that it was given: what it had not would come again
    after a kill, and rightly so."""
    asked = datetime.now(UTC)

    def drained() -> bool:
        told = machine.run("handlers", "show", "demo", "--json")
        if told.returncode:
            return False
        queue = json.loads(told.stdout)["queue"]
        checked = datetime.fromisoformat(queue["checked_at"] or "1970-01-01T00:00:00+00:00")
        return queue["backlog"] == 0 and checked > asked

    _until(drained)


def _answers(machine: Machine) -> bool:
    try:
        with urllib.request.urlopen(f"{machine.url}/login", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.promise("C2", "H1", "H2")
def test_the_demo_mails_reach_the_handler(machine: Machine) -> None:
    shown = machine.first_output
    assert len(re.findall("✉", shown)) == len(SUBJECTS)


def test_a_mail_from_the_command_line_shows_up(machine: Machine) -> None:
    machine.started()
    _send(machine, "From the command line", "--from", "me@example.org", "--text", "Ärger [no]")
    machine.wait_for(r"Ärger \[no\]")
    _send(machine, "Behind a lock", "--to-encrypted", "--text", "Nobody else reads this")
    machine.wait_for("decrypted.*\n.*Nobody else reads this")
    given = b"Subject: From a file\r\nFrom: a@example.org\r\n\r\n8-bit: \xe4\xf6\xfc\r\n.\r\n"
    path = machine.folder.parent / "given.eml"
    path.write_bytes(given)
    assert machine.run("demo", "send", str(path)).returncode == 0
    machine.wait_for("From a file")
    machine.wait_for(f"{len(given)} B")


def test_it_says_where_things_are_and_how_to_log_in(machine: Machine) -> None:
    machine.started()
    token = re.search(r"Log in with +(\S+)", machine.output)
    assert token is not None and machine.url in machine.output
    request = urllib.request.Request(
        f"{machine.url}/api/v1/connections", headers={"Authorization": f"Bearer {token[1]}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        (connection,) = json.load(answer)["items"]
    assert connection["name"] == "Demo mailbox" and connection["health"] == "working"


@pytest.mark.parametrize(
    ("service", "readable"),
    [
        ("fetcher", {"connection.password"}),
        ("decryptor", {"certificate.private_key"}),
        ("forwarder", set()),
    ],
)
def test_each_service_has_an_account_and_keys_of_its_own(
    machine: Machine, service: str, readable: set[str]
) -> None:
    machine.started()
    pairs = Path(f"/proc/{machine.pid_of(service)}/environ").read_text().split("\0")
    given = {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
    assert "POSTHOUSE_ADMIN_TOKEN" not in given
    keys = [SecretKey.parse(one) for one in given["POSTHOUSE_SECRET_KEYS"].split(",")]
    assert tuple(key.column for key in keys) == columns_of(service)
    found = set()
    with psycopg.connect(given["POSTHOUSE_DATABASE_URL"], autocommit=True) as session:
        for place in ("connection.password", "certificate.private_key", "person.name"):
            table, column = place.split(".")
            with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                session.execute(f"SELECT {column} FROM {table}".encode())
                found.add(place)
    assert found == readable


def test_tail_shows_events_and_takes_none_away(machine: Machine) -> None:
    machine.started()
    command = [sys.executable, "-P", "-u", "-m", "cli.main", "tail", "demo", "--json"]
    with subprocess.Popen(
        command,
        env=machine.environment() | {"POSTHOUSE_DATA_DIR": str(machine.folder)},
        stdout=subprocess.PIPE,
        text=True,
    ) as tail:
        try:
            assert tail.stdout is not None
            for attempt in range(20):  # it says nothing until it follows
                _send(machine, f"Watched {attempt}")
                if _readable(tail, 1):
                    break
            event = json.loads(tail.stdout.readline())
        finally:
            tail.terminate()
    assert event["type"] == "posthouse.mail.received.v1"
    assert event["data"]["headers"]["subject"].startswith("Watched")
    unknown = machine.run("tail", "No Such Handler")
    assert unknown.returncode == 1 and "Traceback" not in unknown.stderr


def test_ctrl_c_leaves_no_process_and_a_second_start_repeats_no_mail(machine: Machine) -> None:
    machine.started()
    assert machine.end(signal.SIGINT) == 0
    assert "Stopped." in machine.output
    _gone(machine)
    machine.start()
    _send(machine, "After a restart")
    assert len(re.findall("✉", machine.output)) == 1, machine.output


@pytest.mark.promise("I2")
def test_killed_with_all_its_children_left_to_fate_it_comes_back(machine: Machine) -> None:
    machine.started()
    _acknowledged(machine)
    assert machine.end(signal.SIGKILL) == -signal.SIGKILL
    machine.start()  # at once: what is left of the first one is still going down
    _send(machine, "After a kill")
    assert len(re.findall("✉", machine.output)) == 1, machine.output


@pytest.mark.parametrize(
    "names",
    [
        ("fetcher", "decryptor", "forwarder", "scheduler", "admin", "demo handler"),
        ("postgres", "broker"),
    ],
    ids=["services", "what they stand on"],
)
def test_what_dies_is_started_again(machine: Machine, names: tuple[str, ...]) -> None:
    machine.started()
    before = {name: machine.pid_of(name) for name in names}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    for name in names:
        machine.wait_for(f"{name.replace(' ', '-')} was ended by SIGKILL; starting it again")
        _until(partial(_runs_anew, machine, name, before[name]))
    _until(lambda: _answers(machine))  # `demo send` asks the API to look at once
    _send(machine, f"After {names[0]} died")


def test_a_second_up_on_the_same_folder_is_refused(machine: Machine) -> None:
    machine.started()
    second = machine.run("up", "--port", "1", "--data-dir", str(machine.folder))
    assert second.returncode == 1
    assert "already uses" in second.stderr and "--data-dir" in second.stderr


def test_a_taken_port_is_a_clear_error(machine: Machine, tmp_path: Path) -> None:
    machine.started()
    second = machine.run("up", "--port", str(machine.port), "--data-dir", str(tmp_path))
    assert second.returncode == 2
    assert f"Port {machine.port} is in use" in second.stderr and "Traceback" not in second.stderr


def test_it_runs_as_an_ordinary_user_too() -> None:
    if os.getuid() != 0:
        pytest.skip("the other tests here already run as an ordinary user")
    folder = private_folder("up-user")
    folder.chmod(0o777)
    with Machine(folder, as_user=_ordinary_user()) as machine:
        machine.start()
        machine.wait_for(f"✉ {SUBJECTS[0]}")
        _send(machine, "From an ordinary user")
        assert machine.end(signal.SIGTERM) == 0
        _gone(machine)


def _ordinary_user() -> list[str]:
    """How to become `nobody`: for real where nobody may run this Python, else in a namespace."""
    plain = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    again = "import cli.main, subprocess, sys; subprocess.check_call([sys.executable, '-c', ''])"
    able = subprocess.run(
        [*plain, sys.executable, "-c", again],
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
        capture_output=True,
    )
    # An interpreter below /root: the same rights as nobody has, over files that root owns.
    namespace = ["unshare", "--user", "--map-user=65534", "--map-group=65534"]
    return plain if able.returncode == 0 else namespace


def _readable(process: subprocess.Popen[str], seconds: float) -> bool:
    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], seconds)[0])


def _runs_anew(machine: Machine, name: str, before: int) -> bool:
    return machine.pid_of(name) != before
