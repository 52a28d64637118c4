"""An OAuth2 provider over HTTPS that says what a test wants it to say.

    with ScriptedProvider(identity) as provider:
        provider.issuer                       # https://localhost:port/tenant
        provider.say(400, {"error": ...})     # every token request from now on
        provider.say_page(200, "<html>…")     # the same as a page; discovery=True: there, too
        provider.speak()                      # well again

Its discovery documents are those of Entra's v2.0 endpoint and of OpenID Connect Discovery alike.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from tests.servers.certificates import ServerIdentity
from tests.servers.loopback_http import LoopbackServer, TlsRequest, tls_of

#: A key to verify with: RFC 8037 appendix A.2.
_KEY = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}


@dataclass(frozen=True, slots=True)
class Said:
    """One answer. `octets` are sent as they are, whatever the headers say of them."""

    status: int
    octets: bytes
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class ScriptedProvider(LoopbackServer):
    """Listens on a loopback port. `asked` holds every request: its path and its form."""

    def __init__(self, identity: ServerIdentity) -> None:
        self._number = itertools.count(1)
        self._token: Said | None = None
        self._discovery: Said | None = None
        self.more: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(TlsRequest):
            context = tls_of(identity)

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                form = parse_qs(self.rfile.read(length).decode())
                said = outer._answer(self.path, {name: v[0] for name, v in form.items()})
                self.send_response(said.status)
                self.send_header("Content-Type", said.kind)
                self.send_header("Content-Length", str(len(said.octets)))
                for name, value in said.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said.octets)

            do_GET = do_POST = _serve

        super().__init__(Handler)
        self.issuer = f"https://localhost:{self.port}/tenant"

    # ---- what it says

    def speak(self, **more: Any) -> None:
        """Everything is well; `more` goes into every token answer, None takes out what it names."""
        self._token = self._discovery = None
        self.more = more

    def say(
        self,
        status: int,
        answer: Any,
        *,
        retry_after: float | None = None,
        discovery: bool = False,
    ) -> None:
        self.say_octets(
            Said(
                status,
                json.dumps(answer).encode(),
                headers={} if retry_after is None else {"Retry-After": f"{retry_after:g}"},
            ),
            discovery=discovery,
        )

    def say_page(self, status: int, page: str, *, discovery: bool = False) -> None:
        self.say_octets(
            Said(status, page.encode(), "text/html; charset=utf-8"), discovery=discovery
        )

    def say_octets(self, said: Said, *, discovery: bool = False) -> None:
        self._token = said
        self._discovery = said if discovery else None

    # ---- one request

    @property
    def token_requests(self) -> int:
        return sum(path.endswith("/token") for path, _ in self.asked)

    def _answer(self, path: str, form: dict[str, str]) -> Said:
        self.asked.append((path, form))
        if ".well-known" in path:
            return self._discovery or Said(200, json.dumps(self.document(path)).encode())
        if path.endswith("/keys"):
            return Said(200, json.dumps({"keys": [_KEY]}).encode())
        if path.endswith("/revoke"):
            return Said(200, b"{}")
        if self._token is not None:
            return self._token
        number = next(self._number)
        tokens = {
            "token_type": "Bearer",
            "access_token": f"access-{number}",
            "refresh_token": f"refresh-{number}",
            "expires_in": 3600,
            **self.more,
        }
        told = {name: value for name, value in tokens.items() if value is not None}
        return Said(200, json.dumps(told).encode())

    def document(self, path: str) -> dict[str, Any]:
        return {
            "issuer": f"{self.issuer}/v2.0" if "/v2.0/" in path else self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "revocation_endpoint": f"{self.issuer}/revoke",
            "jwks_uri": f"{self.issuer}/keys",
        }
