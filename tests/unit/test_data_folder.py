"""The folder of `posthouse up`: held once, private, and it does not forget."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cli.client import Api
from cli.local.data_folder import (
    DataFolder,
    default_folder,
    free_port,
    local_api,
    naming,
    read_kept,
)
from shared.errors import Conflict, InvalidInput, NotFound


def test_a_second_up_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    with (
        DataFolder(tmp_path / "data"),
        pytest.raises(Conflict, match=str(os.getpid())) as caught,
        DataFolder(tmp_path / "data"),
    ):
        pytest.fail("held twice")
    assert "--data-dir" in caught.value.hint
    with DataFolder(tmp_path / "data"):
        pass  # free again


def test_the_hold_ends_with_the_process_however_it_ends(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path\n"
        "from cli.local.data_folder import DataFolder\n"
        "DataFolder(Path(sys.argv[1])).__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode < 0
    with DataFolder(tmp_path):
        pass


def test_what_is_kept_is_private_and_the_same_next_time(tmp_path: Path) -> None:
    with DataFolder(tmp_path / "d") as folder:
        password = folder.password("postgres_password")
        assert len(password) >= 24
    with DataFolder(tmp_path / "d") as folder:
        assert folder.password("postgres_password") == password
    secrets = tmp_path / "d" / "secrets.json"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o700


def test_a_port_stays_until_somebody_else_takes_it(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder:
        port = folder.port("broker_port")
        assert folder.port("broker_port") == port
        with socket.socket() as other:
            other.bind(("127.0.0.1", port))
            other.listen()
            assert folder.port("broker_port") != port
        assert read_kept(tmp_path)["broker_port"] == folder.port("broker_port")


def test_damaged_secrets_are_not_silently_replaced(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{half")
    with pytest.raises(InvalidInput, match="cannot be read"), DataFolder(tmp_path):
        pytest.fail("new keys would make every stored secret unreadable")


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="cannot be used"), DataFolder(tmp_path / "file" / "x"):
        pytest.fail("entered")


def test_who_is_told_of_an_up_is_told_how_commands_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POSTHOUSE_DATA_DIR", raising=False)
    assert naming(default_folder()) == ""
    assert naming(tmp_path / "a folder") == f"--data-dir '{tmp_path}/a folder'"
    monkeypatch.setenv("POSTHOUSE_DATA_DIR", str(tmp_path))
    assert naming(tmp_path) == ""


def test_the_local_api_is_found_where_up_ran(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="No `posthouse up`"):
        local_api(tmp_path)
    with DataFolder(tmp_path) as folder:
        folder.replace("api_url", "http://127.0.0.1:8025")
        folder.replace("admin_token", "t")
    assert local_api(tmp_path) == ("http://127.0.0.1:8025", "t")


def test_the_default_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("POSTHOUSE_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "posthouse"
    monkeypatch.setenv("XDG_DATA_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".local/share/posthouse"
    monkeypatch.setenv("POSTHOUSE_DATA_DIR", str(tmp_path / "here"))
    assert default_folder() == tmp_path / "here"
    assert 1024 < free_port() < 65536


def test_commands_take_the_token_of_the_local_posthouse_for_its_own_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes a handler has POSTHOUSE_URL in the environment, and no token of the API."""
    with DataFolder(tmp_path) as folder:
        folder.replace("api_url", "http://127.0.0.1:8719")
        folder.replace("admin_token", "a-token")
    monkeypatch.setenv("POSTHOUSE_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("POSTHOUSE_TOKEN", raising=False)
    for url in ("http://127.0.0.1:8719", "http://localhost:8719/"):
        monkeypatch.setenv("POSTHOUSE_URL", url)
        with Api.from_environment() as api:
            assert api.url == "http://127.0.0.1:8719"
    monkeypatch.setenv("POSTHOUSE_URL", "https://mail.example.org")
    with pytest.raises(InvalidInput, match="POSTHOUSE_TOKEN is not set"):
        Api.from_environment()
