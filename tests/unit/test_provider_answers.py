"""Every usual refusal of a provider, in the words of its documentation, becomes one named error.

Sources of the answers, by test: Microsoft Entra "Authentication and authorization error codes";
Google "Using OAuth 2.0 for Web Server Applications" and "… Server to Server Applications"; Gmail
"OAuth 2.0 Mechanism" (XOAUTH2) and "Troubleshoot IMAP"; RFC 7628 section 3.2.2; Microsoft Graph
"Error responses" and "Limiting application permissions to specific Exchange Online mailboxes".
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from shared.errors import NeedsAuthorisation, NeedsPerson, PosthouseError, TryAgain
from shared.mailbox.errors import graph_answers, server_answers, token_answers
from shared.mailbox.errors.refused_logins import login_error
from shared.mailbox.failures import OAuthRefused, Refused

PERSON, LOGIN, AGAIN = NeedsPerson, NeedsAuthorisation, TryAgain


def entra(number: int, words: str, error: str = "invalid_grant") -> dict[str, Any]:
    """An error answer in the form that "Handling error codes in your application" shows."""
    return {
        "error": error,
        "error_description": f"AADSTS{number}: {words}\r\nTrace ID: 0000aaaa-11bb-cccc-dd22\r\n"
        "Correlation ID: aaaa0000-bb11-2222-33cc\r\nTimestamp: 2016-01-09 02:02:12Z",
        "error_codes": [number],
        "timestamp": "2016-01-09 02:02:12Z",
        "trace_id": "0000aaaa-11bb-cccc-dd22",
    }


ENTRA = [
    (
        65001,
        "The user or administrator has not consented to use the application.",
        "consent-missing",
        PERSON,
    ),
    (65004, "The user declined to consent to access the app.", "consent-denied", LOGIN),
    (90094, "The grant requires administrator permission.", "consent-missing", PERSON),
    (
        70011,
        "The provided value for the input parameter 'scope' isn't valid.",
        "scope-wrong",
        PERSON,
    ),
    (
        650053,
        "The application asked for a scope that doesn't exist on the resource.",
        "scope-wrong",
        PERSON,
    ),
    (7000222, "The provided client secret keys are expired.", "client-secret-expired", PERSON),
    (7000215, "Invalid client secret is provided.", "client-secret-wrong", PERSON),
    (700027, "Client assertion failed signature validation.", "client-certificate-refused", PERSON),
    (700016, "The application wasn't found in the directory/tenant.", "client-unknown", PERSON),
    (90002, "Tenant 'x' not found.", "tenant-unknown", PERSON),
    (50011, "The redirect URI specified in the request does not match.", "redirect-wrong", PERSON),
    (50034, "The user account does not exist in the directory.", "user-unknown", PERSON),
    (
        50020,
        "User account from identity provider does not exist in tenant.",
        "user-unknown",
        PERSON,
    ),
    (50057, "The user account is disabled.", "user-blocked", PERSON),
    (50105, "The signed in user isn't assigned to a role for the app.", "user-blocked", PERSON),
    (50076, "You must use multi-factor authentication.", "second-factor-required", PERSON),
    (50173, "The provided grant has expired due to it being revoked.", "grant-lost", LOGIN),
    (53003, "Access has been blocked by Conditional Access policies.", "policy-blocked", PERSON),
    (700082, "The refresh token has expired due to inactivity.", "grant-lost", LOGIN),
    (90033, "A transient error has occurred. Please try again.", "provider-unavailable", AGAIN),
]


@pytest.mark.promise("A5")
@pytest.mark.parametrize(("number", "words", "code", "verdict"), ENTRA)
def test_refusals_of_entra(number: int, words: str, code: str, verdict: type[Exception]) -> None:
    error = token_answers.of_token_answer(400, entra(number, words))
    assert_is(error, code, verdict)
    assert words.rstrip(".") in str(error)  # their words stay, for whoever searches for them
    assert "Trace ID" not in str(error)


GOOGLE = [
    ("invalid_grant", "Token has been expired or revoked.", "grant-lost", LOGIN),
    ("invalid_grant", "Bad Request", "grant-lost", LOGIN),
    ("invalid_grant", "Invalid email or User ID", "user-unknown", PERSON),
    ("invalid_grant", "Invalid JWT Signature.", "client-certificate-refused", PERSON),
    ("invalid_client", "The OAuth client was not found.", "client-unknown", PERSON),
    ("invalid_client", "Unauthorized", "client-secret-wrong", PERSON),
    (
        "unauthorized_client",
        "Client is unauthorized to retrieve access tokens using this method, or client not "
        "authorized for any of the scopes requested.",
        "delegation-missing",
        PERSON,
    ),
    ("invalid_scope", "Invalid OAuth scope or ID token audience provided.", "scope-wrong", PERSON),
    ("redirect_uri_mismatch", "", "redirect-wrong", PERSON),
    ("access_denied", "", "consent-denied", LOGIN),
    ("access_denied", "Requested client not authorized.", "delegation-missing", PERSON),
    ("invalid_client", "The OAuth client was disabled.", "client-disabled", PERSON),
    ("invalid_grant", "Account disabled", "user-blocked", PERSON),
    ("admin_policy_enforced", "", "consent-missing", PERSON),
    ("org_internal", "", "user-blocked", PERSON),
]


@pytest.mark.promise("A5")
@pytest.mark.parametrize(("name", "words", "code", "verdict"), GOOGLE)
def test_refusals_of_google(name: str, words: str, code: str, verdict: type[Exception]) -> None:
    error = token_answers.of_token_answer(400, {"error": name, "error_description": words})
    assert_is(error, code, verdict)


@pytest.mark.promise("A5")
@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_authorisation_server_that_is_down_needs_no_person(status: int) -> None:
    error = token_answers.of_token_answer(status, {"error": "invalid_grant"}, retry_after=7)
    assert_is(error, "provider-unavailable", AGAIN)
    assert isinstance(error, TryAgain)
    assert error.retry_after == 7


#: The text of the tagged answer, and the challenge before it.
IMAP = [
    (
        "[ALERT] Your account is not enabled for IMAP use. Please visit your Gmail settings page "
        "and enable your account for IMAP access. (Failure)",
        {},
        "imap-disabled",
        PERSON,
    ),
    (
        "[ALERT] IMAP access is disabled for your domain. Please contact your domain administrator "
        "for questions about this feature. (Failure)",
        {},
        "imap-disabled",
        PERSON,
    ),
    # developers.google.com/workspace/gmail/imap/xoauth2-protocol, "Error response"
    (
        "SASL authentication failed",
        {"status": "401", "schemes": "bearer mac", "scope": "https://mail.google.com/"},
        "token-refused",
        LOGIN,
    ),
    (
        "[AUTHENTICATIONFAILED] Invalid credentials (Failure)",
        {"status": "400", "schemes": "Bearer", "scope": "https://mail.google.com/"},
        "token-not-for-mailbox",
        LOGIN,
    ),
    # RFC 7628 section 3.2.2
    (
        "SASL authentication failed",
        {"status": "insufficient_scope", "scope": "example_scope"},
        "scope-wrong",
        PERSON,
    ),
    ("AUTHENTICATE failed.", {}, "token-refused", LOGIN),
    ("User is authenticated but not connected.", {}, "authenticated-not-connected", PERSON),
    ("[ALERT] Too many simultaneous connections. (Failure)", {}, "too-many-connections", AGAIN),
    ("[UNAVAILABLE] Temporary authentication failure.", {}, "login-unavailable", AGAIN),
]


@pytest.mark.promise("A5")
@pytest.mark.parametrize(("words", "challenge", "code", "verdict"), IMAP)
def test_refusals_of_imap_servers(
    words: str, challenge: dict[str, str], code: str, verdict: type[Exception]
) -> None:
    refused = OAuthRefused("The mail server refused.", details=challenge, server_text=words)
    error = server_answers.of_refusal(refused, token=True)
    assert_is(error, code, verdict)
    # The same, from the raw conversation.
    encoded = base64.b64encode(json.dumps(challenge).encode()).decode() if challenge else ""
    again = server_answers.of_login(f"{words} {encoded}", token=True)
    assert again is not None
    assert again.code == code


@pytest.mark.promise("A5")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("[ALERT] Application-specific password required (Failure)", "password-login-disabled"),
        ("LOGIN failed. BasicAuthBlocked", "password-login-disabled"),
        ("-ERR [SYS/PERM] Your account is not enabled for POP access.", "pop-disabled"),
    ],
)
def test_refused_passwords_that_no_password_heals(words: str, code: str) -> None:
    refused = Refused(
        f"The mail server refused the login: {words}", step="login", code="login-refused"
    )
    assert server_answers.of_refusal(refused, token=False).code == code


def test_a_wrong_password_stays_what_it_is() -> None:
    refused = Refused("Refused: LOGIN failed.", step="login", code="login-refused")
    assert server_answers.of_refusal(refused, token=False) is refused


GRAPH = [
    (
        403,
        "ErrorAccessDenied",
        "Access to OData is disabled: [RAOP] : Blocked by tenant configured AppOnly AccessPolicy "
        "settings.",
        "access-policy",
        PERSON,
    ),
    (
        403,
        "ErrorAccessDenied",
        "Access is denied. Check credentials and try again.",
        "access-denied",
        PERSON,
    ),
    (403, "Authorization_RequestDenied", "Insufficient privileges.", "consent-missing", PERSON),
    (404, "ErrorInvalidUser", "The requested user 'x' is invalid.", "mailbox-missing", PERSON),
    (
        404,
        "MailboxNotEnabledForRESTAPI",
        "The mailbox is either inactive, soft-deleted, or is hosted on-premise.",
        "mailbox-missing",
        PERSON,
    ),
    (
        401,
        "InvalidAuthenticationToken",
        "Lifetime validation failed, the token is expired.",
        "token-refused",
        LOGIN,
    ),
    (
        429,
        "ApplicationThrottled",
        "Application is over its MailboxConcurrency limit.",
        "throttled",
        AGAIN,
    ),
    (503, "ErrorMailboxMoveInProgress", "Mailbox move in progress.", "graph-unavailable", AGAIN),
]


@pytest.mark.promise("A5")
@pytest.mark.parametrize(("status", "name", "words", "code", "verdict"), GRAPH)
def test_refusals_of_graph(
    status: int, name: str, words: str, code: str, verdict: type[Exception]
) -> None:
    answer = {"error": {"code": name, "message": words, "innerError": {"request-id": "1"}}}
    error = graph_answers.of_graph(status, answer, retry_after=3)
    assert_is(error, code, verdict)
    assert words.rstrip(".")[:40] in str(error)


@pytest.mark.promise("M2", "F3")
@pytest.mark.parametrize("status", [400, 500, 501, 507])
@pytest.mark.parametrize(
    "code",
    [
        "ErrorMimeContentConversionFailed",
        "ErrorMimeContentInvalid",
        "ErrorMimeContentInvalidBase64String",
        "ErrorContentConversionFailed",
        "ErrorQuotaExceeded",
    ],
)
def test_what_stays_as_it_is_is_no_outage_of_graph_whatever_status_it_has(
    code: str, status: int
) -> None:
    """An item without a MIME form was waited for for ever, in place of its properties."""
    assert not graph_answers.graph_passes(status, code, "It failed.")
    assert graph_answers.graph_passes(503, "ErrorServerBusy", "Wait.")


@pytest.mark.promise("A3")
def test_application_access_is_never_healed_by_a_login() -> None:
    answer = {"error": {"code": "InvalidAuthenticationToken", "message": "No."}}
    error = server_answers.for_application(graph_answers.of_graph(401, answer))
    assert error.code == "token-refused"
    assert not isinstance(error, NeedsAuthorisation)
    assert "admin consent" in error.hint


def assert_is(error: PosthouseError, code: str, verdict: type[Exception]) -> None:
    """The code, exactly this verdict, and something to do for whoever must act."""
    assert error.code == code
    assert isinstance(error, verdict)
    assert isinstance(error, NeedsAuthorisation) == (verdict is NeedsAuthorisation)
    if isinstance(error, NeedsPerson):
        assert len(error.hint) > 20


KINDS_OF_REFUSALS = [
    (
        "login-unavailable",
        "[AUTHENTICATIONFAILED] Too many failed attempts. Try again in 15 minutes",
    ),
    ("login-unavailable", "[AUTHENTICATIONFAILED] Server busy"),
    ("login-unavailable", "[CONTACTADMIN] MySQL error, please try again later"),
    ("login-unavailable", "Cannot connect to authentication server"),
    ("login-refused", "[CONTACTADMIN] Ask your administrator"),
    ("login-refused", "[AUTH] login failure or POP3 disabled, try later."),
    ("login-refused", "Invalid user name or password. Too many invalid logon attempts."),
    ("too-many-connections", "Maximum number of IMAP sessions reached"),
    ("too-many-connections", "[LIMIT] Too many simultaneous IMAP connections: 16"),
    ("throttled", "Login rate limit exceeded, wait 60 seconds"),
    ("mailbox-full", "[OVERQUOTA] Quota exceeded (mailbox for user is full)"),
    ("throttled", "[OVERQUOTA] Account exceeded command or bandwidth limits."),
    ("user-blocked", "[ALERT] Your account has been disabled."),
    ("login-unavailable", "Your account has been blocked temporarily"),
    ("imap-disabled", "IMAP4 protocol is disabled"),
    ("pop-disabled", "POP3 is not enabled for this account"),
    ("access-disabled", "POP/IMAP access is disabled for this account"),
    ("password-expired", "Your password has expired"),
    ("password-login-disabled", "two-factor authentication: use an application password"),
    # The way out outweighs the state, and the state the code.
    ("web-login-required", "Account is blocked. Login via a web browser to verify your identity."),
    ("user-blocked", "[CONTACTADMIN] This account has been locked for inactivity."),
    ("login-unavailable", "Account is temporarily locked"),
    # What broke at the server; "unable to log on" is not that.
    ("login-unavailable", "aack, child crashed"),
    ("login-unavailable", "unable to scan $HOME/Maildir"),
    ("login-unavailable", "fatal error"),
    ("login-refused", "Unable to log on"),
    ("login-unavailable", "\u767b\u5f55\u592a\u9891\u7e41"),  # "logins too frequent"
    ("login-unavailable", "\u7cfb\u7edf\u7e41\u5fd9\uff0c\u8bf7\u7a0d\u540e"),  # "busy, later"
]


@pytest.mark.promise("A5")
@pytest.mark.parametrize(("code", "words"), KINDS_OF_REFUSALS)
def test_a_refused_login_is_known_by_its_kind(code: str, words: str) -> None:
    """Whoever's words they are: a code of the protocol says less than a plain sentence."""
    word = words[1:].partition("]")[0] if words.startswith("[") else ""
    error = server_answers.of_refusal(login_error(word, words), token=False)
    assert error.code == code, error
