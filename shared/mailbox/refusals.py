"""The usual refusals of providers and mail servers: each with a verdict, a stable code, a message
and what to do. `shared.mailbox.diagnosis` recognises them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shared.errors import NeedsAuthorisation, NeedsPerson, TryAgain
from shared.mailbox.base import Refused, StepFailed, Unreachable

_LONGEST = 300
AUTHORISATION_STEP: Final = "authorisation"


class LoginNeeded(StepFailed, NeedsAuthorisation):
    """The provider wants somebody to log in (again)."""

    step = "authorisation"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One refusal understood. `verdict` is the class of `shared.errors` that it becomes."""

    code: str
    verdict: type[NeedsPerson] | type[TryAgain]
    message: str
    hint: str = ""

    def error(self, words: str = "", retry_after: float | None = None) -> StepFailed:
        """The error to raise; `words` are the provider's own, quoted after ours."""
        text = f"{self.message} ({shortened(words)})" if words else self.message
        if issubclass(self.verdict, TryAgain):
            return Unreachable(
                text,
                step=AUTHORISATION_STEP,
                hint=self.hint,
                code=self.code,
                retry_after=retry_after,
            )
        if issubclass(self.verdict, NeedsAuthorisation):
            return LoginNeeded(text, hint=self.hint, code=self.code)
        return Refused(text, step=AUTHORISATION_STEP, hint=self.hint, code=self.code)


def _person(code: str, message: str, hint: str) -> Diagnosis:
    return Diagnosis(code, NeedsPerson, message, hint)


def _login(code: str, message: str, hint: str = "Authorise the connection again.") -> Diagnosis:
    return Diagnosis(code, NeedsAuthorisation, message, hint)


