"""Login through an OpenID Connect provider (OpenID Connect Core 1.0, code flow with PKCE).

Only people whom an administrator has added may pass: at the first login by their verified email
address, from then on by the provider's subject, which never changes. Where groups are mapped, role
and tags are those of the groups, anew at each login, and who is in none may not log in any more;
nobody's login takes the role of the last administrator.

What has to come back with the answer lies in a cookie of the browser that starts a login: anybody
can start one, and nothing is kept of it here. The provider takes a code once (section 3.1.3.2).
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from services.admin.auth.browser_logins import BrowserLogins, LoginRefused
from services.admin.auth.oidc_groups import Groups
from services.admin.auth.oidc_requests import session_over
from shared.allowed_hosts import HostRules
from shared.errors import NeedsPerson, TryAgain
from shared.mailbox.net.connect import AllowHost
from shared.people import Role
from shared.storage import audit, browser_sessions, people
from shared.storage.pool import Database, Session

_KEPT: Final = 3600.0  # seconds that the provider's description and keys are believed
_ALGORITHMS: Final = ["RS256", "PS256", "ES256", "ES384", "EdDSA"]
#: Threads that may wait for the provider: anybody can make them, and the others serve the pages.
_WAITING: Final = 4
#: Who changes roles by groups, in the audit log.
_ACTOR: Final = "single sign-on"
#: Characters of the page to go on to: a cookie has 4,096 in all (RFC 6265 section 6.1).
_LONGEST_NEXT: Final = 1000


@dataclass(frozen=True, slots=True)
class Started:
    """A login on its way: PKCE verifier (RFC 7636), state and nonce, and where to go on."""

    state: str
    nonce: str
    verifier: str
    next: str

    @classmethod
    def anew(cls, follow: str) -> Started:
        follow = follow if len(follow.encode()) <= _LONGEST_NEXT else "/"
        state, nonce = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        return cls(state, nonce, secrets.token_urlsafe(48), follow)

    @classmethod
    def of(cls, cookie: str) -> Started | None:
        """None where the cookie is none of ours."""
        match cookie.split(".", 3):
            case [state, nonce, verifier, follow]:
                return cls(state, nonce, verifier, unquote(follow))
        return None

    def cookie(self) -> str:
        return ".".join((self.state, self.nonce, self.verifier, quote(self.next)))


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """Whom we ask. `callback` is our address that the provider sends people back to."""

    issuer: str
    client_id: str
    client_secret: str | None
    callback: str
    #: Who vouches for it besides the system's authorities (PEM).
    ca_certificate: str = ""
    hosts: HostRules = field(default_factory=HostRules)
    groups: Groups = field(default_factory=Groups)
    scopes: str = "openid email profile"

    def reach(self, host: str) -> AllowHost:
        """The setting that names the provider allows its host. What the provider names in turn is
        held to the rules of hosts, and neither is reached at an address that is denied."""
        if host == urlsplit(self.issuer).hostname:
            return lambda address: not self.hosts.denies(host, address)
        return self.hosts.at(host)


class Oidc:
    """Starts logins at one provider and takes their answers. Blocking."""

    def __init__(self, provider: OidcProvider, database: Database, logins: BrowserLogins) -> None:
        self._provider = provider
        self._database = database
        self._logins = logins
        self._described: tuple[float, Mapping[str, Any], KeySet] | None = None
        self._waiting = threading.BoundedSemaphore(_WAITING)

    def start(self, follow: str) -> tuple[str, str]:
        """The provider's address to send the browser to, and the cookie that binds it to us."""
        description, _ = self._describe()
        login = Started.anew(follow)
        with self._client() as client:
            address, _ = client.create_authorization_url(
                description["authorization_endpoint"],
                state=login.state,
                nonce=login.nonce,
                code_verifier=login.verifier,
            )
        return str(address), login.cookie()

    def finish(self, answer: Mapping[str, str], browser: str) -> tuple[str, str]:
        """The session's cookie and where to go on. Raises LoginRefused or TryAgain."""
        if "error" in answer:
            reason = answer.get("error_description") or answer["error"]
            raise LoginRefused(f"The provider refused the login: {reason[:300]}")
        login = Started.of(browser)
        state = answer.get("state", "").encode()
        if login is None or not hmac.compare_digest(state, login.state.encode()):
            raise LoginRefused(
                "This login was not started in this browser, or took longer than 15 minutes.",
                hint="Start again.",
            )
        claims = self._claims(answer.get("code", ""), login)
        verified = str(claims.get("email", "")) if claims.get("email_verified") is True else ""
        subject = f"{self._provider.issuer} {claims['sub']}"
        with self._database.transaction() as session:
            person_id = people.claim_subject(
                session, subject, verified, groups_decide=bool(self._provider.groups.granted)
            )
            if person_id is None:
                raise LoginRefused(
                    f"Nobody here has the account {claims.get('email') or claims['sub']}.",
                    hint="An administrator of Posthouse adds people, by their email address.",
                )
            refused = self._take_groups(session, person_id, claims)
            if refused is None:
                name = people.person(session, person_id).name
                return self._logins.start_session(session, person_id, name), login.next
        raise refused

    def _take_groups(
        self, session: Session, person_id: int, claims: Mapping[str, Any]
    ) -> LoginRefused | None:
        """Gives role and tags as the groups say now. Who is in none any more is locked out, and
        their sessions end."""
        groups = self._provider.groups
        if not groups.granted:
            return None
        before = people.person(session, person_id)
        last = before.role is Role.ADMIN and people.is_last_admin(session, person_id)
        subject = f"person/{person_id}"
        try:
            given = groups.grant(claims)
        except LoginRefused as refused:
            if last:
                audit.record(session, _ACTOR, "keep last administrator", subject)
                return None
            people.lock_out_without_group(session, person_id)
            browser_sessions.end_sessions_of(session, person_id)
            after = people.person(session, person_id)
            audit.record(session, _ACTOR, "refuse: no group", subject, before, after)
            return refused
        if last and given.role is not Role.ADMIN:
            audit.record(session, _ACTOR, "keep last administrator", subject)
            return None
        people.give_rights(session, person_id, given.role, given.tags, given.groups)
        after = people.person(session, person_id)
        if after != before:
            audit.record(session, _ACTOR, "change", subject, before, after)
        return None

    def _claims(self, code: str, login: Started) -> Mapping[str, Any]:
        """The checked claims of the ID token (Core section 3.1.3.7)."""
        description, keys = self._describe()
        try:
            with self._among_few(), self._client() as client:
                answered = client.fetch_token(
                    description["token_endpoint"],
                    code=code,
                    code_verifier=login.verifier,
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
        except (requests.RequestException, NeedsPerson) as error:
            raise self._silent(error) from error
        return token.claims

    def _describe(self) -> tuple[Mapping[str, Any], KeySet]:
        if self._described and self._described[0] > time.monotonic():
            return self._described[1:]
        issuer = self._provider.issuer
        address = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            with self._among_few():
                description = self._json_of(address)
            if description["issuer"] != issuer:
                raise ValueError(f"it calls itself {description['issuer']}")
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if urlsplit(description[name]).scheme != "https":
                    raise ValueError(f"its {name} is no https address")
            with self._among_few():
                key_set = KeySet.import_key_set(self._json_of(description["jwks_uri"]))
        except (requests.RequestException, NeedsPerson, JoseError) as error:
            raise self._silent(error) from error
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise self._silent(error) from error  # whatever a provider makes of its description
        self._described = (time.monotonic() + _KEPT, description, key_set)
        return description, key_set

    @contextmanager
    def _among_few(self) -> Iterator[None]:
        """Around what waits for the provider. Raises TryAgain where many wait for it already."""
        if not self._waiting.acquire(blocking=False):
            raise TryAgain(
                f"Many logins wait for the identity provider {self._provider.issuer} just now.",
                hint="Try again in a moment, or log in with a password.",
            )
        try:
            yield
        finally:
            self._waiting.release()

    def _client(self) -> OAuth2Session:
        provider = self._provider
        session = OAuth2Session(
            provider.client_id,
            provider.client_secret,
            token_endpoint_auth_method="client_secret_basic" if provider.client_secret else "none",
            scope=self._provider.scopes,
            redirect_uri=provider.callback,
            code_challenge_method="S256",
        )
        session_over(session, provider.ca_certificate, provider.reach)
        return session

    def _json_of(self, address: str) -> Any:
        with requests.Session() as session:
            session_over(session, self._provider.ca_certificate, self._provider.reach)
            answer = session.get(address)
            answer.raise_for_status()
            return answer.json()

    def _silent(self, error: Exception) -> TryAgain:
        return TryAgain(
            f"The identity provider {self._provider.issuer} does not answer as it should: {error}",
            hint="Try again, or log in with a password.",
        )
