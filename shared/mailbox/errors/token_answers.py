"""What the refusal of an authorisation server means, and what to do about it. Sources:

- Microsoft Entra: "Microsoft Entra authentication and authorization error codes" (AADSTS…),
  learn.microsoft.com/entra/identity-platform/reference-error-codes
- Google: "Using OAuth 2.0 for Web Server Applications", section Errors, and "Using OAuth 2.0 for
  Server to Server Applications", JWT error codes, developers.google.com/identity/protocols/oauth2
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from shared.mailbox.errors.diagnoses import (
    AUTHORISATION_STEP,
    CERTIFICATE_REFUSED,
    CLIENT_DISABLED,
    CLIENT_UNKNOWN,
    CLOCK_WRONG,
    CONSENT_DENIED,
    CONSENT_MISSING,
    DELEGATION_MISSING,
    GRANT_LOST,
    LOGIN_AGAIN,
    POLICY_BLOCKED,
    PROVIDER_BUSY,
    REDIRECT_WRONG,
    SCOPE_WRONG,
    SECRET_WRONG,
    USER_BLOCKED,
    USER_UNKNOWN,
    Diagnosis,
    shortened,
)
from shared.mailbox.errors.entra_numbers import MEANINGS
from shared.mailbox.failures import Refused, StepFailed

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


def of_token_answer(
    status: int, answer: Mapping[str, Any], *, retry_after: float | None = None
) -> StepFailed:
    """An error answer of an authorisation server (RFC 6749 sections 4.1.2.1 and 5.2).

    `status` is HTTP's, 0 where the error came by redirect. What nothing is known of needs a person
    when it is the client's fault (4xx), and is tried again when it is the server's.
    """
    stated = answer.get("error") or ""
    description = str(answer.get("error_description") or "")
    if isinstance(stated, Mapping):  # the form of Google's other services
        description = description or str(stated.get("message") or "")
    error = str(stated)
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


def _aadsts(answer: Mapping[str, Any], description: str) -> list[int]:
    codes = answer.get("error_codes")
    numbers = [int(code) for code in codes or () if str(code).isdigit()]
    return numbers + [int(number) for number in re.findall(r"AADSTS(\d+)", description)]


def _first_line(text: str) -> str:
    # Entra appends trace id, correlation id and time on lines of their own.
    return text.strip().splitlines()[0].split(" Trace ID:")[0] if text.strip() else ""
