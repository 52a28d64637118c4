"""Debian's Courier (5.2 on Debian 12): IMAP and POP3, started by its package's own scripts.

Everything is below `INBOX.`; UIDPLUS, but no MOVE, UNSELECT, CONDSTORE, MULTIAPPEND, LITERAL+.
Over its limit of sessions an address it closes the socket without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.servers.mail_server import PASSWORD, Identity
from tests.servers.processes import free_port
from tests.servers.rooted import RootedServer, hashed, roots

_UID = 65534


class Courier(RootedServer):
    """`sessions_per_address` is its MAXPERIP, whose default was 4 for twenty years (Debian: 20)."""

    root = "courier"

    def __init__(
        self, *, tls: Identity | None = None, sessions_per_address: int = 500, extra: str = ""
    ) -> None:
        super().__init__()
        self.tls, self.sessions_per_address, self.extra = tls, sessions_per_address, extra
        if tls:
            self.imaps_port, self.pop3s_port = free_port(), free_port()
        self._users: set[str] = set()

    def add_user(self, user: str, password: str = PASSWORD) -> None:
        if user not in self._users:
            self.add_unopened_user(user, password)
            with self.client(user, password) as session:
                session.select_folder("INBOX")

    def add_unopened_user(self, user: str, password: str = PASSWORD) -> None:
        """A user whose mailbox no client has selected: its UIDVALIDITY is another at each look."""
        self._users.add(user)
        secret = hashed(password)
        home = f"/home/{user}"
        line = f"{user}\tuid={_UID}|gid={_UID}|home={home}|mail={home}/Maildir|systempw={secret}\n"
        with (self.inside / "etc/courier/userdb").open("a") as users:
            users.write(line)
        self.run(
            "sh", "-ec",
            f"mkdir -p '{home}'; maildirmake.courier '{home}/Maildir'; chown -R {_UID}:{_UID} "
            f"'{home}'; chmod 600 /etc/courier/userdb; makeuserdb",
        )  # fmt: skip

    def forget_user(self, user: str) -> None:
        """Its mails go with the server."""

    def configure(self) -> None:
        limits = {
            "ADDRESS": self.host,
            "MAXDAEMONS": "1000",
            "MAXPERIP": str(self.sessions_per_address),
        }
        self._set("authdaemonrc", {"authmodulelist": '"authuserdb"', "daemons": "5"})
        self._set("imapd", {**limits, "PORT": str(self.imap_port), "IMAPDSTART": "YES"})
        self._set("pop3d", {**limits, "PORT": str(self.pop3_port), "POP3DSTART": "YES"})
        if self.tls:
            pem = self.tls.key.read_text() + self.tls.certificate.read_text()
            self.write("/etc/courier/server.pem", pem, 0o600)
            both = {"TLS_CERTFILE": "/etc/courier/server.pem"}
            self._set("imapd-ssl", {**both, "SSLADDRESS": self.host,
                                    "SSLPORT": str(self.imaps_port)})  # fmt: skip
            self._set("pop3d-ssl", {**both, "SSLADDRESS": self.host,
                                    "SSLPORT": str(self.pop3s_port)})  # fmt: skip

    def _set(self, name: str, values: dict[str, str]) -> None:
        """Changes settings of the package's own file."""
        text = (roots() / self.root / "etc/courier" / name).read_text()
        for key, value in values.items():
            text = re.sub(rf"^{key}=.*$", f"{key}={value}", text, flags=re.MULTILINE)
            assert f"{key}={value}" in text, f"{name} has no {key}"
        self.write(f"/etc/courier/{name}", text + (self.extra if name == "imapd" else ""))

    def script(self) -> str:
        listeners = "imapd pop3d" + (" imapd-ssl pop3d-ssl" if self.tls else "")
        return (
            "mkdir -p /run/courier/authdaemon; chown -R courier:courier /run/courier\n"
            "rm -f /run/courier/*.pid /run/courier/*.pid.lock /run/courier/authdaemon/pid*\n"
            "touch /etc/courier/userdb; chmod 600 /etc/courier/userdb; makeuserdb\n"
            f"authdaemond start\nfor one in {listeners}; do $one start; done\n"
            "while :; do sleep 1000 & wait $!; done\n"
        )


@pytest.fixture(scope="session")
def courier() -> Iterator[Courier]:
    """The session's Courier, in plain text."""
    with Courier() as server:
        yield server
