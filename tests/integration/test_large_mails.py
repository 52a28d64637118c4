"""A mail of 150 MB streams through in little memory, whatever the protocol."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shared.connections import Mode
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot

_SIZE = 150_000_000
#: Runs in a process of its own, whose memory is then the mailbox's alone.
_READER = """
import hashlib, json, sys
from shared.connections import Connection, Mode, Selection, TransportSecurity
from shared.mailbox.base import Login
from shared.mailbox.open import open_mailbox

class Known:
    def missing(self, keys): return list(keys)
    def count(self): return 0

class Digest:
    def __init__(self): self.sums, self.longest = [], 0
    def begin(self, ref): self.sum = hashlib.sha256()
    def write(self, chunk):
        self.sum.update(chunk)
        self.longest = max(self.longest, len(chunk))
    def end(self): self.sums.append(self.sum.hexdigest())
    def abandon(self, ref, reason): raise reason

mode, port, user, ca = sys.argv[1:]
connection = Connection(
    name="large", mode=Mode(mode), host="localhost", port=int(port), username=user,
    has_password=True, security=TransportSecurity.TLS, ca_certificate=open(ca).read(),
)
mailbox = open_mailbox(connection, Login(user, "secret"))
mailbox.open("")
new = mailbox.list_new(Known(), Selection.UNREAD).new
sink = Digest()
mailbox.download(new, sink, limit=200_000_000)
mailbox.close()
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
peak = int(status["VmHWM"].split()[0]) * 1024
print(json.dumps({"sums": sink.sums, "longest": sink.longest, "peak": peak}))
"""


@pytest.fixture(scope="module")
def large_mail(dovecot: Dovecot) -> tuple[str, str]:
    """A user whose inbox holds one mail of 150 MB, and its SHA-256."""
    return "large-mail", dovecot.deliver_large("large-mail", "large", _SIZE)


@pytest.mark.promise("I6")
@pytest.mark.parametrize("mode", [Mode.IMAP, Mode.POP3])
def test_150_mb_in_bounded_memory(
    dovecot: Dovecot, authority: Authority, large_mail: tuple[str, str], mode: Mode
) -> None:
    user, digest = large_mail
    port = dovecot.imaps_port if mode is Mode.IMAP else dovecot.pop3s_port
    done = subprocess.run(
        [sys.executable, "-c", _READER, mode, str(port), user, str(authority.certificate)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["sums"] == [digest]
    assert found["longest"] <= 262_144
    assert found["peak"] < 200_000_000
    print(f"{mode}: {found['peak'] / 1e6:.0f} MB resident")
