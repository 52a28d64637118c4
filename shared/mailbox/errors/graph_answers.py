"""What an error answer of Graph means, and what to do about it.

Sources: "Microsoft Graph error responses and resource types", "Limiting application permissions to
specific Exchange Online mailboxes", and Exchange's "ResponseCode" (EWS reference) behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from shared.mailbox.errors.diagnoses import (
    ACCESS_DENIED,
    API_OFF,
    CONSENT_MISSING,
    LOGIN_AGAIN,
    MAILBOX_FULL,
    MAILBOX_MISSING,
    NOT_COVERED,
    TENANT_WRONG,
    TOKEN_REFUSED,
    USER_BLOCKED,
    Diagnosis,
    shortened,
)
from shared.mailbox.failures import Refused, StepFailed, Unreachable

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
#: What an item is refused with that Exchange has no MIME form of, whatever the status.
_NO_MIME = frozenset(
    (
        "errormimecontentconversionfailed",
        "errormimecontentinvalid",
        "errormimecontentinvalidbase64string",
        "errorcontentconversionfailed",
    )
)
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


def is_about_mailbox(code: str, words: str) -> bool:
    """Whether an error answer is about the mailbox or the login, whatever was asked for."""
    low = words.lower()
    return code.lower() in _GRAPH_CODES or any(part in low for part, _ in _GRAPH_WORDS)


def graph_passes(status: int, code: str, words: str) -> bool:
    """Whether an error answer of Graph is about the moment: throttling, outages, and those that
    say nothing at all (reported: 400 with an empty body, 401 UnknownError without words)."""
    # As if they were outages, with 500 or 507.
    if code.lower() in _NO_MIME or code.lower() == "errorquotaexceeded":
        return False
    if status in (408, 423, 429) or status >= 500 or _is_transient(code):
        return True
    return status in (400, 401) and not words and code.lower() in ("", "unknownerror")


def graph_error(answer: Any) -> tuple[str, str]:
    """Code and message of a Graph error answer; the innermost code is the particular one."""
    error = answer.get("error") if isinstance(answer, Mapping) else None
    if not isinstance(error, Mapping):
        return "", ""
    return str(error.get("code") or ""), str(error.get("message") or "")


def _is_transient(code: str) -> bool:
    low = code.lower()
    return "transient" in low or "throttled" in low or low in _TRANSIENT


def _while(doing: str) -> str:
    return f" while {doing}" if doing else ""
