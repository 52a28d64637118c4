"""Debian's Cyrus IMAP (3.6 on Debian 12): IMAP and POP3, configured as its package has it.

Personal folders are below `INBOX.`, other people's below `user.`, shared ones at the top; a mail
that is expunged stays on the disk (`expunge_mode: delayed`); CONDSTORE, QRESYNC, UIDPLUS, MOVE.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.servers.mail_server import PASSWORD, Identity
from tests.servers.processes import free_port
from tests.servers.rooted import RootedServer

ADMIN = "cyrus"


class Cyrus(RootedServer):
    """`login_delay` (minutes) is what Debian sets to 1: how often one user may log in over POP3."""

    root = "cyrus"

    def __init__(
        self, *, tls: Identity | None = None, login_delay: int = 0, extra: str = ""
    ) -> None:
        super().__init__()
        self.tls, self.login_delay, self.extra = tls, login_delay, extra
        if tls:
            self.imaps_port, self.pop3s_port = free_port(), free_port()
        self._users: set[str] = set()

    def add_user(self, user: str, password: str = PASSWORD) -> None:
        if user in self._users:
            return
        self._users.add(user)
        self.run("setpriv", "--reuid=cyrus", "--regid=mail", "--clear-groups", "saslpasswd2",
                 "-p", "-c", "-f", "/var/lib/cyrus/sasldb2", "-u", "localhost", user,
                 stdin=password)  # fmt: skip
        if user != ADMIN:
            with self.admin() as session:
                session.create_folder(f"user.{user}")

    def forget_user(self, user: str) -> None:
        """Its mails go with the server."""

    @contextmanager
    def admin(self) -> Iterator[Any]:
        """A session of the administrator: creates shared folders, gives rights to folders."""
        with self.client(ADMIN) as session:
            yield session

    def configure(self) -> None:
        tls = ""
        if self.tls:
            self.write("/etc/cyrus.pem", self.tls.certificate.read_text())
            self.write("/etc/cyrus.key", self.tls.key.read_text())
            tls = "tls_server_cert: /etc/cyrus.pem\ntls_server_key: /etc/cyrus.key\n"
        self.write(
            "/etc/imapd.conf",
            "configdirectory: /var/lib/cyrus\nproc_path: /run/cyrus/proc\n"
            "mboxname_lockpath: /run/cyrus/lock\ndefaultpartition: default\n"
            "partition-default: /var/spool/cyrus/mail\n"
            "altnamespace: no\nunixhierarchysep: no\n"
            "allowanonymouslogin: no\nautocreate_quota: 0\numask: 077\nhashimapspool: true\n"
            f"popminpoll: {self.login_delay}\n"
            f"admins: {ADMIN}\nservername: localhost\n"
            "allowplaintext: yes\nsasl_pwcheck_method: auxprop\nsasl_auxprop_plugin: sasldb\n"
            "sasl_sasldb_path: /var/lib/cyrus/sasldb2\nsasl_mech_list: PLAIN LOGIN\n"
            "lmtpsocket: /run/cyrus/socket/lmtp\nidlesocket: /run/cyrus/socket/idle\n"
            "notifysocket: /run/cyrus/socket/notify\nsyslog_prefix: cyrus\n"
            "expunge_mode: delayed\nmunge8bit: no\n" + tls + self.extra,
        )
        listeners = [("imap", "imapd", self.imap_port), ("pop3", "pop3d", self.pop3_port)]
        if self.tls:
            listeners += [
                ("imaps", "imapd -s", self.imaps_port),
                ("pop3s", "pop3d -s", self.pop3s_port),
            ]
        services = "".join(
            f'  {name} cmd="{command} -U 30" listen="{self.host}:{port}" prefork=1 maxchild=200\n'
            for name, command, port in listeners
        )
        self.write(
            "/etc/cyrus.conf",
            'START {\n  recover cmd="/usr/sbin/cyrus ctl_cyrusdb -r"\n  idled cmd="idled"\n}\n'
            f"SERVICES {{\n{services}}}\nEVENTS {{\n}}\n",
        )

    def script(self) -> str:
        folders = "/run/cyrus /run/cyrus/proc /run/cyrus/lock /run/cyrus/socket"
        return (
            f"mkdir -p {folders}; chown cyrus:mail {folders}\n"
            "cyrmaster -D -C /etc/imapd.conf -M /etc/cyrus.conf\n"
        )


@pytest.fixture(scope="session")
def cyrus() -> Iterator[Cyrus]:
    """The session's Cyrus, in plain text."""
    with Cyrus() as server:
        yield server
