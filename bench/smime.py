"""How fast mails are opened, beside what limits it: `python -m bench smime`.

Every figure is measured in turns with its limit, in the same run and on the same core, and given
as the median of the turns: the machine may be busy, the ratio must not depend on it.

- 8 kB mails (RSA-2048, AES-256-CBC) against the bare private key operation of the same library, 64
  of them in a call as the decryptor does it, and one by one;
- two processes against one;
- 10 MB mails against `openssl cms -decrypt`, once a mail.
"""

from __future__ import annotations

import argparse
import base64
import multiprocessing
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from services.decryptor.opening import TrustStore, open_mail, open_mails
from shared.certificates import Identity, IdentityIndex
from shared.memory_tuning import keep_freed, spare_from_collection

#: As the decryptor opens small mails of one mailbox.
TOGETHER = 64
RESULTS = Path(__file__).parent / "results" / "smime.md"
HEADER = (
    b"Received: from mx.example.net (mx.example.net [192.0.2.1])\r\n"
    b"\tby mail.example.org with ESMTPS id 4711; Thu, 1 Jan 2026 10:00:00 +0100\r\n"
) * 4 + (
    b"From: Alice <alice@example.org>\r\nTo: Bob <bob@example.org>\r\nSubject: Invoice 4711\r\n"
    b"Date: Thu, 1 Jan 2026 10:00:00 +0100\r\nMessage-ID: <4711@example.org>\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name="smime.p7m"\r\n'
    b"Content-Transfer-Encoding: base64\r\n\r\n"
)


