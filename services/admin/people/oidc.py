"""Login through an OpenID Connect provider (OpenID Connect Core 1.0, code flow with PKCE).

Only people whom an administrator has added may pass: at the first login by their verified email
address, from then on by the provider's subject, which never changes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from services.admin.people.access import Access, LoginRefused
from services.admin.people.bounded_adapter import BoundedAdapter
from services.admin.people.tokens import digest_of
from shared.errors import TryAgain
from shared.storage import people
from shared.storage.pool import Database

_TIMEOUT: Final = 10.0  # seconds
_KEPT: Final = 3600.0  # seconds that the provider's description and keys are believed
_ALGORITHMS: Final = ["RS256", "PS256", "ES256", "ES384", "EdDSA"]


@dataclass(frozen=True, slots=True)
class Provider:
    """Whom we ask. `callback` is our address that the provider sends people back to."""

    issuer: str
    client_id: str
    client_secret: str | None
    callback: str


class Oidc:
    """Starts logins at one provider and takes their answers. Blocking."""

    def __init__(self, provider: Provider, database: Database, access: Access) -> None:
        self._provider = provider
        self._database = database
        self._access = access
        self._described: tuple[float, Mapping[str, Any], KeySet] | None = None

    def start(self, follow: str) -> tuple[str, str]:
        """The provider's address to send the browser to, and the cookie that binds it to us."""
        description, _ = self._describe()
        state, nonce, browser = (secrets.token_urlsafe(32) for _ in range(3))
        verifier = secrets.token_urlsafe(48)
        with self._client() as client:
            address, _ = client.create_authorization_url(
                description["authorization_endpoint"],
                state=state,
                nonce=nonce,
                code_verifier=verifier,
            )
        login = people.OidcLogin(verifier, nonce, follow)
        with self._database.transaction() as session:
            people.keep_oidc_login(session, state, digest_of(browser), login)
        return str(address), browser

    def finish(self, answer: Mapping[str, str], browser: str) -> tuple[str, str]:
        """The session's cookie and where to go on. Raises LoginRefused or TryAgain."""
        if "error" in answer:
            told = answer.get("error_description") or answer["error"]
            raise LoginRefused(f"The provider refused the login: {told[:300]}")
        with self._database.transaction() as session:
            login = people.take_oidc_login(session, answer.get("state", ""), digest_of(browser))
        if login is None:
            raise LoginRefused(
                "This login was not started in this browser, or took longer than 15 minutes.",
                hint="Start again.",
            )
        claims = self._claims(answer.get("code", ""), login)
        verified = str(claims.get("email", "")) if claims.get("email_verified") is True else ""
        subject = f"{self._provider.issuer} {claims['sub']}"
        with self._database.transaction() as session:
            person_id = people.claim_subject(session, subject, verified)
            if person_id is None:
                raise LoginRefused(
                    f"Nobody here has the account {claims.get('email') or claims['sub']}.",
                    hint="An administrator of Posthouse adds people, by their email address.",
                )
            name = people.person(session, person_id).name
            return self._access.start_session(session, person_id, name), login.next

    def _claims(self, code: str, login: people.OidcLogin) -> Mapping[str, Any]:
        """The checked claims of the ID token (Core section 3.1.3.7)."""
        description, keys = self._describe()
        try:
            with self._client() as client:
                answered = client.fetch_token(
                    description["token_endpoint"],
                    code=code,
                    code_verifier=login.verifier,
                    timeout=_TIMEOUT,
                )
            token = jwt.decode(answered["id_token"], keys, algorithms=_ALGORITHMS)
            jwt.JWTClaimsRegistry(
                leeway=60,
                iss={"essential": True, "value": self._provider.issuer},
                aud={"essential": True, "value": self._provider.client_id},
                exp={"essential": True},
                sub={"essential": True},
                nonce={"essential": True, "value": login.nonce},
            ).validate(token.claims)
        except (AuthlibBaseError, JoseError, KeyError, ValueError) as error:
            self._described = None  # the provider may have changed its keys
            raise LoginRefused(
                f"The provider's answer is not acceptable: {error}", hint="Start again."
            ) from error
        except requests.RequestException as error:
            raise self._silent(error) from error
        return token.claims

    def _describe(self) -> tuple[Mapping[str, Any], KeySet]:
        if self._described and self._described[0] > time.monotonic():
            return self._described[1:]
        issuer = self._provider.issuer
        address = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            description = _json_of(address)
            if description["issuer"] != issuer:
                raise ValueError(f"it calls itself {description['issuer']}")
            key_set = KeySet.import_key_set(_json_of(description["jwks_uri"]))
        except (requests.RequestException, JoseError, KeyError, TypeError, ValueError) as error:
            raise self._silent(error) from error
        self._described = (time.monotonic() + _KEPT, description, key_set)
        return description, key_set

    def _client(self) -> OAuth2Session:
        provider = self._provider
        session = OAuth2Session(
            provider.client_id,
            provider.client_secret,
            token_endpoint_auth_method="client_secret_basic" if provider.client_secret else "none",
            scope="openid email profile",
            redirect_uri=provider.callback,
            code_challenge_method="S256",
        )
        session.mount("https://", BoundedAdapter())
        return session

    def _silent(self, error: Exception) -> TryAgain:
        return TryAgain(
            f"The identity provider {self._provider.issuer} does not answer as it should: {error}",
            hint="Try again, or log in with a password.",
        )


def _json_of(address: str) -> Any:
    with requests.Session() as session:
        session.mount("https://", BoundedAdapter())
        answer = session.get(address, timeout=_TIMEOUT)
        answer.raise_for_status()
        return answer.json()
