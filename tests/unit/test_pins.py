"""What is installed is what was locked: exact versions, each with its hashes, agreeing everywhere.

What needs a database of known weaknesses is `make audit`, which asks for it over the network; these
hold without one.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "requirements"
LOCKS = sorted(FOLDER.glob("*.lock"))
_OURS = {"posthouse", "posthouse-server"}


def pins(lock: Path) -> dict[str, tuple[Requirement, list[str]]]:
    """Name → the requirement and its hashes. `# comments` are left out."""
    text = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, tuple[Requirement, list[str]]] = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words, *hashes = re.split(r"\s+--hash=", line.strip())
        requirement = Requirement(words)
        found[canonicalize_name(requirement.name)] = (requirement, hashes)
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_pin_is_one_version_with_its_hashes(lock: Path) -> None:
    locked = pins(lock)
    assert locked
    for name, (requirement, hashes) in locked.items():
        operators = [part.operator for part in requirement.specifier]
        assert operators == ["=="], f"{name} is not pinned to a version"
        assert requirement.url is None, f"{name} comes from an address of its own"
        assert hashes, f"{name} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), name
        version = Version(next(iter(requirement.specifier)).version)
        assert not version.is_devrelease, f"{name} {version} is a development build"


def test_what_the_services_need_is_locked_and_allowed_by_what_they_say() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    run, image = pins(FOLDER / "run.lock"), pins(FOLDER / "image.lock")
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        if name in _OURS:
            continue
        for where, locked in (("run.lock", run), ("image.lock", image)):
            assert name in locked, f"{name} is not in {where}: run `make lock`"
            version = next(iter(locked[name][0].specifier)).version
            assert requirement.specifier.contains(version, prereleases=True), (where, name, version)


@pytest.mark.parametrize("other", ["dev.lock", "image.lock"])
def test_tests_and_image_run_what_is_shipped(other: str) -> None:
    run, locked = pins(FOLDER / "run.lock"), pins(FOLDER / other)
    for name in set(run) & set(locked):
        assert locked[name][0].specifier == run[name][0].specifier, name
    if other == "dev.lock":
        assert set(run) <= set(locked)


def test_nothing_is_installed_without_its_hash() -> None:
    """Each command that installs third-party packages checks hashes, or takes none of them."""
    for path in (ROOT / "Makefile", *ROOT.glob("deploy/**/Dockerfile*")):
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"[^\n]*(?:pip install|\$\(INSTALL\))[^\n]*", text):
            if line.startswith("INSTALL :="):
                continue  # the word for it
            assert "--require-hashes" in line or "--no-deps" in line, f"{path.name}: {line}"
