"""What the words of a mail server's refusal mean, IMAP or POP3, and what to do about it.

Servers refuse in their own words; each usual refusal becomes one error with a verdict, a stable
code and a hint. Sources: RFC 5530 response codes; RFC 7628 section 3.2.2 and Google's "OAuth 2.0
Mechanism" (developers.google.com/workspace/gmail/imap/xoauth2-protocol) for the base64 error.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, Final

from shared.mailbox.errors.diagnoses import (
    ACCESS_OFF,
    BASIC_AUTH_OFF,
    IMAP_OFF,
    LOGIN_IN_BROWSER,
    LOGIN_LATER,
    MAILBOX_FULL,
    NO_PRIVACY,
    NOT_CONNECTED,
    PASSWORD_EXPIRED,
    POP_OFF,
    SCOPE_WRONG,
    THROTTLED,
    TOKEN_REFUSED,
    TOO_MANY,
    USER_BLOCKED,
    WRONG_ACCOUNT_OR_SCOPE,
    Diagnosis,
    LoginNeeded,
    shortened,
)
from shared.mailbox.errors.refused_logins import says_not_now, says_wrong_password
from shared.mailbox.errors.throttling import is_full, is_throttled, stated_delay
from shared.mailbox.errors.too_many_sessions import says_too_many_sessions
from shared.mailbox.failures import OAuthRefused, Refused, StepFailed, Unreachable

#: Refusals of an access token by mail servers, which know nothing of the grant behind it.
_OF_MAIL_SERVER: Final = frozenset({TOKEN_REFUSED.code, WRONG_ACCOUNT_OR_SCOPE.code})
#: Errors of a login that say no more than that it was refused.
_UNEXPLAINED: Final = frozenset({"login-refused", "login-unavailable", "refused"})


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
#: Protocols that a server says it does not give this mailbox, or any.
_PROTOCOL_OFF = re.compile(
    r"\b(?P<first>imap|pop)[34]?(?:[/ ](?:and |or )?(?P<second>imap|pop)[34]?)?"
    r"(?: access| service| use| protocol)*(?: is| has been| for \w+ is)?"
    r" (?:not (?:enabled|allowed|permitted|activated)|disabled|switched off|turned off|deactivated)"
    r"|not enabled for (?P<enabled>imap|pop)|enable (?P<enable>imap|pop)",
    re.I,
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


def of_settling(words: str) -> StepFailed:
    """What it means that a server does not mark read or delete what is safe here: it is tried again
    where its words say nothing else."""
    return of_command(words, "settle") or Unreachable(
        "The mail server did not carry out what is to be done after download: "
        f"{shortened(words) or 'it gave no reason'}.",
        step="settle",
        code="server-refused",
        hint="Nothing is lost: the mails are here, and this is tried again by itself.",
        retry_after=stated_delay(words),
    )


def _of_words(words: str) -> Diagnosis | None:
    if says_too_many_sessions(words):  # [LIMIT] as well, mostly
        return TOO_MANY
    if is_full(words):
        return MAILBOX_FULL
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


def of_account_that_worked(error: StepFailed) -> StepFailed:
    """The same, where this account worked before with tokens like the one that was just issued.

    A mail server that refuses such a token says nothing about the grant: only the token endpoint
    does that (`diagnoses.GrantLost`).
    """
    if not (isinstance(error, LoginNeeded) and error.code in _OF_MAIL_SERVER):
        return error
    return Unreachable(str(error), step=error.step, code=error.code, hint=error.hint)


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
