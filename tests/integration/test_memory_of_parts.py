"""A part of any size is handed out in little memory of the admin service's own (I6).

Its own are anonymous pages: those of the mail, which is read where it lies, are the file system's.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.rig.stack import ADMIN_TOKEN, Stack
from tests.servers.dovecot import Dovecot
from tests.servers.processes import free_port

_SIZE = 200_000_000
_BOUND_KB = 64 * 1024

pytestmark = pytest.mark.long


class Peak:
    """The most anonymous memory that a process had for the block, in kB."""

    def __init__(self, pid: int) -> None:
        self._file = Path(f"/proc/{pid}/smaps_rollup")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.most = 0

    def now(self) -> int:
        lines = self._file.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, self.now())

    def __enter__(self) -> Peak:
        self.most = self.now()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def with_part(encoding: str, content: bytes) -> bytes:
    body = base64.encodebytes(content).replace(b"\n", b"\r\n") if encoding == "base64" else content
    return (
        b"From: a@example.org\r\nSubject: large\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nSee.\r\n--b\r\n'
        b"Content-Type: application/octet-stream\r\nContent-Disposition: attachment\r\n"
        b"Content-Transfer-Encoding: " + encoding.encode() + b"\r\n\r\n" + body + b"\r\n--b--\r\n"
    )


@pytest.mark.promise("I6")
@pytest.mark.parametrize("encoding", ["base64", "7bit"])
def test_a_part_of_200_mb_in_little_memory(
    encoding: str,
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    line = b"".join(b"%076d\r\n" % number for number in range(1000))
    content = (line * (_SIZE // len(line)))[:-2]
    port = free_port()
    stack = build_stack(
        redis_url, port=str(port), max_message_bytes="400000000", admin_token=ADMIN_TOKEN
    )
    stack.add_handler()
    dovecot.deliver(mail_user, [with_part(encoding, content)])
    stack.start("scheduler", "fetcher", "decryptor")
    (admin,) = stack.start("admin")
    stack.watch(dovecot, mail_user)
    stack.wait_settled(1, seconds=120)
    ((message,),) = stack.query("SELECT id FROM message")
    address = f"http://127.0.0.1:{port}/api/v1/messages/{message}"
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    with httpx.Client(headers=headers, timeout=120) as client:
        client.get(address)  # what the first request loads once is no part's memory
        client.get(f"{address}/parts/1")
        with Peak(admin.pid) as peak:
            before = peak.most
            digest = hashlib.sha256()
            with client.stream("GET", f"{address}/parts/2") as answer:
                assert answer.status_code == 200, answer.read()
                for chunk in answer.iter_bytes():
                    digest.update(chunk)
        with Peak(admin.pid) as ranged:
            last = client.get(f"{address}/parts/2", headers={"Range": "bytes=-10"})
    assert digest.digest() == hashlib.sha256(content).digest()
    assert last.content == content[-10:]
    print(
        f"{encoding}: {before} kB before, at most {peak.most} and {ranged.most} kB, "
        f"{max(peak.most, ranged.most) - before} kB for the part"
    )
    assert max(peak.most, ranged.most) - before < _BOUND_KB
