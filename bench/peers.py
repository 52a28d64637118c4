"""The programs that Posthouse is measured beside, and the limit: a reader that only reads.

Each call is one complete run of the program from its start, as cron would start it, with its
default settings unless said. It raises where not everything arrived.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

PASSWORD = "secret"
_LITERAL = re.compile(rb"\{(\d+)\}\r\n")


def quiet_disk() -> None:
    """Writes back what came before (the mails that were delivered, mostly).

    Else the first sync of whoever is measured next would wait for that: seconds, at times.
    """
    os.sync()


def versions() -> str:
    """The versions of the peers, for the head of a table."""
    mbsync = subprocess.run(["mbsync", "--version"], capture_output=True, text=True, check=False)
    fetchmail = subprocess.run(
        ["fetchmail", "--version"], capture_output=True, text=True, check=False
    )
    found = re.search(r"release (\S+?)\+", fetchmail.stdout)
    return f"{mbsync.stdout.strip()}, fetchmail {found[1] if found else '?'}"


class Mbsync:
    """mbsync into Maildirs of its own, with its default of syncing each mail (`FSync yes`)."""

    def __init__(self, folder: Path, *, authority: Path | None = None) -> None:
        self.folder = folder
        self._tls = authority

    def prepare(self, users: Sequence[str], port: int) -> None:
        """Empty Maildirs for these users of a server on loopback."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        # Reading all of the system's certificates for each mailbox would slow it five times.
        tls = "SSLType None\n"
        if self._tls:
            tls = f"SSLType IMAPS\nSystemCertificates no\nCertificateFile {self._tls}\n"
        blocks = []
        for user in users:
            target = self.folder / user
            target.mkdir()
            blocks.append(
                f"IMAPStore {user}-there\nHost {'localhost' if self._tls else '127.0.0.1'}\n"
                f"Port {port}\nUser {user}\nPass {PASSWORD}\nAuthMechs LOGIN\n{tls}\n"
                f"MaildirStore {user}-here\nPath {target}/\nInbox {target}/INBOX\n\n"
                f"Channel {user}\nFar :{user}-there:\nNear :{user}-here:\nSync Pull\n"
                f"Create Near\nSyncState *\n"
            )
        (self.folder / "mbsyncrc").write_text("\n".join(blocks))
        self._users = list(users)

    def run(self, mails: int) -> float:
        """Seconds of one run of all users; `mails` must be there afterwards."""
        quiet_disk()
        started = time.perf_counter()
        _run(["mbsync", "-q", "-c", str(self.folder / "mbsyncrc"), *self._users], self.folder)
        took = time.perf_counter() - started
        found = sum(len(list((self.folder / u / "INBOX" / "new").glob("*"))) for u in self._users)
        found += sum(len(list((self.folder / u / "INBOX" / "cur").glob("*"))) for u in self._users)
        _all_there("mbsync", found, mails)
        return took


class Fetchmail:
    """fetchmail handing each mail to a delivery agent that writes a file and syncs it."""

    def __init__(
        self, folder: Path, *, protocol: str = "imap", authority: Path | None = None
    ) -> None:
        self.folder = folder
        self._protocol = protocol
        self._tls = authority

    def prepare(self, users: Sequence[str], port: int, *, options: str = "keep") -> None:
        """`options` as in a fetchmailrc (`keep`, `fetchlimit 100`, `uidl`)."""
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "mails").mkdir(parents=True)
        tls = f"ssl sslcertck sslcertfile {self._tls}" if self._tls else "sslproto ''"
        host = "localhost" if self._tls else "127.0.0.1"
        blocks = [
            f"poll box-{user} via {host} protocol {self._protocol} port {port}"
            f"{' uidl' if self._protocol == 'pop3' else ''} auth password\n"
            f"  username {user} password {PASSWORD} is root here {options} {tls}\n"
            f'  mda "dd of={self.folder}/mails/$$ oflag=append conv=notrunc,fsync status=none"\n'
            for user in users
        ]
        config = self.folder / "fetchmailrc"
        config.write_text("\n".join(blocks))
        config.chmod(0o600)

    def run(self, mails: int) -> float:
        """Seconds of one run; `mails` is how many files there must be more afterwards."""
        before = self._delivered()
        environment = {"FETCHMAILHOME": str(self.folder), "HOME": str(self.folder)}
        quiet_disk()
        started = time.perf_counter()
        _run(
            ["fetchmail", "-s", "-f", str(self.folder / "fetchmailrc")],
            self.folder,
            accepted=(0, 1),
            environment=environment,
        )
        took = time.perf_counter() - started
        _all_there("fetchmail", self._delivered() - before, mails)
        return took

    def _delivered(self) -> int:
        # The shell's process ids name the files, and may come round: count mails, not files.
        return sum(
            path.read_bytes().count(b"\nSubject: ") for path in (self.folder / "mails").iterdir()
        )


def read_raw(port: int, user: str, *, write_to: Path | None = None) -> tuple[float, int, int]:
    """Everything in one pipelined FETCH, octets counted or each mail written to a file.

    No sync, no flags, no state: the limit for anybody who reads this mailbox. Returns seconds,
    mails and octets.
    """
    quiet_disk()
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as wire:
        reader = cast(io.BufferedReader, wire.makefile("rb", buffering=1 << 20))
        reader.readline()
        wire.sendall(
            b'a LOGIN "%s" "%s"\r\nb EXAMINE INBOX\r\nc UID FETCH 1:* (UID BODY.PEEK[])\r\n'
            % (user.encode(), PASSWORD.encode())
        )
        mails = octets = 0
        while not (line := reader.readline()).startswith(b"c "):
            literal = _LITERAL.search(line)
            if literal is None:
                assert line, "the server hung up"
                continue
            size = left = int(literal[1])
            file = (write_to / str(mails)).open("wb", buffering=0) if write_to else None
            while left:
                chunk = reader.read1(min(left, 1 << 20))
                assert chunk, "the server hung up"
                if file is not None:
                    file.write(chunk)
                left -= len(chunk)
            if file is not None:
                file.close()
            mails += 1
            octets += size
    return time.perf_counter() - started, mails, octets


def _run(
    command: Sequence[str],
    folder: Path,
    *,
    accepted: Sequence[int] = (0,),
    environment: dict[str, str] | None = None,
) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    if done.returncode not in accepted:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")


def _all_there(who: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise RuntimeError(f"{who} has {found} mails, not {wanted}")


Run = Callable[[], float]
