"""The usual refusals of providers and mail servers: each with a verdict, a stable code, a message
and what to do. `server_answers`, `token_answers` and `graph_answers` recognise them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shared.errors import NeedsAuthorisation, NeedsPerson, TryAgain
from shared.mailbox.failures import Refused, StepFailed, Unreachable

_LONGEST = 300
AUTHORISATION_STEP: Final = "authorisation"


class LoginNeeded(StepFailed, NeedsAuthorisation):
    """The provider wants somebody to log in (again). The refresh token is kept all the same."""

    step = "authorisation"


class GrantLost(LoginNeeded):
    """The provider says that the refresh token is dead: the one refusal that loses it."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One refusal understood. `verdict` is the class of `shared.errors` that it becomes; `pause`
    the seconds to leave the other side alone where it does not say itself (TryAgain only)."""

    code: str
    verdict: type[NeedsPerson] | type[TryAgain]
    message: str
    hint: str
    pause: float | None = None

    def error(self, words: str = "", retry_after: float | None = None) -> StepFailed:
        """The error to raise; `words` are the provider's own, quoted after ours."""
        text = f"{self.message} ({shortened(words)})" if words else self.message
        if issubclass(self.verdict, TryAgain):
            return Unreachable(
                text,
                step=AUTHORISATION_STEP,
                hint=self.hint,
                code=self.code,
                retry_after=self.pause if retry_after is None else retry_after,
            )
        if issubclass(self.verdict, NeedsAuthorisation):
            kind = self.verdict if issubclass(self.verdict, LoginNeeded) else LoginNeeded
            return kind(text, hint=self.hint, code=self.code)
        return Refused(text, step=AUTHORISATION_STEP, hint=self.hint, code=self.code)


def _person(code: str, message: str, hint: str) -> Diagnosis:
    return Diagnosis(code, NeedsPerson, message, hint)


def _login(code: str, message: str, hint: str = "Authorise the connection again.") -> Diagnosis:
    return Diagnosis(code, NeedsAuthorisation, message, hint)


def _passing(code: str, message: str, hint: str, pause: float | None = None) -> Diagnosis:
    return Diagnosis(code, TryAgain, message, hint, pause)


_BY_ITSELF: Final = "It is tried again by itself."
_KEPT: Final = "The authorisation is kept and tried again by itself."

