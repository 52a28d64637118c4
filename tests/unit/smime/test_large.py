"""A mail of 150 MB within 200 MB of memory, measured in a process of its own."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.smime.mails import HEADER
from tests.unit.smime.pki import Holder, Pki

_OPEN = """
import sys
from pathlib import Path
from services.decryptor.opening import TrustStore, open_mail
from shared.certificates import Identity, IdentityIndex
folder = Path(sys.argv[1])
identity = Identity.load("id", (folder / "cert").read_bytes(), (folder / "key").read_bytes())
with (folder / "mail").open("rb") as raw, open_mail(
    raw, IdentityIndex([identity]), TrustStore(), spool_dir=folder
) as opened:
    print(opened.security.status, opened.security.reason)
    print(opened.content.stat().st_size)
# Not ru_maxrss: a child starts with the mark of the process that made it.
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.promise("C2")
@pytest.mark.parametrize(
    "options",
    [("-aes256",), ("-aes256", "-stream", "-indef"), ("-aes-256-gcm", "-stream", "-indef")],
    ids=["cbc", "streamed", "streamed gcm"],
)
def test_150_megabytes(
    options: tuple[str, ...], pki: Pki, holders: dict[str, Holder], tmp_path: Path
) -> None:
    bob = holders["rsa"]
    header = b"Content-Type: application/octet-stream\r\n\r\n"
    plain = tmp_path / "plain"
    size = 110_000_000
    with plain.open("wb") as file:
        file.write(header)
        block = os.urandom(1 << 20)
        for _ in range(size // len(block)):
            file.write(block)
    cms = tmp_path / "cms"
    subprocess.run(
        ["openssl", "cms", "-encrypt", "-binary", "-outform", "DER", *options,
         "-in", plain, "-out", cms, bob.cert], check=True,
    )  # fmt: skip
    with cms.open("rb") as source, (tmp_path / "mail").open("wb") as mail:
        mail.write(HEADER + b"Content-Type: application/pkcs7-mime\r\n")
        mail.write(b"Content-Transfer-Encoding: base64\r\n\r\n")
        while piece := source.read(57 * 1000):
            mail.write(base64.encodebytes(piece).replace(b"\n", b"\r\n"))
        assert mail.tell() > 145_000_000
    cms.unlink()
    (tmp_path / "cert").write_bytes(bob.der)
    (tmp_path / "key").write_bytes(bob.pkcs8)
    done = subprocess.run(
        [sys.executable, "-c", _OPEN, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    status, content_size, memory = done.stdout.split()
    assert status == "decrypted"
    assert int(content_size) > size // (1 << 20) * (1 << 20)
    assert int(memory) < 200, f"{memory} MB resident"
