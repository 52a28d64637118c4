"""Servers that live in a root file system of their own, made by `tests/servers/roots.sh`.

The root is shared and never written to: each server has a folder laid over it (overlayfs) with its
configuration, users and mails, in a mount and process namespace of its own. When the first process
in there ends, the kernel ends all others, whatever process groups they made, and the mounts go
with them. Needs root; ports are those of this machine's loopback.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.servers.mail_server import ImapAccess
from tests.servers.processes import accepts, children_of, free_port, private_folder, wait_until

_PR_SET_PDEATHSIG = 1
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_OWN_NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL"]
_ENTER = """
mount -t overlay overlay -o lowerdir="$0",upperdir="$1/upper",workdir="$1/work" "$1/root"
mount -t proc proc "$1/root/proc"
exec chroot "$1/root" /bin/sh /start
"""


class RootedServer(ImapAccess):
    """A server in `root`; a subclass writes its files (`configure`) and its start script.

    The script is the first process of the namespace: it ends only when the server ends.
    """

    root: ClassVar[str]
    separator = "."
    prefix = "INBOX."

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.imap_port, self.pop3_port = free_port(), free_port()
        self.imaps_port = self.pop3s_port = 0
        self.folder = private_folder(self.root)
        self.folder.chmod(0o755)
        for name in ("upper", "work", "root"):
            (self.folder / name).mkdir(mode=0o755)
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self) -> None:
        """Writes files before the first start."""
        raise NotImplementedError

    def script(self) -> str:
        """What /bin/sh runs inside the root."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.configure()
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
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def inside(self) -> Path:
        """The root as the running server sees it."""
        assert self._process is not None, "the server is stopped"
        (first,) = children_of(self._process.pid)
        return Path(f"/proc/{first}/root")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file of the root, before the server runs."""
        file = self.folder / "upper" / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def start(self) -> None:
        """Returns when every listener answers. After `stop` the ports and mails are the same."""
        lower = roots() / self.root
        assert (lower / "bin").exists(), f"{lower} is missing: run `make servers` as root"
        self.write("/start", self.script())
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_OWN_NAMESPACES, "/bin/sh", "-ec", _ENTER, str(lower), str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                preexec_fn=_die_with_parent,
                env={"PATH": _PATH, "LANG": "C", "HOME": "/root"},
            )
        ports = [self.imap_port, self.imaps_port, self.pop3_port, self.pop3s_port]
        wait_until(
            lambda: all(accepts(port) for port in ports if port),
            type(self).__name__,
            process=self._process,
            log=self.log,
        )

    def stop(self) -> None:
        """Ends the server with all its sessions, as a machine that is switched off does."""
        if self._process is None:
            return
        for first in children_of(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def run(self, *argv: str, stdin: str = "") -> str:
        """Runs a program beside the server; raises with what it said where it fails."""
        assert self._process is not None, "the server is stopped"
        (first,) = children_of(self._process.pid)
        done = subprocess.run(
            ["nsenter", f"--target={first}", "--mount", "--pid", "--root", "--wd", *argv],
            input=stdin,
            capture_output=True,
            text=True,
            env={"PATH": _PATH, "LANG": "C"},
        )
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout


def roots() -> Path:
    """Where the root file systems lie."""
    return Path(os.environ.get("POSTHOUSE_TEST_ROOTS", "/var/cache/posthouse-tests"))


def hashed(password: str) -> str:
    """The password as /etc/shadow has it."""
    argv = ["openssl", "passwd", "-6", "-stdin"]
    done = subprocess.run(argv, input=password, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _die_with_parent() -> None:
    # unshare ignores SIGTERM; the first process in the namespace dies with it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
