"""Google: authorisation code with PKCE (RFC 7636) by ourselves, refresh and service accounts by
google-auth.

Source: "Using OAuth 2.0 for Web Server Applications" and "Using OAuth 2.0 for Server to Server
Applications", developers.google.com/identity/protocols/oauth2.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets as random
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any, Final
from urllib.parse import urlencode

import httpx
from google.auth import exceptions as google_errors
from google.auth import transport
from google.oauth2 import credentials as google_credentials
from google.oauth2 import service_account

from shared.clock import utc_now
from shared.credentials import ClientSecrets, Credential, service_account_of
from shared.errors import NeedsPerson, TryAgain
from shared.mailbox.errors import diagnoses, token_answers
from shared.mailbox.net import https
from shared.mailbox.oauth.tokens import Tokens, at, lifetime

#: What https://accounts.google.com/.well-known/openid-configuration says.
GOOGLE: Final = {
    "issuer": "https://accounts.google.com",
    "authorization_endpoint": "https://accounts.google.com/o/oauth2/v2/auth",
    "token_endpoint": "https://oauth2.googleapis.com/token",
    "revocation_endpoint": "https://oauth2.googleapis.com/revoke",
}
# google-auth does not type these two.
_UserCredentials: Final[Any] = google_credentials.Credentials
_ServiceAccount: Final[Any] = service_account.Credentials
_SKEW: Final = 120  # seconds that two clocks may differ


class GoogleProvider:
    """One credential; `authority` (a setting) names another OpenID provider in Google's place."""

    def __init__(
        self,
        credential: Credential,
        secrets: ClientSecrets,
        *,
        timeout: float,
        reach: https.Reach | None = None,
    ) -> None:
        self._credential = credential
        self._secrets = secrets
        self._timeout = timeout
        self._reach = reach

    def start(
        self, scopes: Sequence[str], *, redirect_uri: str, login_hint: str
    ) -> tuple[str, str, dict[str, Any]]:
        """Where to send the browser, the state, and the secret rest of the flow (JSON)."""
        verifier, state, nonce = (random.token_urlsafe(48) for _ in range(3))
        digest = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        with self._http() as http:
            endpoint = self._endpoints(http)["authorization_endpoint"]
        query = {
            "client_id": self._credential.client_id,
            "redirect_uri": redirect_uri,
            "response_type": "code",
            "scope": " ".join(("openid", "email", *self._extra_scopes(), *scopes)),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            # A refresh token is given only with these two, and only on consent.
            "access_type": "offline",
            "prompt": "consent",
            **({"login_hint": login_hint} if login_hint else {}),
        }
        flow = {
            "state": state,
            "nonce": nonce,
            "code_verifier": verifier,
            "redirect_uri": redirect_uri,
            "scope": list(scopes),
        }
        return f"{endpoint}?{urlencode(query)}", state, flow

    def redeem(self, flow: Mapping[str, Any], answer: Mapping[str, str]) -> Tokens:
        """The tokens for the code that came back; `account` is the verified address of the ID
        token."""
        if not hmac.compare_digest(str(flow["state"]), answer.get("state", "")):
            raise _unfit("the state is not ours")
        if "code" not in answer:
            raise token_answers.of_token_answer(0, answer)
        with self._http() as http:
            endpoints = self._endpoints(http)
            result = self._post(
                http,
                endpoints["token_endpoint"],
                {
                    "grant_type": "authorization_code",
                    "code": answer["code"],
                    "redirect_uri": str(flow["redirect_uri"]),
                    "code_verifier": str(flow["code_verifier"]),
                },
            )
        claims = self._claims(str(result.get("id_token") or ""), endpoints["issuer"], flow)
        if not result.get("refresh_token"):
            raise NeedsPerson(
                "The provider gave no refresh token: the access would end within the hour.",
                hint="Remove Posthouse at myaccount.google.com/connections, authorise again.",
                code="no-refresh-token",
            )
        # Given where the grant is not for good: an application in the state "Testing" (7 days).
        ends = result.get("refresh_token_expires_in")
        granted = set(str(result.get("scope") or "").split())
        if granted and not granted >= set(flow["scope"]):
            raise diagnoses.SCOPE_WRONG.error("the box for mail was not ticked on consent")
        return Tokens(
            access_token=str(result["access_token"]),
            refresh_token=str(result["refresh_token"]),
            expires_at=lifetime(result.get("expires_in")),
            account=str(claims.get("email") or ""),
            scope=str(result.get("scope") or ""),
            grant_ends_at=lifetime(ends) if ends else None,
        )

    def refresh(self, tokens: Tokens, scopes: Sequence[str]) -> Tokens:
        with self._http() as http:
            held = _UserCredentials(
                None,
                refresh_token=tokens.refresh_token,
                token_uri=self._endpoints(http)["token_endpoint"],
                client_id=self._credential.client_id,
                client_secret=self._secrets.client_secret,
            )
            return self._fetched(held, http)

    def for_itself(self, scopes: Sequence[str], subject: str) -> Tokens:
        """A token of the service account acting as `subject` (domain-wide delegation)."""
        held = _ServiceAccount.from_service_account_info(
            service_account_of(self._secrets.client_certificate or ""),
            scopes=list(scopes),
            subject=subject,
        )
        with self._http() as http:
            return self._fetched(held, http)

    @property
    def revokes(self) -> bool:
        return True

    def revoke(self, tokens: Tokens) -> bool:
        """Revokes the grant at the provider (RFC 7009); True where it is gone for certain.

        Google ends with it every token that this person gave this application.
        """
        with self._http() as http:
            endpoint = self._endpoints(http).get("revocation_endpoint", "")
            if not endpoint:
                return False
            data = {"token": tokens.refresh_token or tokens.access_token}
            if self._credential.setting("authority"):
                data |= self._client()
            with https.translated(endpoint):
                answer = http.post(endpoint, data=data)
        # 400 invalid_token: it was revoked or had expired already.
        return answer.status_code in (200, 400)

    def _http(self) -> httpx.Client:
        return https.client(
            self._credential.setting("ca_certificate"), connect=self._timeout, reach=self._reach
        )

    def _extra_scopes(self) -> tuple[str, ...]:
        # Elsewhere than at Google a refresh token is asked for by scope (OpenID Connect Core 11).
        return ("offline_access",) if self._credential.setting("authority") else ()

    def _endpoints(self, http: httpx.Client) -> Mapping[str, str]:
        issuer = self._credential.setting("authority").rstrip("/")
        if not issuer:
            return GOOGLE
        with https.translated(issuer):
            answer = http.get(f"{issuer}/.well-known/openid-configuration")
        document = _answer(answer, issuer)
        if answer.status_code != 200 or str(document.get("issuer", "")).rstrip("/") != issuer:
            raise NeedsPerson(
                f"{issuer} is not an OpenID provider (HTTP {answer.status_code}).",
                hint="Check the setting 'authority' of the credential.",
                code="authority-unknown",
            )
        return document

    def _client(self) -> dict[str, str]:
        return {
            "client_id": self._credential.client_id,
            "client_secret": self._secrets.client_secret or "",
        }

    def _post(self, http: httpx.Client, url: str, data: Mapping[str, str]) -> dict[str, Any]:
        with https.translated(url):
            answer = http.post(url, data={**data, **self._client()})
        result = _answer(answer, url)
        if answer.status_code != 200 or "access_token" not in result:
            raise token_answers.of_token_answer(
                answer.status_code, result, retry_after=https.retry_after(answer.headers)
            )
        return result

    def _claims(self, token: str, issuer: str, flow: Mapping[str, Any]) -> Mapping[str, Any]:
        """The ID token's claims, checked (OpenID Connect Core 3.1.3.7). It came straight from the
        token endpoint over verified TLS, which rule 6 takes in place of its signature."""
        try:
            body = token.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except (IndexError, ValueError) as error:
            raise _unfit("the ID token cannot be read") from error
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if str(claims.get("iss", "")).removeprefix("https://") != issuer.removeprefix("https://"):
            raise _unfit("the ID token has another issuer")
        if self._credential.client_id not in audiences or claims.get("nonce") != flow["nonce"]:
            raise _unfit("the ID token is for another login")
        if at(float(claims.get("exp", 0))).timestamp() < utc_now().timestamp() - _SKEW:
            raise _unfit("the ID token has expired")
        if claims.get("email_verified") is False:
            raise _unfit("the address of the account is not verified")
        return dict(claims)

    def _fetched(self, held: Any, http: httpx.Client) -> Tokens:
        try:
            held.refresh(_GoogleTransport(http))
        except google_errors.GoogleAuthError as error:
            raise TryAgain(
                f"Google's authorisation server answered with something else than a token: "
                f"{diagnoses.shortened(str(error))}.",
                code="provider-unavailable",
                hint="The authorisation is kept and tried again by itself.",
            ) from error
        return Tokens(
            access_token=str(held.token),
            refresh_token=str(getattr(held, "refresh_token", None) or ""),
            expires_at=held.expiry.replace(tzinfo=UTC) if held.expiry else lifetime(None),
        )