GRANT_LOST: Final = _login(
    "grant-lost", "The authorisation is no longer valid at the provider: it expired or was revoked."
)
CONSENT_MISSING: Final = _person(
    "consent-missing",
    "Nobody consented to what this application asks for.",
    "An administrator of the tenant grants consent: Entra admin center, App registrations, API "
    "permissions, Grant admin consent. Then authorise or test again.",
)
CONSENT_DENIED: Final = _login(
    "consent-denied",
    "The consent was refused at the provider's login page.",
    "Authorise again and accept what is asked for, or have an administrator consent.",
)
SCOPE_WRONG: Final = _person(
    "scope-wrong",
    "The application is not allowed the scope that reading mail needs.",
    "Add the mail permission of the connection's mode to the application at the provider (IMAP: "
    "IMAP.AccessAsUser.All or IMAP.AccessAsApp; Graph: Mail.ReadWrite; Google: "
    "https://mail.google.com/), consent to it, then authorise again.",
)
SECRET_EXPIRED: Final = _person(
    "client-secret-expired",
    "The client secret of the credential has expired.",
    "Make a new client secret at the provider and enter it in the credential. Connections that "
    "use it go on by themselves.",
)
SECRET_WRONG: Final = _person(
    "client-secret-wrong",
    "The provider does not accept the client secret of the credential.",
    "Enter the secret's value, not its id; make a new one where it is lost.",
)
CERTIFICATE_REFUSED: Final = _person(
    "client-certificate-refused",
    "The provider does not accept the client certificate of the credential.",
    "Upload this certificate to the application at the provider, or a new one that has not "
    "expired to both.",
)
CLIENT_UNKNOWN: Final = _person(
    "client-unknown",
    "The provider does not know the client id of the credential.",
    "Compare the client id, and that the tenant and the cloud are those of the application.",
)
TENANT_UNKNOWN: Final = _person(
    "tenant-unknown",
    "The provider does not know the tenant of the credential.",
    "Enter the tenant's id or a verified domain, and check the cloud.",
)
REDIRECT_WRONG: Final = _person(
    "redirect-wrong",
    "The redirect address is not registered for the application at the provider.",
    "Copy the redirect address shown with the credential into the application, as type Web.",
)
USER_UNKNOWN: Final = _person(
    "user-unknown",
    "The provider does not know this user.",
    "Compare the username with the mailbox's address at the provider, and the tenant.",
)
USER_BLOCKED: Final = _person(
    "user-blocked",
    "The account is disabled or may not use this application.",
    "Have an administrator enable the account or assign it to the application.",
)
LOGIN_AGAIN: Final = _login(
    "login-required",
    "The provider asks for a new login (changed password, second factor or sign-in policy).",
)
POLICY_BLOCKED: Final = _person(
    "policy-blocked",
    "A conditional-access policy of the tenant blocks this login.",
    "Have an administrator exclude the application or Posthouse's address from the policy.",
)
DELEGATION_MISSING: Final = _person(
    "delegation-missing",
    "The service account may not act for this mailbox: domain-wide delegation is missing.",
    "Google Admin console, Security, API controls, Domain-wide delegation: add the service "
    "account's client id with the scope https://www.googleapis.com/auth/gmail.imap_admin.",
)
PROVIDER_BUSY: Final = Diagnosis(
    "provider-unavailable", TryAgain, "The provider's authorisation server is not available."
)
IMAP_OFF: Final = _person(
    "imap-disabled",
    "IMAP is switched off for this mailbox.",
    "Google: Gmail settings, Forwarding and POP/IMAP, or the Admin console for the whole domain. "
    "Microsoft: Exchange admin center, the mailbox's email apps, IMAP.",
)
POP_OFF: Final = _person(
    "pop-disabled",
    "POP3 is switched off for this mailbox.",
    "Switch it on in the mailbox's settings or by an administrator.",
)
BASIC_AUTH_OFF: Final = _person(
    "password-login-disabled",
    "The server takes no password for this mailbox.",
    "Use a mode with OAuth2 (google-imap, microsoft-imap, microsoft-graph), or an app password "
    "where the provider still offers them.",
)
TOKEN_REFUSED: Final = _login(
    "token-refused",
    "The mail server refused the access token.",
    "Check that the account that logged in may open this mailbox and that the mail scope was "
    "consented to, then authorise again.",
)
#: Mostly a missing right, at times an outage that passes: so it is tried again.
NOT_CONNECTED: Final = Diagnosis(
    "authenticated-not-connected",
    TryAgain,
    "The mail server let us log in, but not to this mailbox.",
    "The usual causes: IMAP is switched off for the mailbox; the person who logged in has no Full "
    "Access to the shared mailbox; the username is not the mailbox's address; for application "
    "access the service principal lacks Add-MailboxPermission.",
)
TOO_MANY: Final = Diagnosis(
    "too-many-connections", TryAgain, "The mailbox has too many sessions open.", ""
)
NOT_COVERED: Final = _person(
    "access-policy",
    "The tenant's application access policy does not cover this mailbox.",
    "Exchange admin: add the mailbox to the group of the application access policy, or to the "
    "scope of the application's role assignment. A change takes up to an hour or more to work.",
)
ACCESS_DENIED: Final = _person(
    "access-denied",
    "Graph does not let us open this mailbox.",
    "Delegated: the person who logged in needs Full Access to the mailbox, and Mail.ReadWrite"
    " (.Shared for a shared mailbox). Application: Mail.ReadWrite with admin consent.",
)
MAILBOX_MISSING: Final = _person(
    "mailbox-missing",
    "There is no mailbox of that name in Exchange Online.",
    "Compare the address; a mailbox that is still on-premises or has no licence cannot be read "
    "through Graph.",
)
WRONG_ACCOUNT_OR_SCOPE: Final = _login(
    "token-not-for-mailbox",
    "The token is not for this mailbox, or not for reading mail.",
    "The username must be the account that logged in, and its consent must include mail; "
    "authorise again with that account.",
)


def shortened(text: str) -> str:
    """Somebody else's words on one line, bounded: they end up in errors and logs."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
