"""Microsoft Entra through msal: authorisation code with PKCE, refresh, client credentials.

Any other OpenID provider that stands in for Entra (AD FS, a gateway) is named by the credential's
setting `authority`; msal then reads its OpenID Connect Discovery document.
"""

from __future__ import annotations

import json
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import httpx
import msal
from cryptography.hazmat.primitives import hashes

from shared.credentials import ClientSecrets, Credential
from shared.errors import NeedsPerson, PosthouseError, TryAgain
from shared.mailbox.errors import diagnoses, token_answers
from shared.mailbox.net import https
from shared.mailbox.oauth.tokens import Tokens, lifetime
from shared.microsoft_certificates import client_certificate_of

# The answer comes back by GET: a POST from another site would come without the session's cookie.
_FORM_POST: Final = "response_mode='form_post' is recommended"
_DISCOVERY_SECONDS: Final = 24 * 3600
#: Claims that name the account; `email` differs from the others where the UPN is no mail address.
_NAMES: Final = ("preferred_username", "upn", "email")


class MicrosoftProvider:
    """One credential at one authority (`https://login host/tenant`)."""

    def __init__(
        self,
        credential: Credential,
        secrets: ClientSecrets,
        authority: str,
        *,
        timeout: float,
        reach: https.Reach | None = None,
    ) -> None:
        self._credential = credential
        self._secrets = secrets
        self._authority = authority
        self._timeout = timeout
        self._reach = reach

    def start(
        self, scopes: Sequence[str], *, redirect_uri: str, login_hint: str
    ) -> tuple[str, str, dict[str, Any]]:
        """Where to send the browser, the state, and the secret rest of the flow (JSON)."""
        with self._application() as app, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=_FORM_POST)
            flow = app.initiate_auth_code_flow(
                list(scopes),
                redirect_uri=redirect_uri,
                login_hint=login_hint or None,
                prompt="select_account",
            )
        return str(flow["auth_uri"]), str(flow["state"]), dict(flow)

    def redeem(self, flow: Mapping[str, Any], answer: Mapping[str, str]) -> Tokens:
        """The tokens for the code that came back; `account` from the ID token."""
        with self._application() as app:
            result = app.acquire_token_by_auth_code_flow(dict(flow), dict(answer))
            tokens = _tokens(result, app.http)
        if not tokens.refresh_token:
            raise NeedsPerson(
                "The provider gave no refresh token: the access would end within the hour.",
                hint="Allow the application offline_access.",
                code="no-refresh-token",
            )
        return tokens

    def refresh(self, tokens: Tokens, scopes: Sequence[str]) -> Tokens:
        with self._application() as app:
            result = app.acquire_token_by_refresh_token(tokens.refresh_token, list(scopes))
            return _tokens(result, app.http)

    def for_itself(self, scopes: Sequence[str], subject: str) -> Tokens:
        """A token of the application (RFC 6749 section 4.4); it is for any mailbox it may open."""
        with self._application() as app:
            return _tokens(app.acquire_token_for_client(list(scopes)), app.http)

    @property
    def revokes(self) -> bool:
        return bool(self._credential.setting("authority"))

    def revoke(self, tokens: Tokens) -> bool:
        """RFC 7009, where the authority offers it. Entra does not: then False."""
        endpoint = ""
        if self._credential.setting("authority"):
            with self._application() as app:
                answer = app.http.get(f"{self._authority}/.well-known/openid-configuration")
                endpoint = str(json.loads(answer.text).get("revocation_endpoint") or "")
        if not endpoint:
            return False
        with self._application() as app:
            answer = app.http.post(
                endpoint,
                data={
                    "token": tokens.refresh_token or tokens.access_token,
                    "client_id": self._credential.client_id,
                    "client_secret": self._secrets.client_secret or "",
                },
            )
        return bool(answer.status_code == 200)

    def _application(self) -> _Application:
        return _Application(
            self._credential, self._secrets, self._authority, self._timeout, self._reach
        )