class _GoogleTransport(transport.Request):
    """httpx for google-auth."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> Any:
        with https.translated(url):
            answer = self._http.request(method, url, content=body, headers=headers)
        fields = _answer(answer, url)
        if answer.status_code >= 400:
            # Judged here: google-auth tries some again by itself, and asks a terminal for others.
            raise token_answers.of_token_answer(
                answer.status_code, fields, retry_after=https.retry_after(answer.headers)
            )
        return _GoogleAnswer(answer)


class _GoogleAnswer(transport.Response):
    def __init__(self, answer: httpx.Response) -> None:
        self._answer = answer

    @property
    def status(self) -> int:
        return self._answer.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        return self._answer.headers

    @property
    def data(self) -> bytes:
        return self._answer.content


def _answer(answer: httpx.Response, where: str) -> dict[str, Any]:
    """The JSON of an answer. Raises what is no answer of the provider: outages, throttling, pages
    for people."""
    status = answer.status_code
    if status != 429 and status < 500:
        return https.json_object(answer, where)
    try:
        refusal = https.json_object(answer, where)
    except TryAgain:  # an outage has a page for people, too
        refusal = {}
    raise token_answers.of_token_answer(
        status, refusal, retry_after=https.retry_after(answer.headers)
    )


def _unfit(why: str) -> NeedsPerson:
    return NeedsPerson(
        f"The provider's answer does not fit the login: {why}.",
        hint="Start the authorisation again; check the clock of this machine.",
        code="login-answer-wrong",
    )
