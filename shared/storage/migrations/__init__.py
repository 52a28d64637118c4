"""The schema's versions; `shared.storage.migrate` applies them.

They are numbered in order, and a file is named by its number: `versions/v0001_first_schema.py`.
"""

from importlib.resources import files


def expected_version() -> str:
    """The schema version that this code was written for: `0001`. Needs no Alembic: all services
    ask when they start."""
    names = (
        path.name for path in files("shared.storage.migrations").joinpath("versions").iterdir()
    )
    return max(name[1:5] for name in names if name.startswith("v") and name.endswith(".py"))
