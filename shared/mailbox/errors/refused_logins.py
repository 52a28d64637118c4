"""Whether the words of a refused login mean a wrong password, or a server that says: not now.

Response codes: RFC 5530 (IMAP), RFC 2449 section 8 and RFC 3206 (POP3).
"""

from __future__ import annotations

import re
from typing import Final

from shared.mailbox.failures import Refused, Unreachable

#: Codes that say by themselves that the same login may succeed later.
TEMPORARY_CODES: Final = frozenset({"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG"})
#: A refused login that says: not now.
_NOT_NOW = re.compile(
    r"\[(?:unavailable|inuse|in-use|limit|serverbug|sys/temp|login-delay|overquota)\b"
    r"|try again|try later|lookup failed|backend|allowed only every|not ready"
    r"|(?:mailbox|account) (?:is )?(?:temporarily )?locked|already (?:open|locked|in use)"
    # What broke on the server's side; "unable to log on" says nothing of the kind.
    r"|unable to (?:lock|open|read|scan|write|fork|access|load)|crashed|out of memory"
    # "too often", "busy", "later", "for now", as Chinese providers say it.
    r"|\u9891\u7e41|\u983b\u7e41|\u7e41\u5fd9|\u7a0d\u540e|\u7a0d\u5f8c|\u6682\u65f6|\u66ab\u6642",
    re.I,
)
#: The same, said so plainly that a code for a refused login beside it says nothing: many servers
#: give every failed login the same code.
_PLAINLY_NOT_NOW = re.compile(
    r"temporar|too many|rate limit|overload|exceeded the login limit|maintenance|unavailable|busy"
    r"|(?:internal|server|system|fatal|database|sql|ldap|i/o) error|timed? ?out|server (?:is )?down"
    r"|(?:cannot|can't|could not|unable to|failed to) (?:connect|contact|reach)",
    re.I,
)
#: A refused login that says by its code that the account or the password is no good …
_REFUSED_CODE = re.compile(
    r"\[(?:authenticationfailed|authorizationfailed|expired|auth|sys/perm)\b", re.I
)
#: … or in words, perhaps among other reasons.
_WRONG_PASSWORD = re.compile(
    r"(?:login|authentication) failure or|password (?:is )?(?:incorrect|wrong)"
    r"|(?:incorrect|wrong|invalid|bad) credentials"
    r"|(?:incorrect|wrong|invalid|bad) (?:user\s?(?:name|id)?|login)?(?: or | and |/)?password",
    re.I,
)


def login_error(code: str, text: str, protocol: str = "IMAP") -> Unreachable | Refused:
    """What a refused login means: the wrong password, or a server that cannot look at it now."""
    word = code.partition(" ")[0].upper()
    if word in TEMPORARY_CODES or says_not_now(f"[{word}] {text}" if word else text):
        return Unreachable(
            f"The mail server cannot log us in at the moment: {text}",
            step="login",
            code="login-unavailable",
            hint="Nothing needs to be done here, unless it stays so. It is tried again by itself.",
        )
    return Refused(
        f"The mail server refused the login: {text}",
        step="login",
        code="login-refused",
        hint="Check username and password; some servers want an app password or have "
        f"{protocol} switched off for the account.",
    )


def starttls_refused(host: str, words: str, tls_port: int) -> Unreachable | Refused:
    """What it means that a server does not begin TLS; `words` are its own, empty where it does not
    even offer it. Nothing goes on in plain text, whatever they are."""
    never = f"Use TLS on its own port ({tls_port}). Posthouse never falls back to plain text."
    if words and says_not_now(words):
        return Unreachable(
            f"{host} cannot begin TLS at the moment: {words.rstrip('.')}.",
            step="tls",
            code="starttls-unavailable",
            hint=f"It is tried again by itself. If it stays: {never}",
        )
    said = f"{host} refuses STARTTLS: {words.rstrip('.')}." if words else ""
    return Refused(
        said or f"{host} does not offer STARTTLS on this port.",
        step="tls",
        code="starttls-refused",
        hint=never,
    )


def says_wrong_password(words: str) -> bool:
    """Whether a refused login says that the password is wrong, perhaps among other reasons."""
    return _WRONG_PASSWORD.search(words) is not None


def says_not_now(words: str) -> bool:
    """Whether a refused login says that it may succeed later as it is, so that it is no wrong
    password. `words` are the server's, with the response code where there was one."""
    if says_wrong_password(words):
        return False
    if _PLAINLY_NOT_NOW.search(words) is not None:
        return True
    return _NOT_NOW.search(words) is not None and _REFUSED_CODE.search(words) is None
