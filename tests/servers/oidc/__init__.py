"""An OpenID-certified authorisation server (npm's oidc-provider), over HTTPS on loopback.

    with OidcServer(authority) as server:
        server.issuer                       # https://localhost:PORT/t
        server.client_id, server.client_secret
        server.log_in(url, "alice@example.org")   # what a person does in the browser

Refresh tokens rotate, and one that is spent twice ends its whole grant. Access tokens are JWTs
(RS256, key id `test`, public key in `server.public_key`) with the claims `email` and `scope`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.servers.certificates import Authority
from tests.servers.processes import (
    accepts,
    end_with_parent,
    free_port,
    private_folder,
    wait_until,
)

VERSION = "9.13.3"
#: The scopes of all modes and grants (`shared.microsoft_clouds.scopes`).
SCOPES = (
    "https://mail.google.com/",
    "https://www.googleapis.com/auth/gmail.imap_admin",
    "https://outlook.office.com/IMAP.AccessAsUser.All",
    "https://outlook.office.com/POP.AccessAsUser.All",
    "https://outlook.office365.com/.default",
    "https://graph.microsoft.com/Mail.ReadWrite",
    "https://graph.microsoft.com/Mail.ReadWrite.Shared",
    "https://graph.microsoft.com/.default",
    # The same in the national clouds, by the names of their hosts.
    *(
        f"https://{host}/{scope}"
        for host in (
            "outlook.office365.us",
            "outlook-dod.office365.us",
            "partner.outlook.cn",
            "outlook.sovcloud.fr",
            "outlook.sovcloud.de",
            "outlook.sovcloud.sg",
        )
        for scope in ("IMAP.AccessAsUser.All", "POP.AccessAsUser.All", ".default")
    ),
    *(
        f"https://{host}/{scope}"
        for host in (
            "graph.microsoft.us",
            "dod-graph.microsoft.us",
            "microsoftgraph.chinacloudapi.cn",
            "graph.svc.sovcloud.fr",
            "graph.svc.sovcloud.de",
            "graph.svc.sovcloud.sg",
        )
        for scope in ("Mail.ReadWrite", "Mail.ReadWrite.Shared", ".default")
    ),
)
REDIRECT = "http://127.0.0.1:8025/api/v1/oauth/callback"
LOGIN_REDIRECT = "http://127.0.0.1:8025/login/oidc/callback"


class OidcServer:
    """oidc-provider as a child process."""

    path = "/t"
    client_id = "posthouse-tests"
    client_secret = "a-secret-that-only-tests-know"
    certificate_client_id = "posthouse-tests-certificate"
    #: For people who log in to Posthouse itself; proves itself in the header (RFC 6749, 2.3.1).
    login_client_id = "posthouse-tests-login"

    def __init__(self, authority: Authority, *, redirects: tuple[str, ...] = (REDIRECT,)) -> None:
        self.port = free_port()
        self.issuer = f"https://localhost:{self.port}{self.path}"
        self.folder = private_folder("oidc")
        self.folder.chmod(0o755)
        self.public_key = self.folder / "public.pem"
        self.client_certificate = ""  # PEM of key and certificate
        self.service_account: dict[str, Any] = {}
        self._authority = authority
        self._redirects = redirects
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def ca(self) -> str:
        return self._authority.pem

    def __enter__(self) -> OidcServer:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self, **options: Any) -> httpx.Client:
        """A browser without pictures: cookies, trust in the test authority, no redirects."""
        return httpx.Client(verify=ssl.create_default_context(cadata=self.ca), **options)

    def settings(self, **changes: Any) -> None:
        """Changes what the server does from now on: accessTokenTTL (seconds), claims (more of
        them, by user)."""
        with self.client() as client:
            client.post(f"{self.issuer}/test/settings", json=changes).raise_for_status()

    def revoke(self, token: str) -> None:
        """What happens when a person takes the consent back (RFC 7009)."""
        with self.client() as client:
            data = {
                "token": token,
                "client_id": self.client_id,
                "client_secret": self.client_secret,
            }
            client.post(f"{self.issuer}/token/revocation", data=data).raise_for_status()

    def access_token(self, user: str, scope: str = SCOPES[0]) -> str:
        """A token as this server makes them, for tests that are not about getting one."""
        with self.client() as client:
            answer = client.post(f"{self.issuer}/test/token", json={"user": user, "scope": scope})
            answer.raise_for_status()
            return answer.text

    def log_in(
        self, url: str, user: str | None = None, *, consent: bool = True
    ) -> Mapping[str, str]:
        """Walks through login and consent as a person would; the query of the redirect back.

        `user` None: presses on with whatever name the page already shows.
        """
        with self.client() as client:
            answer = client.get(url)
            for _ in range(12):
                where = answer.headers.get("location", "")
                if where and not where.startswith((self.issuer, self.path)):
                    return dict(httpx.URL(where).params)
                if where:
                    answer = client.get(httpx.URL(self.issuer).join(where))
                    continue
                if answer.status_code != 200:
                    raise RuntimeError(f"the authorisation server said: {answer.text}")
                answer = self._press(client, answer.text, user, consent)
        raise RuntimeError("the login never came to an end")

    def _press(
        self, client: httpx.Client, page: str, user: str | None, consent: bool
    ) -> httpx.Response:
        action = httpx.URL(self.issuer).join(_found(r'action="([^"]+)"', page))
        if "<h1>Consent" in page:
            return client.post(action, data={"answer": "allow" if consent else "deny"})
        shown = _found(r'name="login" value="([^"]*)"', page)
        return client.post(action, data={"answer": "login", "login": user or shown})

    def _start(self) -> None:
        identity = self._authority.issue("localhost", "127.0.0.1")
        client_key = self._make_client_certificate()
        account_key = self._make_service_account()
        options = {
            "port": self.port,
            "path": self.path,
            "modules": str(installed()),
            "publicKey": str(self.public_key),
            "tls": {"key": str(identity.key), "cert": str(identity.certificate)},
            "scopes": SCOPES,
            "serviceAccount": {
                "email": self.service_account["client_email"],
                "publicKey": str(account_key),
                "delegates": ["alice@example.org", "bob@example.org"],
            },
            "clients": [
                {
                    "client_id": self.client_id,
                    "client_secret": self.client_secret,
                    "redirect_uris": list(self._redirects),
                    "grant_types": [
                        "authorization_code",
                        "refresh_token",
                        "client_credentials",
                    ],
                    "token_endpoint_auth_method": "client_secret_post",
                },
                {
                    "client_id": self.login_client_id,
                    "client_secret": self.client_secret,
                    "redirect_uris": [LOGIN_REDIRECT],
                    "token_endpoint_auth_method": "client_secret_basic",
                },
                {
                    "client_id": self.certificate_client_id,
                    "redirect_uris": [],
                    "response_types": [],
                    "grant_types": ["client_credentials"],
                    "token_endpoint_auth_method": "private_key_jwt",
                    "jwks": {"keys": [client_key]},
                },
            ],
        }
        log = self.folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["node", str(Path(__file__).parent / "server.mjs"), json.dumps(options)],
                stdout=output,
                stderr=output,
                preexec_fn=end_with_parent,
            )
        wait_until(
            lambda: accepts(self.port),
            "The authorisation server",
            process=self._process,
            log=log,
        )

    def _make_client_certificate(self) -> dict[str, Any]:
        import datetime

        key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Posthouse")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .sign(key, _sha256())
        )
        self.client_certificate = (
            _pem(key) + certificate.public_bytes(serialization.Encoding.PEM).decode()
        )
        numbers = key.public_key().public_numbers()
        return {"kty": "RSA", "n": _base64(numbers.n), "e": _base64(numbers.e)}

    def _make_service_account(self) -> Path:
        key = rsa.generate_private_key(65537, 2048)
        public = self.folder / "service-account.pem"
        public.write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        self.service_account = {
            "type": "service_account",
            "client_email": "posthouse@project.iam.example",
            "private_key": _pem(key),
            "private_key_id": "one",
            "token_uri": f"{self.issuer}/service-account",
        }
        return public


def installed() -> Path:
    """oidc-provider's folder, installed once a machine by npm."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "posthouse-tests" / f"oidc-provider-{VERSION}"
    if not (folder / "node_modules" / "oidc-provider").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = private_folder("npm")
        subprocess.run(
            [
                *("npm", "install", "--no-save", "--no-audit", "--no-fund", "--silent"),
                *("--prefix", str(fresh), f"oidc-provider@{VERSION}"),
            ],
            check=True,
            timeout=240,
        )
        try:
            shutil.move(fresh, folder)
        except OSError:  # somebody else was quicker
            shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _sha256() -> Any:
    from cryptography.hazmat.primitives import hashes

    return hashes.SHA256()


def _base64(number: int) -> str:
    import base64

    octets = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _found(pattern: str, page: str) -> str:
    found = re.search(pattern, page)
    if not found:
        raise RuntimeError(f"the page has no {pattern}: {page}")
    return found.group(1).replace("&#38;", "&")


@pytest.fixture(scope="session")
def oidc(authority: Authority) -> Iterator[OidcServer]:
    """The session's authorisation server."""
    with OidcServer(authority) as server:
        yield server