GRANT_LOST: Final = Diagnosis(
    "grant-lost",
    GrantLost,
    "The authorisation is no longer valid at the provider: it expired or was revoked.",
    "Authorise the connection again.",
)
CONSENT_MISSING: Final = _person(
    "consent-missing",
    "Nobody consented to what this application asks for.",
    "An administrator of the organisation lets the application in. Microsoft: Entra admin center, "
    "App registrations, API permissions, Grant admin consent. Google: Admin console, Security, API "
    "controls, Manage app access: trust it. Then authorise or test again.",
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
    "The provider asks for a new login: the last one ended by its rules.",
    f"Authorise the connection again. {_KEPT}",
)
SECOND_FACTOR: Final = _person(
    "second-factor-required",
    "The provider wants a second factor for this login.",
    "Authorise the connection again and give the second factor there; or have an administrator "
    f"exclude Posthouse's address or the application from that policy. {_KEPT}",
)
POLICY_BLOCKED: Final = _person(
    "policy-blocked",
    "A conditional-access policy of the tenant blocks this login.",
    "Have an administrator exclude the application or Posthouse's address from the policy (Entra "
    f"admin center, Sign-in logs, says which one). {_KEPT}",
)
PASSWORD_EXPIRED: Final = _person(
    "password-expired",
    "The password of the account has expired or must be changed.",
    "Its owner changes it at the provider; then the new one is entered here, or the connection is "
    f"authorised again. {_KEPT}",
)
ACCOUNT_LOCKED: Final = _passing(
    "account-locked",
    "The account is locked at the provider for the moment (too many logins, or from where it saw "
    "an attack).",
    "It opens by itself, or by an administrator; other programs with an old password keep it "
    f"locked. {_KEPT}",
    pause=600.0,
)
CLIENT_LOOP: Final = _passing(
    "client-loop",
    "The provider took our requests for a loop and refuses them for a while.",
    "Several installations with the same application and account look like one. " + _KEPT,
    pause=600.0,
)
CLOCK_WRONG: Final = _passing(
    "clock-wrong",
    "The provider does not believe the time in our request.",
    "Set the clock of the machine that Posthouse runs on (NTP): it differs from the provider's by "
    "more than minutes.",
    pause=300.0,
)
TENANT_WRONG: Final = _person(
    "tenant-wrong",
    "The application cannot be used through this tenant or endpoint.",
    "Enter the tenant's id or domain in the credential's field Tenant; empty is for applications "
    "of several tenants. Compare the cloud, too.",
)
CLIENT_DISABLED: Final = _person(
    "client-disabled",
    "The application is disabled at the provider.",
    "Whoever owns the application enables it there: Entra admin center, Enterprise applications, "
    "Properties; or Google Cloud console, APIs and services, Credentials.",
)
CLIENT_PUBLIC: Final = _person(
    "client-is-public",
    "The application is registered as a public client, which must not show a secret.",
    "Register the redirect address under the platform Web, and switch public client flows off.",
)
DELEGATION_MISSING: Final = _person(
    "delegation-missing",
    "The service account may not act for this mailbox: domain-wide delegation is missing.",
    "Google Admin console, Security, API controls, Domain-wide delegation: add the service "
    "account's client id with the scope https://www.googleapis.com/auth/gmail.imap_admin for IMAP, "
    "https://mail.google.com/ for POP3.",
)
PROVIDER_BUSY: Final = _passing(
    "provider-unavailable",
    "The provider's authorisation server is not available, or throttles us.",
    f"Nothing needs to be done here. {_KEPT}",
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
ACCESS_OFF: Final = _person(
    "access-disabled",
    "Access by mail programs (IMAP and POP3) is switched off for this mailbox.",
    "Switch it on in the mailbox's settings at the provider, or have an administrator do so.",
)
NO_PRIVACY: Final = _person(
    "privacy-required",
    "The server takes a password only on an encrypted connection.",
    "Set the connection's security to TLS or STARTTLS.",
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
    "If it stays: check that the account that logged in may open this mailbox by this protocol and "
    "that the mail scope was consented to, then authorise again.",
)
#: Mostly a missing right, at times an outage that passes: what needs a person is tried again too.
NOT_CONNECTED: Final = _person(
    "authenticated-not-connected",
    "The mail server let us log in, but not to this mailbox.",
    "The usual causes: the protocol (IMAP, POP3) is switched off for the mailbox; the person who "
    "logged in has no Full Access to the shared mailbox; the username is not the mailbox's "
    "address; for application access the service principal lacks Add-MailboxPermission.",
)
#: The settings of servers by which they take more.
MORE_SESSIONS: Final = (
    "let the server take more sessions from this address and of this user (Courier: MAXPERIP; "
    "Dovecot: mail_max_userip_connections; Cyrus: maxlogins_per_host)"
)
TOO_MANY: Final = _passing(
    "too-many-connections",
    "The mailbox has too many sessions open.",
    f"Other programs that read it count as well: close some, {MORE_SESSIONS}, or lower "
    f"POSTHOUSE_SESSIONS_PER_MAILBOX and POSTHOUSE_SESSIONS_PER_HOST. {_BY_ITSELF}",
)
LOGIN_LATER: Final = _passing(
    "login-unavailable",
    "The mail server cannot log us in at the moment.",
    f"Nothing needs to be done here, unless it stays so. {_BY_ITSELF}",
)
THROTTLED: Final = _passing(
    "throttled",
    "The mail server throttles this mailbox.",
    "Everything that reads the mailbox counts: lengthen the interval, or close other programs. "
    + _BY_ITSELF,
)
LOGIN_IN_BROWSER: Final = _person(
    "web-login-required",
    "The provider wants somebody to log in with a browser first.",
    "Log in to the account in a browser (from Posthouse's network, if possible), confirm what is "
    f"asked there, then test again. {_KEPT}",
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
API_OFF: Final = _person(
    "api-disabled",
    "Access by programs is switched off for this mailbox or tenant.",
    "Exchange admin: EwsEnabled and EwsApplicationAccessPolicy with its lists, of the mailbox (Get-"
    "CASMailbox) and of the organisation (Get-OrganizationConfig), rule Graph's mail access too.",
)
MAILBOX_MISSING: Final = _person(
    "mailbox-missing",
    "There is no mailbox of that name in Exchange Online.",
    "Compare the address; a mailbox that is still on-premises or has no licence cannot be read "
    "through Graph.",
)
MAILBOX_FULL: Final = _person(
    "mailbox-full",
    "The mailbox is over its quota, so its server refuses to go on with it.",
    "Somebody deletes mails there and empties the trash, or an administrator raises the "
    f"quota. {_BY_ITSELF}",
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
