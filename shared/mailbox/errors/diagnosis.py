"""What a provider's refusal means, and what to do about it.

Authorisation servers, IMAP servers and Graph refuse in their own words; here each usual refusal
becomes one error with a verdict, a stable code and a hint. Sources, by table:

- Microsoft Entra: "Microsoft Entra authentication and authorization error codes" (AADSTS…),
  learn.microsoft.com/entra/identity-platform/reference-error-codes
- Google: "Using OAuth 2.0 for Web Server Applications", section Errors, and "Using OAuth 2.0 for
  Server to Server Applications", JWT error codes, developers.google.com/identity/protocols/oauth2
- IMAP: RFC 5530 response codes; RFC 7628 section 3.2.2 and Google's "OAuth 2.0 Mechanism"
  (developers.google.com/workspace/gmail/imap/xoauth2-protocol) for the base64 error
- Graph: "Microsoft Graph error responses and resource types" and "Limiting application permissions
  to specific Exchange Online mailboxes"
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from shared.mailbox.errors.entra_numbers import MEANINGS
from shared.mailbox.errors.provider_errors import (
    ACCESS_DENIED,
    ACCESS_OFF,
    API_OFF,
    AUTHORISATION_STEP,
    BASIC_AUTH_OFF,
    CERTIFICATE_REFUSED,
    CLIENT_DISABLED,
    CLIENT_UNKNOWN,
    CLOCK_WRONG,
    CONSENT_DENIED,
    CONSENT_MISSING,
    DELEGATION_MISSING,
    GRANT_LOST,
    IMAP_OFF,
    LOGIN_AGAIN,
    LOGIN_IN_BROWSER,
    LOGIN_LATER,
    MAILBOX_FULL,
    MAILBOX_MISSING,
    NO_PRIVACY,
    NOT_CONNECTED,
    NOT_COVERED,
    PASSWORD_EXPIRED,
    POLICY_BLOCKED,
    POP_OFF,
    PROVIDER_BUSY,
    REDIRECT_WRONG,
    SCOPE_WRONG,
    SECRET_WRONG,
    TENANT_WRONG,
    THROTTLED,
    TOKEN_REFUSED,
    TOO_MANY,
    USER_BLOCKED,
    USER_UNKNOWN,
    WRONG_ACCOUNT_OR_SCOPE,
    Diagnosis,
    LoginNeeded,
    shortened,
)
from shared.mailbox.errors.refused_logins import says_not_now, says_wrong_password
from shared.mailbox.errors.throttling import is_full, is_throttled, stated_delay
from shared.mailbox.failures import OAuthRefused, Refused, StepFailed, Unreachable

#: Refusals of an access token by mail servers, which know nothing of the grant behind it.
_OF_MAIL_SERVER: Final = frozenset({TOKEN_REFUSED.code, WRONG_ACCOUNT_OR_SCOPE.code})
#: Errors of a login that say no more than that it was refused.
_UNEXPLAINED: Final = frozenset({"login-refused", "login-unavailable", "refused"})

#: (OAuth error, part of its description or empty) → meaning, for servers without numbers. The
#: first that fits wins, so the particular stand before the general.
_OAUTH: Final[tuple[tuple[str, str, Diagnosis], ...]] = (
    ("invalid_grant", "invalid email or user id", USER_UNKNOWN),
    ("invalid_grant", "not a valid email", USER_UNKNOWN),
    ("invalid_grant", "account not found", USER_UNKNOWN),
    ("invalid_grant", "reasonable timeframe", CLOCK_WRONG),
    # What signs in by an assertion of its own has no grant that could be lost.
    ("invalid_grant", "invalid jwt", CERTIFICATE_REFUSED),
    ("invalid_grant", "robot is disabled", CLIENT_DISABLED),
    ("invalid_grant", "invalid signature for token", CERTIFICATE_REFUSED),
    ("invalid_grant", "account has been deleted", USER_BLOCKED),
    ("invalid_grant", "account has been disabled", USER_BLOCKED),
    ("invalid_grant", "account disabled", USER_BLOCKED),
    ("invalid_grant", "invalid_rapt", LOGIN_AGAIN),
    ("invalid_grant", "", GRANT_LOST),
    ("invalid_request", "invalid impersonation", USER_UNKNOWN),
    ("interaction_required", "", LOGIN_AGAIN),
    ("login_required", "", LOGIN_AGAIN),
    ("consent_required", "", CONSENT_MISSING),
    ("admin_policy_enforced", "", CONSENT_MISSING),
    ("org_internal", "", USER_BLOCKED),
    ("access_denied", "account restricted", POLICY_BLOCKED),
    ("access_denied", "client not authorized", DELEGATION_MISSING),
    ("access_denied", "", CONSENT_DENIED),
    ("unauthorized_client", "unauthorized to retrieve access tokens", DELEGATION_MISSING),
    ("unauthorized_client", "", SCOPE_WRONG),
    ("deleted_client", "", CLIENT_UNKNOWN),
    ("disabled_client", "", CLIENT_DISABLED),
    ("invalid_client", "not found", CLIENT_UNKNOWN),
    ("invalid_client", "client assertion", CERTIFICATE_REFUSED),
    ("invalid_client", "client was disabled", CLIENT_DISABLED),
    ("invalid_client", "", SECRET_WRONG),
    ("invalid_scope", "", SCOPE_WRONG),
    ("redirect_uri_mismatch", "", REDIRECT_WRONG),
    ("temporarily_unavailable", "", PROVIDER_BUSY),
    ("server_error", "", PROVIDER_BUSY),
    ("slow_down", "", PROVIDER_BUSY),
    ("internal_failure", "", PROVIDER_BUSY),
    ("backend_error", "", PROVIDER_BUSY),
)
#: However a server spells that it was asked too often: rate_limit_exceeded, userRateLimitExceeded.
_TOO_OFTEN = re.compile(r"rate_?limit_?exceeded|quota_?exceeded|too_?many_?requests", re.I)
#: Entra's `suberror` of an invalid_grant whose number we do not know, where the token is dead.
_DEAD: Final = frozenset({"bad_token", "token_expired"})

#: What the tagged NO or BAD (POP3: -ERR) of a login says → meaning. The first that fits wins.
_LOGIN_WORDS: Final[tuple[tuple[re.Pattern[str], Diagnosis], ...]] = tuple(
    (re.compile(words, re.I), diagnosis)
    for words, diagnosis in (
        (r"authenticated but not connected", NOT_CONNECTED),
        (
            r"app(?:lication)?[- ]?(?:specific )?password|parol prilozheniya|authorization code"
            r"|basicauthblocked|basic authentication is disabled",
            BASIC_AUTH_OFF,
        ),
        (
            r"web ?login|(?:via|with|in|through) (?:a|your) (?:web )?browser|unsafe login",
            LOGIN_IN_BROWSER,
        ),
        (
            r"\[expired\]|password (?:has |is )?expired|password must be changed"
            r"|must change (?:your|the) password",
            PASSWORD_EXPIRED,
        ),
        (
            r"account (?:is |has been |was )?(?:administratively |currently )?"
            r"(?:disabled|suspended|deactivated|closed|blocked|locked)",
            USER_BLOCKED,
        ),
        (r"\[privacyrequired\]|plain ?text auth\S* (?:disallowed|not allowed)", NO_PRIVACY),
    )
)
_TOO_MANY_SESSIONS = re.compile(
    r"too many (?:\w+ ){0,2}(?:connections|sessions)"
    r"|maximum (?:number of )?(?:\w+ ){0,2}(?:connections|concurrent|sessions)"
    r"|(?:connection|session)s? limit",
    re.I,
)
#: Protocols that a server says it does not give this mailbox, or any.
_PROTOCOL_OFF = re.compile(
    r"\b(?P<first>imap|pop)[34]?(?:[/ ](?:and |or )?(?P<second>imap|pop)[34]?)?"
    r"(?: access| service| use| protocol)*(?: is| has been| for \w+ is)?"
    r" (?:not (?:enabled|allowed|permitted|activated)|disabled|switched off|turned off|deactivated)"
    r"|not enabled for (?P<enabled>imap|pop)|enable (?P<enable>imap|pop)",
    re.I,
)

#: Graph error code → meaning; `_GRAPH_WORDS` goes before it where a code means several things.
_GRAPH_CODES: Final[Mapping[str, Diagnosis]] = {
    "erroraccessdenied": ACCESS_DENIED,
    "accessdenied": ACCESS_DENIED,
    "authorization_requestdenied": CONSENT_MISSING,
    "nopermissionsinaccesstoken": CONSENT_MISSING,
    "errorinvaliduser": MAILBOX_MISSING,
    "errorusernotfound": MAILBOX_MISSING,
    "organizationfromtenantguidnotfound": TENANT_WRONG,
    "request_resourcenotfound": MAILBOX_MISSING,
    "mailboxnotenabledforrestapi": MAILBOX_MISSING,
    "mailboxnotsupportedforrestapi": MAILBOX_MISSING,
    "errornonexistentmailbox": MAILBOX_MISSING,
    "errorquotaexceeded": MAILBOX_FULL,
    "erroraccountdisabled": USER_BLOCKED,
    # What people typed is no SMTP address of a mailbox, or its mailbox is on premises.
    "resourcenotfound": MAILBOX_MISSING,
    "invalidauthenticationtoken": TOKEN_REFUSED,
    "unauthenticated": TOKEN_REFUSED,
    "insufficient_claims": LOGIN_AGAIN,
}
_GRAPH_WORDS: Final[tuple[tuple[str, Diagnosis], ...]] = (
    ("appaccesspolicy", NOT_COVERED),
    ("apponly accesspolicy", NOT_COVERED),
    ("accesspolicy settings", NOT_COVERED),
    ("[raop]", NOT_COVERED),
    ("access to odata is disabled", API_OFF),
)


def of_token_answer(
    status: int, answer: Mapping[str, Any], *, retry_after: float | None = None
) -> StepFailed:
    """An error answer of an authorisation server (RFC 6749 sections 4.1.2.1 and 5.2).

    `status` is HTTP's, 0 where the error came by redirect. What nothing is known of needs a person
    when it is the client's fault (4xx), and is tried again when it is the server's.
    """
    told = answer.get("error") or ""
    description = str(answer.get("error_description") or "")
    if isinstance(told, Mapping):  # the form of Google's other services
        description = description or str(told.get("message") or "")
    error = str(told)
    words = _first_line(description) or error
    too_often = _TOO_OFTEN.search(error) is not None
    numbers = _aadsts(answer, description)
    for number in numbers:
        if number in MEANINGS:
            return MEANINGS[number].error(words, retry_after)
    if status == 429 or status >= 500 or too_often:
        return PROVIDER_BUSY.error(words, retry_after)
    if numbers and error == "invalid_grant":
        # A number that we do not know loses nothing, unless it is said to.
        if str(answer.get("suberror") or "") in _DEAD:
            return GRANT_LOST.error(words)
        error = ""
    both = f"{error} {answer.get('error_subtype') or ''} {description}".lower()
    for name, part, diagnosis in _OAUTH:
        if error.lower() == name and part in both:
            return diagnosis.error(words, retry_after)
    return Refused(
        f"The provider refused to give a token: {shortened(words) or f'HTTP {status}'}.",
        step=AUTHORISATION_STEP,
        hint="Compare client id, secret, tenant and permissions with the provider's. The "
        "authorisation is kept and tried again by itself.",
        code="token-not-given",
    )


def of_login(refusal: str, *, token: bool) -> StepFailed | None:
    """What the words of a refused IMAP or POP3 login mean; None where they say nothing usual.

    `refusal` is the text of the tagged answer, with the base64 challenge that came before it
    (after a blank) where there was one; `token` says that OAuth2 was used.
    """
    detail = sasl_error(refusal)
    if detail is not None:
        refusal = re.sub(r"[A-Za-z0-9+/]{16,}={0,2}", "", refusal).strip()
    meaning = _of_words(refusal)
    if meaning is None and says_not_now(refusal):
        meaning = LOGIN_LATER
    if meaning is not None:
        return meaning.error(refusal, stated_delay(refusal))
    if not token:
        return None
    if detail is not None:
        status = str(detail.get("status", "")).lower()
        if status in ("invalid_scope", "insufficient_scope", "403"):
            return SCOPE_WRONG.error(f"the server wants {detail.get('scope')}")
        # Google answers 400 to a token of another account or scope, 401 to one that is no good.
        if status == "400":
            scope = f"the server wants {detail['scope']}" if detail.get("scope") else refusal
            return WRONG_ACCOUNT_OR_SCOPE.error(scope)
        return TOKEN_REFUSED.error(status)
    return TOKEN_REFUSED.error(refusal)


def of_greeting(words: str) -> StepFailed:
    """What it means that a server greets with a refusal: it passes, mostly."""
    found = of_command(words, "greeting")
    return found or Unreachable(
        f"The mail server does not want us at the moment: {shortened(words)}",
        step="greeting",
        code="server-refused",
        hint="It is tried again by itself. If it stays: the server may limit connections, or those "
        "from this address.",
        retry_after=stated_delay(words),
    )


def of_command(words: str, step: str) -> StepFailed | None:
    """What the words of a refused command mean, whatever the command; None where they say nothing
    that is about the mailbox as a whole. `step` is where it was said."""
    meaning = _of_words(words)
    if meaning is None:
        return None
    found = meaning.error(words, stated_delay(words))
    if step:
        found.step = step
    return found


def _of_words(words: str) -> Diagnosis | None:
    if is_full(words):
        return MAILBOX_FULL
    if _TOO_MANY_SESSIONS.search(words) is not None:  # [LIMIT] as well, mostly
        return TOO_MANY
    if is_throttled(words):
        return THROTTLED
    for pattern, meaning in _LOGIN_WORDS:
        # One reason among others says little.
        blocked = meaning is USER_BLOCKED
        if blocked and (says_not_now(words) or says_wrong_password(words)):
            continue
        if pattern.search(words):
            return meaning
    off = None if says_wrong_password(words) else _PROTOCOL_OFF.search(words)
    if off is None:
        return None
    named = {name[:3].lower() for name in off.groups() if name}
    return ACCESS_OFF if len(named) > 1 else POP_OFF if named == {"pop"} else IMAP_OFF


def of_refusal(error: StepFailed, *, token: bool) -> StepFailed:
    """What a refused login means: `error` itself where its words say nothing usual."""
    if isinstance(error, OAuthRefused):
        challenge = base64.b64encode(json.dumps(error.details).encode()).decode()
        words = f"{error.server_text} {challenge}" if error.details else error.server_text
    elif error.step in ("login", "authorisation") and error.code in _UNEXPLAINED:
        text = str(error)
        words, token = text.partition(": ")[2] or text, False
    else:
        return error
    return of_login(words, token=token) or error


def for_application(error: StepFailed) -> StepFailed:
    """The same for application access, where nobody can log in to heal it."""
    if not isinstance(error, LoginNeeded):
        return error
    return Refused(
        str(error),
        step=error.step,
        code=error.code,
        hint="Application access: check the permission and its admin consent (IMAP.AccessAsApp or "
        "Mail.ReadWrite), that the service principal was given Full Access to the mailbox, and for "
        "Google the domain-wide delegation.",
    )


def of_graph(
    status: int, answer: Any, *, retry_after: float | None = None, doing: str = ""
) -> StepFailed:
    """An error answer of Graph: {"error": {"code", "message", …}}. `doing` names what was tried."""
    code, words = graph_error(answer)
    low = words.lower()
    if graph_passes(status, code, words):
        what = "throttles" if status == 429 else "cannot serve"
        return Unreachable(
            f"Graph {what} this mailbox now{_while(doing)} ({shortened(words) or status}).",
            code="throttled" if status == 429 else "graph-unavailable",
            hint="Nothing needs to be done here, unless it stays so: then compare Microsoft's "
            "service health. It is tried again by itself.",
            retry_after=retry_after,
        )
    for part, diagnosis in _GRAPH_WORDS:
        if part in low:
            return diagnosis.error(words)
    found = _GRAPH_CODES.get(code.lower())
    if found is not None:
        return found.error(words)
    if status == 401:
        return TOKEN_REFUSED.error(words)
    if status == 403:
        return ACCESS_DENIED.error(words)
    return Refused(
        f"Graph refused the request{_while(doing)}: {code or status} {shortened(words)}".rstrip(),
        code="graph-refused",
        hint="Compare the mailbox' address, the folder and the cloud. If they are right, report "
        "these words: Posthouse does not know this refusal yet. It is tried again by itself.",
    )


#: What an item is refused with that Exchange has no MIME form of, whatever the status.
_NO_MIME = frozenset(
    (
        "errormimecontentconversionfailed",
        "errormimecontentinvalid",
        "errormimecontentinvalidbase64string",
        "errorcontentconversionfailed",
    )
)


def graph_passes(status: int, code: str, words: str) -> bool:
    """Whether an error answer of Graph is about the moment: throttling, outages, and those that
    say nothing at all (reported: 400 with an empty body, 401 UnknownError without words)."""
    # As if they were outages, with 500 or 507.
    if code.lower() in _NO_MIME or code.lower() == "errorquotaexceeded":
        return False
    if status in (408, 423, 429) or status >= 500 or _is_transient(code):
        return True
    return status in (400, 401) and not words and code.lower() in ("", "unknownerror")


def of_account_that_worked(error: StepFailed) -> StepFailed:
    """The same, where this account worked before with tokens like the one that was just issued.

    A mail server that refuses such a token says nothing about the grant: only the token endpoint
    does that (`refusals.GrantLost`).
    """
    if not (isinstance(error, LoginNeeded) and error.code in _OF_MAIL_SERVER):
        return error
    return Unreachable(str(error), step=error.step, code=error.code, hint=error.hint)


def graph_error(answer: Any) -> tuple[str, str]:
    """Code and message of a Graph error answer; the innermost code is the particular one."""
    error = answer.get("error") if isinstance(answer, Mapping) else None
    if not isinstance(error, Mapping):
        return "", ""
    return str(error.get("code") or ""), str(error.get("message") or "")


def sasl_error(text: str) -> dict[str, Any] | None:
    """The JSON that XOAUTH2 and OAUTHBEARER send in base64 when they refuse (RFC 7628 3.2.2)."""
    for word in re.findall(r"[A-Za-z0-9+/]{16,}={0,2}", text):
        try:
            found = json.loads(base64.b64decode(word, validate=True))
        except (binascii.Error, ValueError):
            continue
        if isinstance(found, dict):
            return found
    return None


def _aadsts(answer: Mapping[str, Any], description: str) -> list[int]:
    codes = answer.get("error_codes")
    numbers = [int(code) for code in codes or () if str(code).isdigit()]
    return numbers + [int(number) for number in re.findall(r"AADSTS(\d+)", description)]


def _first_line(text: str) -> str:
    # Entra appends trace id, correlation id and time on lines of their own.
    return text.strip().splitlines()[0].split(" Trace ID:")[0] if text.strip() else ""


def _is_transient(code: str) -> bool:
    low = code.lower()
    return "transient" in low or "throttled" in low or low in _TRANSIENT


#: Codes about the moment, of Graph and of Exchange behind it ("ResponseCode", EWS reference).
_TRANSIENT: Final = frozenset(
    {
        "erroradunavailable",
        "errorconnectionfailed",
        "errorexceededconnectioncount",
        "errorinsufficientresources",
        "errorinternalservererror",
        "errormailboxmoveinprogress",
        "errormailboxstoreunavailable",
        "errornotenoughmemory",
        "errorserverbusy",
        "errortimeoutexpired",
        "errortoomanyobjectsopened",
        "mailboxconcurrency",
        "mailboxinfostale",
        "serviceunavailable",
        "timeout",
        "toomanyrequests",
    }
)


def _while(doing: str) -> str:
    return f" while {doing}" if doing else ""
