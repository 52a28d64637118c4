"""The demo's mail server forgets nothing over a restart: no mail, no flag, no UID."""

from __future__ import annotations

import contextlib
import hashlib
import imaplib
import smtplib
import subprocess
import sys
import uuid
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import pkcs7

from cli.demo.certificate import USER, DemoCertificate
from tests.servers.processes import accepts, free_port, wait_until

_PASSWORD = "demo-password"


class _Server:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.imap_port, self.smtp_port = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["demo", "mailbox", "--folder", str(self.folder)]
        ports = ["--imap-port", str(self.imap_port), "--smtp-port", str(self.smtp_port)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *command, *ports],
            env={"POSTHOUSE_DEMO_PASSWORD": _PASSWORD},
        )
        wait_until(lambda: accepts(self.smtp_port), "the demo mailbox", process=self._process)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @contextlib.contextmanager
    def imap(self, folder: str = "INBOX") -> Iterator[imaplib.IMAP4]:
        with imaplib.IMAP4("127.0.0.1", self.imap_port) as client:
            client.login(USER, _PASSWORD)
            assert client.select(folder)[0] == "OK"
            yield client

    def content(self, folder: str = "INBOX") -> dict[str, tuple[str, str]]:
        """UID → digest and flags, below the folder's UIDVALIDITY."""
        found = {}
        with self.imap(folder) as client:
            found["validity"] = (str(client.response("UIDVALIDITY")[1]), "")
            for uid in client.uid("SEARCH", "ALL")[1][0].split():
                answer = client.uid("FETCH", uid, "(FLAGS BODY.PEEK[])")[1]
                flags = imaplib.ParseFlags(answer[0][0])
                digest = hashlib.sha256(answer[0][1]).hexdigest()
                found[uid.decode()] = (digest, str(sorted(set(flags) - {b"\\Recent"})))
        return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Server]:
    made = _Server(tmp_path_factory.mktemp("demo-mailbox"))
    made.start()
    yield made
    made.kill()


def test_everything_is_as_it_was_after_a_kill(server: _Server) -> None:
    with server.imap() as client:
        uids = client.uid("SEARCH", "ALL")[1][0].split()
        assert len(uids) >= 12
        client.uid("STORE", uids[0], "+FLAGS.SILENT", r"(\Seen \Flagged)")
        client.uid("STORE", uids[1], "+FLAGS.SILENT", r"(\Deleted)")
        client.uid("EXPUNGE", uids[1])
        client.uid("COPY", uids[2], "Archive")
        client.uid("MOVE", uids[3], "Archive")
        client.create("Later")
        client.append("Later", "", "", b"Subject: kept\r\n\r\nbody\r\n")
    before = {name: server.content(name) for name in ("INBOX", "Archive", "Later")}
    assert uids[1].decode() not in before["INBOX"] and len(before["Archive"]) == 3
    server.kill()
    server.start()
    assert {name: server.content(name) for name in before} == before


def test_smtp_hands_in_what_imap_hands_out_octet_for_octet(server: _Server) -> None:
    given = b"Subject: \xff\r\n\r\n.a dot\r\n\xe4 8-bit\r\n" + b"x" * 5000 + b"\r\n\r\n.\r\n"
    with smtplib.SMTP("127.0.0.1", server.smtp_port) as client:
        client.sendmail("anybody@example.org", ["whoever@example.org"], given)
    digests = [digest for digest, _ in server.content().values()]
    assert hashlib.sha256(given).hexdigest() in digests


def test_a_wrong_password_is_refused(server: _Server) -> None:
    with (
        imaplib.IMAP4("127.0.0.1", server.imap_port) as client,
        pytest.raises(imaplib.IMAP4.error),
    ):
        client.login(USER, "wrong")


@pytest.mark.parametrize("more", [[], ["--to-encrypted"]])
def test_one_more_mail_is_sent_from_beside_the_mailbox_alone(
    server: _Server, more: list[str], tmp_path: Path
) -> None:
    """As in its container, where no `up` has run."""
    with server.imap() as client:
        before = len(client.search(None, "ALL")[1][0].split())
    arguments = ["--smtp", f"127.0.0.1:{server.smtp_port}", "--subject", "One more", *more]
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "demo", "send", *arguments],
        env={"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "next poll" in done.stdout
    with server.imap() as client:
        numbers = client.search(None, "ALL")[1][0].split()
        assert len(numbers) == before + 1
        answer = client.fetch(numbers[-1].decode(), "(BODY.PEEK[])")[1]
    assert isinstance(answer[0], tuple)
    assert more or b"One more" in answer[0][1]


def test_a_large_file_with_the_line_ends_of_unix_is_sent(server: _Server, tmp_path: Path) -> None:
    """All of it was one line to SMTP, and too long a one."""
    (tmp_path / "large.eml").write_bytes(b"Subject: Large\n\n" + b"a line of text\n" * 100_000)
    arguments = ["--smtp", f"127.0.0.1:{server.smtp_port}", str(tmp_path / "large.eml")]
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "demo", "send", *arguments],
        env={"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with server.imap() as client:
        numbers = client.search(None, "SUBJECT", "Large")[1][0].split()
        assert len(numbers) == 1


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"mixed"], ids=["unix", "smtp", "mixed"])
def test_a_file_is_encrypted_where_it_is_asked_for(
    server: _Server, end: bytes, tmp_path: Path
) -> None:
    """It went out in clear, and nothing said so."""
    header_end, body_end = (b"\n", b"\r\n\r\n") if end == b"mixed" else (end, end)
    subject = f"Locked {uuid.uuid4().hex}"
    head = header_end.join([f"Subject: {subject}".encode(), b"Content-Type: text/plain", b"", b""])
    (tmp_path / "a.eml").write_bytes(head + b"Nobody else" + body_end + b"reads this" + body_end)
    arguments = ["--smtp", f"127.0.0.1:{server.smtp_port}", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "demo", "send", *arguments, "--to-encrypted",
         str(tmp_path / "a.eml")],
        env={"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with server.imap() as client:
        numbers = client.search(None, "SUBJECT", f'"{subject}"')[1][0].split()
        assert len(numbers) == 1
        answer = client.fetch(numbers[0].decode(), "(BODY.PEEK[])")[1]
    assert isinstance(answer[0], tuple)
    mail = message_from_bytes(answer[0][1])
    assert mail.get_content_type() == "application/pkcs7-mime"
    assert b"reads this" not in answer[0][1]
    held = DemoCertificate.of(tmp_path / "data" / "demo")
    envelope = mail.get_payload(decode=True)
    assert isinstance(envelope, bytes)
    opened = pkcs7.pkcs7_decrypt_der(envelope, held.certificate, held.key, [])
    assert opened.startswith(b"Content-Type: text/plain\r\n\r\nNobody else\r\n")
