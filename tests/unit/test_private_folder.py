"""What a killed decryptor leaves: no plaintext for long, and nothing in the next one's way."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

from services.decryptor.private_folder import PrivateFolder

_VICTIM = """
import sys, time
from pathlib import Path
from services.decryptor.private_folder import PrivateFolder
folder = PrivateFolder(Path(sys.argv[1])).path
(folder / "opened-x.eml").write_text("plaintext")
print(folder, flush=True)
time.sleep(600)
"""


#: Opens a signed mail through files, and dies with its content in one of them.
_OPENING = """
import os, signal, sys
from pathlib import Path
from services.decryptor.opening import MailLimits, open_mail
from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex
folder, mail = Path(sys.argv[1]), Path(sys.argv[2])
opened = open_mail(mail.read_bytes(), IdentityIndex(), TrustStore(),
                   limits=MailLimits(memory_bytes=0),
                   spool_dir=folder)
assert isinstance(opened.content, Path), opened
assert b"Please pay invoice 4711" in opened.content.read_bytes()
os.kill(os.getpid(), signal.SIGKILL)
"""
_SIGNED = Path(__file__).parent / "smime" / "cases" / "forged" / "00-honest.eml"


def start_victim(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", _VICTIM, str(parent)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_the_next_one_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    victim, left = start_victim(tmp_path)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert (left / "opened-x.eml").exists()
    following = PrivateFolder(tmp_path)
    assert following.path.is_dir()
    assert not left.exists()
    following.close()
    assert list(tmp_path.iterdir()) == []


def test_a_mail_in_hand_leaves_nothing_when_its_process_is_killed(tmp_path: Path) -> None:
    victim = subprocess.run(
        [sys.executable, "-c", _OPENING, str(tmp_path), str(_SIGNED)],
        capture_output=True,
        check=False,
    )
    assert victim.returncode == -signal.SIGKILL, victim.stderr.decode()
    assert list(tmp_path.iterdir()) == []


def test_what_a_living_one_uses_is_left_alone(tmp_path: Path) -> None:
    living, used = start_victim(tmp_path)
    try:
        PrivateFolder(tmp_path).path.exists()
        assert (used / "opened-x.eml").read_text() == "plaintext"
    finally:
        living.kill()
        living.wait()


def test_nobody_else_can_look_into_it(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        folder = PrivateFolder(tmp_path)
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        folder.close()
    finally:
        os.umask(mask)