class Rig:
    """Keys and mails in a folder, and what is needed to open them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trust = TrustStore()

    def make(self) -> None:
        """Writes keys, certificates and mails."""
        keys: dict[str, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey] = {
            "rsa": rsa.generate_private_key(65537, 2048),
            "p256": ec.generate_private_key(ec.SECP256R1()),
        }
        for name, key in keys.items():
            (self.folder / f"{name}.cert.pem").write_bytes(certificate(key))
            (self.folder / f"{name}.key.pem").write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
        oaep = ("-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256")
        for name, size, who, options in (
            ("small", 8_192, "rsa", ("-aes256",)),
            ("oaep", 8_192, "rsa", ("-aes256", *oaep)),
            ("gcm", 8_192, "rsa", ("-aes-256-gcm",)),
            ("ecdh", 8_192, "p256", ("-aes256",)),
            ("streamed", 8_192, "rsa", ("-aes256", "-stream", "-indef")),
            ("large", 10_000_000, "rsa", ("-aes256",)),
            ("large streamed", 10_000_000, "rsa", ("-aes256", "-stream", "-indef")),
            ("large gcm", 10_000_000, "rsa", ("-aes-256-gcm",)),
        ):
            self.mail(name).write_bytes(self._mail(size, who, options))

    def _mail(self, size: int, who: str, options: tuple[str, ...]) -> bytes:
        text = base64.encodebytes(os.urandom(size * 3 // 4)).replace(b"\n", b"\r\n")[:size]
        entity = b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + text
        cms = subprocess.run(
            ["openssl", "cms", "-encrypt", "-binary", "-outform", "DER", *options[:1],
             *(o for o in options[1:] if o in ("-stream", "-indef")),
             "-recip", self.folder / f"{who}.cert.pem",
             *(o for o in options[1:] if o not in ("-stream", "-indef"))],
            input=entity, check=True, capture_output=True,
        ).stdout  # fmt: skip
        return HEADER + base64.encodebytes(cms).replace(b"\n", b"\r\n")

    def mail(self, name: str) -> Path:
        return self.folder / f"{name}.eml"

    def key(self, name: str = "rsa") -> rsa.RSAPrivateKey:
        return serialization.load_pem_private_key(  # type: ignore[return-value]
            (self.folder / f"{name}.key.pem").read_bytes(), None
        )

    def identities(self) -> IdentityIndex:
        found = []
        for name in ("rsa", "p256"):
            cert = x509.load_pem_x509_certificate((self.folder / f"{name}.cert.pem").read_bytes())
            private = self.key(name).private_bytes(
                serialization.Encoding.DER,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            der = cert.public_bytes(serialization.Encoding.DER)
            found.append(Identity.load(name, der, private))
        return IdentityIndex(found)

    def opens(self, name: str) -> Callable[[], None]:
        """Opens one mail: a small one from memory, a large one from its file."""
        identities, trust, folder = self.identities(), self.trust, self.folder
        path = self.mail(name)
        raw = path.read_bytes()
        if len(raw) < 1_000_000:

            def one() -> None:
                with open_mail(raw, identities, trust, spool_dir=folder) as opened:
                    assert opened.content is not None
        else:

            def one() -> None:
                with (
                    path.open("rb") as file,
                    open_mail(file, identities, trust, spool_dir=folder) as opened,
                ):
                    assert opened.content is not None

        return one

    def opens_many(self, name: str) -> Callable[[], None]:
        """Opens `TOGETHER` small mails as the decryptor does, each from octets of its own."""
        identities, trust, folder = self.identities(), self.trust, self.folder
        raws = [self.mail(name).read_bytes() for _ in range(TOGETHER)]

        def many() -> None:
            for opened in open_mails(raws, identities, trust, spool_dir=folder):
                with opened:
                    assert opened.content is not None

        return many

    def bare(self) -> Callable[[], object]:
        """The private key operation alone."""
        key = self.key()
        wrapped = key.public_key().encrypt(os.urandom(32), padding.PKCS1v15())
        scheme = padding.PKCS1v15()
        return lambda: key.decrypt(wrapped, scheme)

    def openssl(self, name: str) -> Callable[[], object]:
        """One call of the openssl command a mail."""
        command: list[str] = [
            "openssl", "cms", "-decrypt",
            "-in", str(self.mail(name)), "-out", str(self.folder / "out"),
            "-inkey", str(self.folder / "rsa.key.pem"),
            "-recip", str(self.folder / "rsa.cert.pem"),
        ]  # fmt: skip
        return lambda: subprocess.run(command, check=True)


def certificate(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Bench")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def rate(work: Callable[[], object], seconds: float, *, mails: int = 1) -> float:
    """Mails a second, over at least `seconds`, where each call of `work` does so many."""
    work()
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        work()
        count += mails
    return count / passed


def in_turns(
    first: Callable[[], object],
    second: Callable[[], object],
    turns: int,
    seconds: float,
    *,
    mails: int = 1,
) -> tuple[float, float, float]:
    """(median rate of the first, of the second, median of the ratios first / second)."""
    pairs = [(rate(first, seconds, mails=mails), rate(second, seconds)) for _ in range(turns)]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def worker(folder: Path, core: int, ready: Barrier, seconds: float, out: object) -> None:
    """One of the processes that open small mails side by side."""
    pin(core)
    keep_freed()
    spare_from_collection()
    many = Rig(folder).opens_many("small")
    many()
    ready.wait()
    out.put(rate(many, seconds, mails=TOGETHER))  # type: ignore[attr-defined]


def processes(folder: Path, count: int, seconds: float) -> float:
    """The rate of `count` processes together, each on a core of its own."""
    context = multiprocessing.get_context("spawn")
    ready, out = context.Barrier(count), context.Queue()
    started = [
        context.Process(target=worker, args=(folder, core, ready, seconds, out))
        for core in range(count)
    ]
    for process in started:
        process.start()
    total: float = sum(out.get() for _ in started)
    for process in started:
        process.join()
    return total


def pin(core: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})


def measure(rig: Rig, turns: int, seconds: float) -> list[str]:
    """The table, line by line."""
    lines = [
        "| what | rate | limit beside it | ratio | wanted |",
        "|---|---|---|---|---|",
    ]
    pairs = [
        (processes(rig.folder, 2, seconds * 2), processes(rig.folder, 1, seconds * 2))
        for _ in range(max(3, turns // 4))
    ]
    both, alone, scale = (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )
    pin(0)
    small, bare, ratio = in_turns(
        rig.opens_many("small"), rig.bare(), turns, seconds, mails=TOGETHER
    )
    lines.append(
        f"| 8 kB, RSA-2048, AES-256-CBC, {TOGETHER} together | {small:,.0f}/s "
        f"| bare RSA private key {bare:,.0f}/s | {ratio:.2f} | ≥ 0.80 |"
    )
    single, bare, ratio = in_turns(rig.opens("small"), rig.bare(), turns, seconds)
    lines.append(
        f"| the same, one by one | {single:,.0f}/s | bare RSA private key {bare:,.0f}/s "
        f"| {ratio:.2f} | |"
    )
    lines.append(
        f"| {TOGETHER} together, two processes | {both:,.0f}/s | one process {alone:,.0f}/s "
        f"| {scale:.2f} | ≥ 1.70 |"
    )
    for name in ("large", "large streamed", "large gcm"):
        opener, command = rig.opens(name), rig.openssl(name)
        if name == "large gcm":
            lines.append(f"| 10 MB, AES-256-GCM | {rate(opener, seconds):,.1f}/s | | | |")
            continue
        big, other, faster = in_turns(opener, command, max(3, turns // 2), seconds)
        label = "10 MB, AES-256-CBC" + (", streamed" if "streamed" in name else "")
        lines.append(
            f"| {label} | {big:,.1f}/s | `openssl cms -decrypt` {other:,.1f}/s "
            f"| {faster:.2f} | ≥ 3 |"
        )
    for name, label in (
        ("oaep", "8 kB, RSA-OAEP-SHA256"),
        ("gcm", "8 kB, AES-256-GCM"),
        ("streamed", "8 kB, streamed"),
        ("ecdh", "8 kB, ECDH P-256"),
    ):
        lines.append(f"| {label} | {rate(rig.opens(name), seconds):,.0f}/s | | | |")
    return lines


def main(argv: list[str] | None = None) -> int:
    """Measures, prints, and writes bench/results/smime.md."""
    parser = argparse.ArgumentParser(prog="bench smime", description=__doc__)
    parser.add_argument("--turns", type=int, default=15, help="measurements of each pair")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one measurement")
    parser.add_argument("--no-write", action="store_true", help="only print")
    wanted = parser.parse_args(argv)
    keep_freed()  # both as the decryptor does when it starts
    spare_from_collection()
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder))
        rig.make()
        load = os.getloadavg()[0]
        table = measure(rig, wanted.turns, wanted.seconds)
    text = "\n".join(
        [
            "# Opening S/MIME mails",
            "",
            f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, "
            f"{backend.openssl_version_text()}, {os.cpu_count()} cores; load {load:.1f} before, "
            f"{os.getloadavg()[0]:.1f} after. Medians of {wanted.turns} turns of "
            f"{wanted.seconds} s each; both columns in turns, in the same run, on the same core.",
            "",
            *table,
            "",
        ]
    )
    print(text)
    if not wanted.no_write:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
