"""A real Dovecot 2.3: IMAP, POP3 and LMTP on free loopback ports, any number of users.

    with Dovecot(separator="/", tls=identity, lmtp=True) as server:
        server.deliver("alice", [b"Subject: one\\r\\n\\r\\n..."])   # fast, whatever the storage
        server.imap_port, server.imaps_port, server.pop3_port, server.pop3s_port, server.lmtp_port
        with server.client("alice") as other: ...                 # imapclient, as somebody else

Every user name exists, with the password `secret`. Runs as root and as an ordinary user.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import smtplib
import ssl
import subprocess
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import pytest

from tests.servers.certificates import Authority
from tests.servers.mail_server import PASSWORD, Identity, ImapAccess
from tests.servers.processes import accepts, end_with_parent, free_port, private_folder, wait_until


@dataclass
class Dovecot(ImapAccess):
    """Dovecot as a child process, in a folder of its own.

    `separator` and `prefix` shape the namespace (`INBOX.` is Courier's and Cyrus' way); `storage`
    is `maildir`, `sdbox` or `mdbox`; `tls` switches TLS listeners and STARTTLS on; `password` None
    accepts any; `trash` is the name of its folder with that use; `capabilities` (a list in
    IMAP's words) is announced in place of Dovecot's own, to look like a poorer server; `extra` is
    appended to the configuration (a second passdb, …).
    """

    separator: str = "/"
    prefix: str = ""
    storage: str = "maildir"
    tls: Identity | None = None
    mechanisms: Sequence[str] = ("plain", "login")
    password: str | None = PASSWORD
    capabilities: str = ""
    pop3: str = ""
    lmtp: bool = False
    rawlog: bool = False
    max_sessions: int = 5000
    trash: str = "Trash"
    extra: str = ""
    imap_port: int = 0
    imaps_port: int = 0
    pop3_port: int = 0
    pop3s_port: int = 0
    lmtp_port: int = 0
    host: str = "127.0.0.1"
    folder: Path = field(default_factory=lambda: private_folder("dovecot"))
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __enter__(self) -> Dovecot:
        try:
            self._configure()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Nothing of it is looked at any more: an orderly end takes seconds.
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        assert self._process is not None, "Dovecot is stopped"
        return self._process.pid

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self) -> None:
        """Returns when every listener answers. After `stop` the ports and mails are the same."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["dovecot", "-F", "-c", str(self.folder / "dovecot.conf")],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=end_with_parent,
                env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            )
        ports = [port for port in self._ports() if port]
        wait_until(lambda: all(map(accepts, ports)), "Dovecot", process=self._process, log=self.log)

    def stop(self) -> None:
        """Ends the server with all its sessions."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            # Processes that serve clients would notice only seconds later.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process = None

    def home(self, user: str) -> Path:
        """Where a user's mails lie."""
        return self.folder / "mail" / user

    # ---- users and what arrives

    def add_user(self, user: str, password: str = PASSWORD) -> None:
        """Every user exists already."""

    def forget_user(self, user: str) -> None:
        shutil.rmtree(self.home(user), ignore_errors=True)

    def deliver_lmtp(self, recipients: Sequence[str], mails: Iterable[bytes]) -> None:
        """Hands each mail to all `recipients` as an MTA does; returns when Dovecot accepted."""
        with smtplib.LMTP(self.host, self.lmtp_port) as session:
            for mail in mails:
                for recipient in recipients:  # smtplib reads one answer a DATA, LMTP gives many
                    session.sendmail("sender@example.org", [recipient], mail)

    def commands(self, user: str) -> list[str]:
        """The lines that clients sent after login, oldest session first (needs `rawlog`)."""
        lines: list[str] = []
        for name in sorted((self.folder / "rawlog" / user).glob("*.in")):
            text = name.read_text(errors="replace")
            # Each line is "seconds.micros text"; one that ends in the middle has no such prefix.
            lines += [line.partition(" ")[2] for line in text.splitlines() if line]
        return lines

    def prepare_rawlog(self, user: str) -> None:
        """Dovecot logs the sessions of a user where this folder exists."""
        folder = self.folder / "rawlog" / user
        folder.mkdir(parents=True, exist_ok=True)
        if os.getuid() == 0:
            shutil.chown(folder, user=_MAIL_USER)

    # ---- configuration

    def _ports(self) -> list[int]:
        return [self.imap_port, self.imaps_port, self.pop3_port, self.pop3s_port, self.lmtp_port]

    def _configure(self) -> None:
        self.imap_port = self.imap_port or free_port()
        self.pop3_port = self.pop3_port or free_port()
        if self.tls:
            self.imaps_port = self.imaps_port or free_port()
            self.pop3s_port = self.pop3s_port or free_port()
        if self.lmtp:
            self.lmtp_port = self.lmtp_port or free_port()
        self.folder.chmod(0o755)
        for name in ("mail", "rawlog"):
            (self.folder / name).mkdir(exist_ok=True)
            if os.getuid() == 0:
                shutil.chown(self.folder / name, user=_MAIL_USER)
        (self.folder / "dovecot.conf").write_text(self._text())

    def _text(self) -> str:
        folder = self.folder
        account = pwd.getpwuid(os.getuid())
        mail_user = pwd.getpwnam(_MAIL_USER) if os.getuid() == 0 else account
        location = {
            "maildir": f"maildir:{folder}/mail/%u/Maildir",
            "sdbox": f"sdbox:{folder}/mail/%u/sdbox",
            "mdbox": f"mdbox:{folder}/mail/%u/mdbox",
        }[self.storage]
        checked = "nopassword=y" if self.password is None else f"password={self.password}"
        lines = [
            f"base_dir = {folder}/run",
            f"state_dir = {folder}/state",
            f"log_path = {folder}/log",
            "ssl = yes" if self.tls else "ssl = no",
            *(
                [f"ssl_cert = <{self.tls.certificate}", f"ssl_key = <{self.tls.key}"]
                if self.tls
                else []
            ),
            f"protocols = imap pop3{' lmtp' if self.lmtp else ''}",
            f"listen = {self.host}",
            "disable_plaintext_auth = no",
            f"auth_mechanisms = {' '.join(self.mechanisms)}",
            "auth_username_chars =",
            "auth_username_format = %u",
            "auth_failure_delay = 0",
            f"mail_location = {location}",
            f"mail_uid = {mail_user.pw_uid}",
            f"mail_gid = {mail_user.pw_gid}",
            "first_valid_uid = 1",
            "first_valid_gid = 1",
            "mail_fsync = never",
            f"mail_max_userip_connections = {self.max_sessions}",
            f"default_process_limit = {self.max_sessions}",
            f"default_client_limit = {self.max_sessions * 4}",
            "default_vsz_limit = 0",
            f"passdb {{\n driver = static\n args = {checked}\n}}",
            f"userdb {{\n driver = static\n args = home={folder}/mail/%u allow_all_users=yes\n}}",
            "namespace inbox {\n inbox = yes\n"
            f" separator = {self.separator}\n prefix = {self.prefix}\n"
            f" mailbox {self.trash} {{\n  auto = create\n  special_use = \\Trash\n }}\n}}",
            # One process for many logins, as busy servers run it; penalties would slow tests.
            "service anvil {\n unix_listener anvil-auth-penalty {\n  mode = 0\n }\n chroot =\n}",
            self._login("imap", self.imap_port, self.imaps_port),
            self._login("pop3", self.pop3_port, self.pop3s_port),
        ]
        if self.lmtp:
            lines.append(
                f"service lmtp {{\n inet_listener lmtp {{\n  address = {self.host}\n"
                f"  port = {self.lmtp_port}\n }}\n}}"
            )
        imap = [f"imap_capability = {self.capabilities}"] if self.capabilities else []
        if self.rawlog:
            imap.append(f"rawlog_dir = {folder}/rawlog/%u")
        lines.append("protocol imap {\n " + "\n ".join(imap) + "\n}" if imap else "")
        lines.append(f"protocol pop3 {{\n {self.pop3}\n}}" if self.pop3 else "")
        if os.getuid() != 0:
            group = _group_of(account.pw_gid)
            lines += [
                f"default_internal_user = {account.pw_name}",
                f"default_login_user = {account.pw_name}",
                f"default_internal_group = {group}",
            ]
        return "\n".join([*lines, self.extra, ""])

    def _login(self, protocol: str, port: int, tls_port: int) -> str:
        tls = (
            f" inet_listener {protocol}s {{\n  port = {tls_port}\n  ssl = yes\n }}\n"
            if tls_port
            else f" inet_listener {protocol}s {{\n  port = 0\n }}\n"
        )
        return (
            f"service {protocol}-login {{\n service_count = 0\n process_min_avail = 1\n chroot =\n"
            f" inet_listener {protocol} {{\n  port = {port}\n }}\n{tls}}}\n"
            f"service {protocol} {{\n process_limit = {self.max_sessions}\n}}"
        )


_MAIL_USER = "nobody"


def _group_of(gid: int) -> str:
    import grp

    return grp.getgrgid(gid).gr_name


def trusting(authority: Path) -> ssl.SSLContext:
    """A client's context that trusts one authority, for sessions of the tests' own."""
    return ssl.create_default_context(cafile=str(authority))


@pytest.fixture(scope="session")
def dovecot(authority: Authority) -> Iterator[Dovecot]:
    """The session's Dovecot: TLS for `localhost` and 127.0.0.1, `/` between folders, LMTP."""
    with Dovecot(tls=authority.issue("localhost", "127.0.0.1"), lmtp=True) as server:
        yield server


@pytest.fixture
def mail_user(request: pytest.FixtureRequest) -> Iterator[str]:
    """A user name that nobody had before: an empty mailbox of the test's own."""
    name = f"user-{uuid.uuid4().hex[:12]}"
    yield name
    if "dovecot" in request.fixturenames:
        request.getfixturevalue("dovecot").forget_user(name)
