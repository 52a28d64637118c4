"""GnuPG for the tests: a home of its own, keys of any age, messages to any part of a key."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


class GnuPG:
    """One home directory. `at` is a faked time, as `20150101T000000`."""

    def __init__(self, home: Path, passphrase: str = "") -> None:
        self.home = home
        self.passphrase = passphrase
        home.chmod(0o700)
        # Each derivation of a key from a passphrase would take a tenth of a second here, and
        # seconds where it is read.
        (home / "gpg-agent.conf").write_text("s2k-count 65536\n")

    def __call__(self, *arguments: str, data: bytes = b"", at: str = "") -> bytes:
        done = subprocess.run(
            ["gpg", "--homedir", str(self.home), "--batch", "--pinentry-mode", "loopback",
             "--passphrase", self.passphrase, "--trust-model", "always",
             *(("--faked-system-time", f"{at}!") if at else ()), *arguments],
            input=data, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def key(self, user_id: str, *subkeys: str, at: str = "", expire: str = "never") -> str:
        """An RSA key that signs, and a part for each of `subkeys`; its fingerprint."""
        options = ("--cert-digest-algo", "SHA1") if at else ()
        self(*options, "--quick-gen-key", user_id, "rsa2048", "sign,cert", expire, at=at)
        fingerprint = self.fingerprints(user_id)[0]
        for kind in subkeys:
            self(*options, "--quick-add-key", fingerprint, kind, "encrypt", expire, at=at)
        return fingerprint

    def fingerprints(self, user_id: str) -> list[str]:
        """Of the primary key, then of its subkeys."""
        listed = self("--list-keys", "--with-colons", user_id).decode()
        return [line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:")]

    def secret(self, user_id: str, *, subkeys: bool = False) -> bytes:
        """The secret key; with `subkeys`, without the secret of the primary one."""
        what = "--export-secret-subkeys" if subkeys else "--export-secret-keys"
        return self(what, "--armor", user_id)

    def encrypt(self, data: bytes, to: str, *options: str, at: str = "") -> bytes:
        """Encrypted to exactly this part of a key, by its fingerprint."""
        return self("--armor", *options, "--encrypt", "-r", f"{to}!", data=data, at=at)

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", self.home, "--kill", "all"], check=False)
        shutil.rmtree(self.home, ignore_errors=True)
