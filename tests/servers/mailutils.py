"""GNU mailutils (3.15 on Debian 12): imap4d and pop3d over mbox spools of system users.

With `expire=0` its pop3d removes at QUIT what was retrieved (RFC 2449 section 6.7, EXPIRE 0).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.servers.mail_server import PASSWORD
from tests.servers.processes import wait_until
from tests.servers.rooted import RootedServer, hashed

_MAIL_GROUP = 8


class Mailutils(RootedServer):
    """`expire` (days) as pop3d's statement has it; None keeps mails."""

    root = "mailutils"
    separator = "/"
    prefix = ""

    def __init__(self, *, expire: int | None = 0) -> None:
        super().__init__()
        self.expire = expire
        self._users: set[str] = set()

    def add_user(self, user: str, password: str = PASSWORD) -> None:
        if user in self._users:
            return
        self._users.add(user)
        uid = 2000 + len(self._users)
        secret = hashed(password)
        for name, line in (
            ("passwd", f"{user}:x:{uid}:{_MAIL_GROUP}::/home/{user}:/bin/sh\n"),
            ("shadow", f"{user}:{secret}:20000:0:99999:7:::\n"),
        ):
            with (self.inside / "etc" / name).open("a") as users:
                users.write(line)
        for folder in ("home", "var/mail"):
            path = self.inside / folder / user
            path.touch(0o660) if folder == "var/mail" else path.mkdir()
            os.chown(path, uid, _MAIL_GROUP)

    def forget_user(self, user: str) -> None:
        """Its mails go with the server."""

    def deliver(
        self,
        user: str,
        mails: Iterable[bytes],
        folder: str = "INBOX",
        *,
        flags: str = "",
        password: str = PASSWORD,
    ) -> None:
        """Appends to the user's spool as a local delivery agent does; no folders, no flags."""
        assert folder == "INBOX" and not flags, "a spool has neither folders nor flags"
        self.add_user(user, password)
        with self._spool(user) as spool:
            for mail in mails:
                spool.write(b"From sender@example.org Mon Jun  1 10:00:00 2026\n")
                spool.write(mail.replace(b"\r\n", b"\n").rstrip(b"\n") + b"\n\n")

    def flags(self, user: str, folder: str = "INBOX") -> dict[int, set[str]]:
        """Number in the spool → `\\Seen` where it was read; imap4d would alter the mails."""
        with self._spool(user) as spool:
            spool.seek(0)
            # Only the lines that separate mails end in a date.
            heads = re.split(rb"^From \S+ .*\d\d:\d\d:\d\d \d{4}\n", spool.read(), flags=re.M)[1:]
            return {
                number: {r"\Seen"} if re.search(rb"^Status: \w*R", head, re.M) else set()
                for number, head in enumerate(heads, 1)
            }

    @contextlib.contextmanager
    def _spool(self, user: str) -> Iterator[IO[bytes]]:
        """The spool, locked as mailutils locks it."""
        path = self.inside / "var/mail" / user
        lock = path.with_name(f"{user}.lock")
        wait_until(lambda: _made(lock), f"the lock of {user}'s spool")
        try:
            with path.open("rb+") as spool:
                fcntl.lockf(spool, fcntl.LOCK_EX)
                spool.seek(0, os.SEEK_END)
                yield spool
        finally:
            lock.unlink()

    def configure(self) -> None:
        common = "mode daemon;\nforeground yes;\nlogging { syslog no; facility mail; };\n"
        self.write(
            "/etc/pop3d.conf",
            common + f"server {self.host}:{self.pop3_port} {{ }};\n"
            + ("" if self.expire is None else f"expire {self.expire};\ndelete-expired yes;\n"),
        )  # fmt: skip
        self.write("/etc/imap4d.conf", common + f"server {self.host}:{self.imap_port} {{ }};\n")
        for name in ("mu-pop3d", "mu-imap4d", "gnu-imap4d", "gnu-pop3d", "imap4d", "pop3d"):
            self.write(
                f"/etc/pam.d/{name}",
                "auth required pam_unix.so nodelay\naccount required pam_unix.so\n",
            )

    def start(self) -> None:
        for lock in (self.folder / "upper/var/mail").glob("*.lock"):
            lock.unlink()  # whoever held it was killed with the server
        super().start()

    def script(self) -> str:
        return (
            "pop3d --config-file=/etc/pop3d.conf --foreground &\n"
            "imap4d --config-file=/etc/imap4d.conf --foreground &\nwait\n"
        )


def _made(lock: Path) -> bool:
    try:
        lock.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@pytest.fixture(scope="session")
def mailutils() -> Iterator[Mailutils]:
    """The session's mailutils: what was retrieved over POP3 is gone after QUIT."""
    with Mailutils() as server:
        yield server