class _Application:
    """An msal application for a few calls; closes its connections, translates its errors."""

    def __init__(
        self,
        credential: Credential,
        secrets: ClientSecrets,
        authority: str,
        timeout: float,
        reach: https.Reach | None,
    ) -> None:
        self._authority = authority
        self._arguments: dict[str, Any] = {
            "client_id": credential.client_id,
            "client_credential": _client_credential(secrets),
            "instance_discovery": False,  # the authority is from our table or the administrator
            "oidc_authority" if credential.setting("authority") else "authority": authority,
        }
        self.http = _MsalTransport(credential.setting("ca_certificate"), timeout, authority, reach)

    def __enter__(self) -> Any:
        try:
            app = msal.ConfidentialClientApplication(http_client=self.http, **self._arguments)
        except PosthouseError:
            self.http.close()
            raise
        except ValueError as error:  # msal's word for an authority that discovery does not know
            self.http.close()
            if "private key" in str(error).lower() or "certificate" in str(error).lower():
                raise diagnoses.CERTIFICATE_REFUSED.error(str(error)) from error
            raise diagnoses.TENANT_UNKNOWN.error(f"{self._authority} is unknown") from error
        app.http = self.http
        return app

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.http.close()
        if isinstance(error, (ValueError, RuntimeError)):
            # msal raises these for an answer that does not belong to the flow (state, nonce) and
            # for an ID token that is not for us (issuer, audience, time).
            raise NeedsPerson(
                f"The provider's answer does not fit the login: "
                f"{diagnoses.shortened(str(error).split('Current epoch')[0])}.",
                hint="Start the authorisation again; check the clock of this machine.",
                code="login-answer-wrong",
            ) from error


class _MsalTransport:
    """httpx for msal: verified against the credential's CA, whatever the environment says.

    What is no answer of the provider (outages, throttling, pages for people) is raised here, before
    msal takes it for one. `status` and `retry_after` are those of the last answer.
    """

    _documents: ClassVar[dict[tuple[str, str], tuple[float, httpx.Response]]] = {}
    _mutex = threading.Lock()

    def __init__(
        self, ca_certificate: str, timeout: float, where: str, reach: https.Reach | None
    ) -> None:
        self._ca = ca_certificate
        self._where = where
        self._client = https.client(ca_certificate, connect=timeout, reach=reach)
        self.status = 0
        self.retry_after: float | None = None

    def get(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **_: Any,
    ) -> httpx.Response:
        # msal reads the authority's document for every application object; ours are short-lived.
        slot = (self._ca, f"{url}?{params or ''}")
        with self._mutex:
            found = self._documents.get(slot)
        if found is not None and found[0] > time.monotonic():
            return found[1]
        try:
            with https.translated(self._where):
                answer = self._client.get(url, params=params, headers=headers)
            self._check(answer)
        except TryAgain:
            if found is None:
                raise
            return found[1]  # it hardly ever changes: an old document is better than none
        if answer.status_code == 200:
            with self._mutex:
                self._documents[slot] = (time.monotonic() + _DISCOVERY_SECONDS, answer)
        return answer

    def post(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str | bytes | None] | None = None,
        headers: Mapping[str, str] | None = None,
        **_: Any,
    ) -> httpx.Response:
        # msal signs assertions as octets, which httpx would write as Python does.
        given = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in (data or {}).items()
            if value is not None
        }
        with https.translated(self._where):
            answer = self._client.post(url, params=params, data=given, headers=headers)
        self._check(answer)
        return answer

    def _check(self, answer: httpx.Response) -> None:
        """Raises what is no answer that msal understands."""
        self.status = answer.status_code
        self.retry_after = https.retry_after(answer.headers)
        if self.status == 429 or self.status >= 500:
            try:
                refusal = https.json_object(answer, self._where)
            except TryAgain:  # an outage has a page for people, too
                refusal = {}
            raise token_answers.of_token_answer(self.status, refusal, retry_after=self.retry_after)
        https.json_object(answer, self._where)

    def close(self) -> None:
        self._client.close()


def _client_credential(secrets: ClientSecrets) -> Any:
    """msal's form: a secret, or a key with the SHA-256 thumbprint of its certificate."""
    if not secrets.client_certificate:
        return secrets.client_secret
    certificate = client_certificate_of(secrets.client_certificate)
    return {
        "private_key": secrets.client_certificate,
        "thumbprint": certificate.fingerprint(hashes.SHA1()).hex(),  # noqa: S303 (RFC 7515 x5t)
        "public_certificate": secrets.client_certificate,
    }


def _tokens(result: Mapping[str, Any] | None, http: _MsalTransport) -> Tokens:
    if not result or "access_token" not in result:
        raise token_answers.of_token_answer(http.status, result or {}, retry_after=http.retry_after)
    claims = result.get("id_token_claims") or {}
    names = [str(claims[name]) for name in _NAMES if claims.get(name)]
    return Tokens(
        access_token=str(result["access_token"]),
        refresh_token=str(result.get("refresh_token") or ""),
        expires_at=lifetime(result.get("expires_in")),
        account=names[0] if names else "",
        names=tuple(names),
        scope=str(result.get("scope") or ""),
    )
