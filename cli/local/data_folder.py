"""The folder that `posthouse up` keeps everything in, and what it must not forget.

    secrets.json   keys, passwords, the admin token and the ports in use (0600)
    postgres/ broker/ store/ demo/     state
    logs/ run/     one log and one process record a child

One `up` at a time holds the folder; the kernel lets go of it however that `up` ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shlex
import socket
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any, Final

from shared.errors import Conflict, InvalidInput, NotFound

#: What `--data-dir` of a command names.
_CHOSEN: Final[ContextVar[Path | None]] = ContextVar("data_dir", default=None)


def default_folder() -> Path:
    """`POSTHOUSE_DATA_DIR`, else the folder of the XDG base directory specification."""
    chosen = os.environ.get("POSTHOUSE_DATA_DIR")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_DATA_HOME")
    home = Path(base) if base and Path(base).is_absolute() else Path.home() / ".local" / "share"
    return home / "posthouse"


def naming(root: Path) -> str:
    """What a command needs to find the `up` of this folder: nothing where it is the usual one."""
    usual = default_folder().expanduser().absolute()
    return "" if root == usual else f"--data-dir {shlex.quote(str(root))}"


def choose_folder(root: Path) -> None:
    """Makes the `up` that keeps everything in `root` the one that this process asks."""
    _CHOSEN.set(root.expanduser())


def chosen_folder() -> Path | None:
    """What `choose_folder` was told; None: whatever the environment says."""
    return _CHOSEN.get()


class DataFolder:
    """An opened and held data folder. Use as a context manager."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self._held: IO[str] | None = None
        self._kept: dict[str, Any] = {}

    def __enter__(self) -> DataFolder:
        """Raises Conflict where another `up` holds it, InvalidInput where it cannot be used."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in ("logs", "run", "store"):
                (self.root / name).mkdir(exist_ok=True, mode=0o700)
            held = (self.root / "lock").open("a+")
        except OSError as error:
            raise InvalidInput(
                f"The data folder {self.root} cannot be used: {error.strerror}.",
                field="data_dir",
                hint="Choose another one with --data-dir.",
            ) from error
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            held.seek(0)
            holder = held.read().strip()
            held.close()
            raise Conflict(
                f"Another `posthouse up` (process {holder or 'unknown'}) already uses {self.root}.",
                hint="Stop that one first, or choose another folder with --data-dir.",
            ) from error
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        self._held = held
        self._kept = read_kept(self.root)
        return self

    def __exit__(self, *_: object) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    def keep(self, name: str, make: Callable[[], Any]) -> Any:
        """The value kept under a name; made and written down the first time."""
        if name not in self._kept:
            self.replace(name, make())
        return self._kept[name]

    def replace(self, name: str, value: Any) -> None:
        """Writes a value down where it is not the one kept. Durable when it returns."""
        if name in self._kept and self._kept[name] == value:
            return
        self._kept[name] = value
        write_private(self._path, json.dumps(self._kept, indent=1).encode())

    def password(self, name: str) -> str:
        """A kept random password, safe in an address and on a command line."""
        return str(self.keep(name, lambda: secrets.token_urlsafe(24)))

    def port(self, name: str) -> int:
        """The kept port, or another free one where that is taken by somebody else now."""
        kept = int(self.keep(name, free_port))
        if not is_free(kept):
            kept = free_port()
            self.replace(name, kept)
        return kept

    @property
    def _path(self) -> Path:
        return self.root / "secrets.json"


def read_kept(root: Path) -> dict[str, Any]:
    """What a data folder keeps; empty where nothing was ever kept. Needs no hold of the folder."""
    path = root / "secrets.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"{path} cannot be read: {error}",
            field="data_dir",
            hint="It holds the keys of this folder's secrets: restore it from a backup.",
        ) from error
    if not isinstance(kept, dict):
        raise InvalidInput(f"{path} does not hold what Posthouse wrote.", field="data_dir")
    return kept


def local_api(root: Path | None = None) -> tuple[str, str]:
    """Address and admin token of the Posthouse that `up` runs from a data folder.

    Raises NotFound where `up` never ran there.
    """
    root = root or default_folder()
    kept = read_kept(root)
    if "api_url" not in kept:
        raise NotFound(
            f"No `posthouse up` has run from {root}.",
            hint="Start one, name the folder of one that runs (--data-dir, or POSTHOUSE_DATA_DIR), "
            "or set POSTHOUSE_URL and POSTHOUSE_TOKEN to reach another.",
        )
    return str(kept["api_url"]), str(kept["admin_token"])


def local_output(root: Path | None = None) -> str:
    """Address of the handlers' queues of that Posthouse. Raises NotFound as `local_api` does."""
    root = root or default_folder()
    local_api(root)
    return str(read_kept(root)["output_url"])


def write_private(path: Path, content: bytes) -> None:
    """Replaces a file in one step, readable by its owner only."""
    beside = path.with_name(f".{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def free_port() -> int:
    """A loopback port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
