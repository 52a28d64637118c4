"""What was released stays as it is: databases of users have it, and no file is executed twice."""

from __future__ import annotations

from hashlib import sha256

import pytest

from shared.storage.migrations import statements, versions

#: SHA-256 of a version's files, one after the other.
RELEASED = {
    "0001": "7f57fdc397e267831a9043567a16c81725f680c709ba26b8681e620edb5fe4f8",
}


@pytest.mark.parametrize("version", RELEASED)
def test_a_released_version_of_the_schema_never_changes(version: str) -> None:
    text = "".join(statements(version))
    assert sha256(text.encode()).hexdigest() == RELEASED[version], (
        f"v{version} was released: what comes after it goes into the next version "
        "(CONTRIBUTING.md, The schema)"
    )


def test_versions_are_numbered_without_a_gap() -> None:
    assert versions() == [f"{number:04}" for number in range(1, len(versions()) + 1)]
    assert set(RELEASED) <= set(versions())
