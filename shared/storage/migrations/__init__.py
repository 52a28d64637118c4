"""The schema's versions, a folder each: `v0001/*.sql`. `shared.storage.migrate` applies them.

They are numbered in order. The files of one are executed in the order of their names, in one
transaction. There is no way back: restore a backup for that.
"""

from collections.abc import Iterator
from importlib.resources import files


def versions() -> list[str]:
    """All that this code knows, in order: `0001`, …"""
    names = (path.name for path in files(__name__).iterdir())
    return sorted(name[1:] for name in names if name.startswith("v") and name[1:].isdigit())


def expected_version() -> str:
    """The schema version that this code was written for."""
    return versions()[-1]


def statements(version: str) -> Iterator[str]:
    """The files of one version, in order."""
    folder = files(__name__).joinpath(f"v{version}")
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.endswith(".sql"):
            yield path.read_text(encoding="utf-8")
