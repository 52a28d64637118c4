"""Temporary files are kept in memory where it has room, and where nobody wants them elsewhere."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.rig import temporary_files
from tests.rig.temporary_files import has_room, keep_in_memory


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody named a folder, and a folder that takes files stands for memory."""
    monkeypatch.setenv("TMPDIR", "")  # what is set here is taken back after the test
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(temporary_files, "MEMORY", tmp_path)
    monkeypatch.setattr(temporary_files, "ROOM", 1 << 20)


def test_they_are_in_memory(tmp_path: Path) -> None:
    keep_in_memory()
    assert Path(tempfile.gettempdir()) == tmp_path


def test_who_names_a_folder_has_them_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    named = tmp_path_factory.mktemp("named")
    monkeypatch.setenv("TMPDIR", str(named))
    keep_in_memory()
    assert Path(tempfile.gettempdir()) == named


def test_too_little_room_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(temporary_files, "ROOM", 1 << 60)
    keep_in_memory()
    assert Path(tempfile.gettempdir()) != tmp_path


def test_a_folder_that_is_not_there_or_takes_nothing_has_no_room(tmp_path: Path) -> None:
    assert not has_room(tmp_path / "missing")
    assert not has_room(Path("/proc"))
