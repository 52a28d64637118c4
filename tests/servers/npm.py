"""npm packages that tests use, installed once a machine by the integrity in a lock file.

A lock names no registry: npm asks the one that the machine is configured for. To make it anew:
`npm install --package-lock-only` beside its package.json, then delete every "resolved".
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from tests.servers.processes import private_folder


def installed(folder: Path, programs: Sequence[Path] = ()) -> Path:
    """A folder with the packages of `folder`/package-lock.json, and copies of `programs` beside
    them."""
    files = [folder / "package.json", folder / "package-lock.json", *programs]
    digest = sha256(b"".join(one.read_bytes() for one in files)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = cache / "posthouse-tests" / f"npm-{folder.name}-{digest}"
    if kept.exists():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    fresh = private_folder("npm")
    for one in files:
        shutil.copy(one, fresh)
    subprocess.run(
        [
            *("npm", "ci", "--no-audit", "--no-fund", "--silent", "--ignore-scripts"),
            *("--prefix", str(fresh)),
        ],
        check=True,
        timeout=240,
    )
    try:
        # To be there at once and whole: the copy over file systems happens beside it.
        beside = kept.with_name(f"{kept.name}.{os.getpid()}")
        shutil.move(fresh, beside)
        beside.rename(kept)
    except OSError:  # somebody else was quicker
        shutil.rmtree(beside, ignore_errors=True)
    return kept
