"""A certification authority run with the openssl command: issues, revokes, signs lists, answers.

authority = OpensslCa(folder, "Example Root")
alice = authority.issue("alice@example.org", lists=["http://…"], responders=["http://…"])
authority.revoke(alice, "keyCompromise")
authority.published()                            # DER
authority.answer(question)                       # what its responder says, DER
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from cryptography import x509

from tests.servers.loopback_http import LoopbackServer, QuietRequest
from tests.servers.processes import ServerProcess

_CONFIG = """
[ca]
default_ca = it
[it]
dir = {folder}
database = $dir/index.txt
new_certs_dir = $dir
serial = $dir/serial
crlnumber = $dir/crlnumber
certificate = $dir/ca.pem
private_key = $dir/ca.key
default_md = sha256
default_days = 365
default_crl_days = 7
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
"""


@dataclass(frozen=True)
class Issued:
    """A certificate with its key: PEM files."""

    cert: Path
    key: Path

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.cert.read_bytes())


class OpensslCa:
    """An authority in a folder of its own; `parent` vouches for it, or it does itself."""

    def __init__(
        self,
        folder: Path,
        name: str = "Example Root",
        parent: OpensslCa | None = None,
        lists: Sequence[str] = (),
        usage: str = "keyCertSign, cRLSign, digitalSignature",
    ) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._issued = 0
        (folder / "config").write_text(_CONFIG.format(folder=folder))
        (folder / "index.txt").write_text("")
        (folder / "serial").write_text("1000\n")
        (folder / "crlnumber").write_text("01\n")
        self.cert, self.key = folder / "ca.pem", folder / "ca.key"
        extensions = f"basicConstraints = critical, CA:TRUE\nkeyUsage = critical, {usage}\n"
        extensions += "subjectKeyIdentifier = hash\n"
        if parent is None:
            (folder / "extensions").write_text(f"[v3]\n{extensions}")
            self.openssl(
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", self.key,
                "-out", self.cert, "-days", "3650", "-subj", f"/CN={name}",
                "-config", self._with(folder / "config", folder / "extensions"),
                "-extensions", "v3",
            )  # fmt: skip
        else:
            made = parent.issue(name, lists=lists, extensions=extensions)
            self.cert.write_bytes(made.cert.read_bytes())
            self.key.write_bytes(made.key.read_bytes())

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.cert.read_bytes())

    def openssl(self, *arguments: str | Path, data: bytes = b"") -> bytes:
        done = subprocess.run(
            ["openssl", *map(str, arguments)], input=data, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def issue(
        self,
        name: str,
        *,
        lists: Sequence[str] = (),
        responders: Sequence[str] = (),
        extensions: str = "",
    ) -> Issued:
        """A certificate for an address (or, with `extensions`, for anything)."""
        self._issued += 1
        stem = self.folder / f"issued-{self._issued}"
        key, cert, asked, ext = (stem.with_suffix(s) for s in (".key", ".pem", ".csr", ".ext"))
        lines = extensions or (
            f"subjectAltName = email:{name}\nextendedKeyUsage = emailProtection\n"
            "keyUsage = digitalSignature\n"
        )
        if lists:
            lines += f"crlDistributionPoints = {', '.join(f'URI:{one}' for one in lists)}\n"
        if responders:
            access = ", ".join(f"OCSP;URI:{one}" for one in responders)
            lines += f"authorityInfoAccess = {access}\n"
        ext.write_text(lines)
        self.openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", asked,
            "-subj", f"/CN={name}", "-config", self.folder / "config",
        )  # fmt: skip
        self.openssl(
            "ca", "-batch", "-notext", "-config", self.folder / "config", "-in", asked,
            "-out", cert, "-extfile", ext,
        )  # fmt: skip
        return Issued(cert, key)

    def revoke(self, issued: Issued, reason: str = "unspecified") -> None:
        """`reason`: a word of RFC 5280 section 5.3.1."""
        self.openssl(
            "ca", "-config", self.folder / "config", "-revoke", issued.cert, "-crl_reason", reason
        )

    def published(self, *options: str, extensions: str = "") -> bytes:
        """The list of now, DER; `extensions` are lines of a section of its own."""
        config = self.folder / "config"
        if extensions:
            section = self.folder / "list-extensions"
            section.write_text(f"[list]\n{extensions}\n")
            config = self._with(config, section)
            options = (*options, "-crlexts", "list")
        pem = self.openssl("ca", "-config", config, "-gencrl", *options)
        return self.openssl("crl", "-outform", "DER", data=pem)

    def answer(
        self, question: bytes, *options: str, signer: OpensslCa | Issued | None = None
    ) -> bytes:
        """What its responder answers, signed by `signer`; without `-ndays`, with no nextUpdate."""
        asked, answered = self.folder / "question.der", self.folder / "answer.der"
        asked.write_bytes(question)
        self.openssl(
            "ocsp", *self._responding(signer or self), "-reqin", asked, "-respout", answered,
            *options,
        )  # fmt: skip
        return answered.read_bytes()

    @contextmanager
    def responder(self, port: int, *options: str) -> Iterator[None]:
        """Its responder, over HTTP on a loopback port."""
        command = ["openssl", "ocsp", "-port", str(port), *options, *self._responding(self)]
        process = ServerProcess(list(map(str, command)), log=self.folder / "responder.log")
        try:
            # Not by a connection: it serves one at a time, and waits for what that one asks.
            process.wait_until(lambda: "waiting for OCSP client" in process.log.read_text())
            yield
        finally:
            process.kill()

    def _responding(self, signer: OpensslCa | Issued) -> list[str | Path]:
        return [
            "-index", self.folder / "index.txt", "-CA", self.cert,
            "-rsigner", signer.cert, "-rkey", signer.key,
        ]  # fmt: skip

    def _with(self, config: Path, more: Path) -> Path:
        whole = self.folder / "config-with-more"
        whole.write_text(config.read_text() + more.read_text())
        return whole


class AuthorityHost(LoopbackServer):
    """An HTTP server on a loopback port, which answers each path as it is told.

    `answers[path]` is what lies there, or a function that writes to the open answer; `asked` are
    the paths that were asked for.
    """

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[str] = []
        host = self

        class Handler(QuietRequest):
            def do_GET(self) -> None:
                host.asked.append(self.path)
                found = host.answers.get(self.path)
                if callable(found):
                    found(self)
                    return
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Length", str(len(found or b"")))
                self.end_headers()
                self.wfile.write(found or b"")

        super().__init__(Handler)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@pytest.fixture
def authority_host() -> Iterator[AuthorityHost]:
    with AuthorityHost() as running:
        yield running
