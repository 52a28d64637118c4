"""Logging in over POP3: password (USER, SASL, APOP) or OAuth2 token, and what a refusal means."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from typing import Final

from shared.connections import Connection
from shared.mailbox.base import Login
from shared.mailbox.errors.refused_logins import login_error
from shared.mailbox.failures import LoginTooSoon, OAuthRefused, Refused, SessionLost, Unreachable
from shared.mailbox.net.sasl import (
    bearer_message,
    challenge_octets,
    decode_challenge,
    login_name,
    no_external,
)
from shared.mailbox.net.scram import MECHANISM, Scram, unproved
from shared.mailbox.pop3.session import Pop3Answer, Pop3Session

#: The timestamp of a greeting that offers APOP (RFC 1939 section 7): a message id, and nothing that
#: no message id has, as an attacker in the middle would need to choose it (CVE-2007-1558).
_TIMESTAMP: Final = re.compile(r"<[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.\[\]:-]+>")
#: Seconds to wait where the server wants time between logins and does not say how much.
_UNTOLD_DELAY: Final = 300.0
_LONGEST_DELAY: Final = 86_400.0
#: Cyrus: "Logins must be at least 5 minutes apart"; GMX and web.de: "login allowed only every 15
#: minutes"; others: "minimum time between mail checks violation".
_TOO_SOON: Final = re.compile(
    r"(log ?ins?|mail ?checks?|polls?|check(ing)? (your )?mail|connect(ion)?s?)\b.{0,40}"
    r"\b(only (allowed )?every|at least .{0,20}apart|once (every|per)|too (often|frequent|soon))"
    r"|minimum (time|interval) between|too (often|frequent(ly)?) (log|check|poll|connect)"
    r"|(wait|try again (in|after)) .{0,20}(minutes?|seconds?).{0,20}\b(log|check|poll)",
    re.I,
)
_SPAN: Final = re.compile(r"(\d{1,5})\s*(s|sec|m|min|h|hour)[a-z]*\b", re.I)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
#: Another session has the mailbox: a person, another program, or ours that the server has not yet
#: given up.
_IN_USE: Final = re.compile(
    r"\block(ed|ing)?\b|in use|being used|already (open|logged|active|accessed|connected)"
    r"|(another|other|existing|open|active) (pop3? )?(session|connection)|maildrop .{0,20}busy",
    re.I,
)


def log_in(session: Pop3Session, connection: Connection, login: Login, *, renew: bool) -> None:
    """Logs in by whatever the server offers. Raises LoginTooSoon, Unreachable, Refused or
    OAuthRefused."""
    if login.access_token is not None:
        _bearer(session, connection, login.access_token(renew))
    elif login.client_certificate is not None and not login.password:
        if "EXTERNAL" not in session.capabilities.get("SASL", "").split():
            raise no_external()
        session.login_ways = ("EXTERNAL",)
        name = login_name(connection, login).encode()
        external = authenticate(session, b"EXTERNAL", lambda _: name)
        if not external.ok:
            raise refusal(session, external)
    else:
        username, password = login_name(connection, login), login.password or ""
        if any(c in username + password for c in "\r\n\0"):
            raise Refused(
                "POP3 cannot carry a username or password with a line break in it.",
                step="login",
                code="login-refused",
            )
        session.stream.transcript.hide(password)
        refused = _password(session, username, password, login.mechanism)
        if refused is not None:
            raise refusal(session, refused)
    if session.depends_on_user:
        session.read_capabilities()


def mechanisms(session: Pop3Session) -> list[str]:
    """How a password may be given, by what the server says of itself: the best way first."""
    stamp = _TIMESTAMP.search(session.greeting)
    offered = session.capabilities.get("SASL", "").split()
    lists_capabilities = bool(session.capabilities)
    found = (
        []
        if lists_capabilities and "USER" not in session.capabilities and (offered or stamp)
        else ["USER"]
    )
    found += [name for name in ("PLAIN", MECHANISM, "LOGIN") if name in offered]
    return [*found, "APOP"] if stamp is not None else found


def _password(session: Pop3Session, username: str, password: str, chosen: str) -> Pop3Answer | None:
    """None where the server took it, else its last answer.

    USER and PASS wherever they may be there; what else the server offers where they are not.
    """
    offered = [chosen] if chosen else session.capabilities.get("SASL", "").split()
    stamp = _TIMESTAMP.search(session.greeting)
    session.login_ways = tuple(mechanisms(session))
    if "USER" not in (offered if chosen else session.login_ways):
        return _without_user(session, username, password, offered, stamp)
    user = b"USER " + username.encode()
    secret = b"PASS " + password.encode()
    # Both in one go only where USER is certain to be there: the password is not sent in vain.
    if session.pipelining and "USER" in session.capabilities:
        session.stream.start_clock()
        session.stream.transcript.sent(user)
        session.stream.transcript.sent(b"PASS ***")
        session.send_unnoted([user, secret])
        answers = [session.answer(), session.answer()]
        return next((answer for answer in answers if not answer.ok), None)
    answer = session.command(user)
    if answer.ok:
        answer = session.command(secret, shown=b"PASS ***")
        return None if answer.ok else answer
    if (stamp or offered) and not chosen and not _passes(answer):
        return _without_user(session, username, password, offered, stamp)
    return answer


def _without_user(
    session: Pop3Session,
    username: str,
    password: str,
    offered: list[str],
    stamp: re.Match[str] | None,
) -> Pop3Answer | None:
    if "PLAIN" in offered:
        message = f"\0{username}\0{password}".encode()
        session.stream.transcript.hide(message.decode())
        answer = authenticate(session, b"PLAIN", lambda _: message)
    elif MECHANISM in offered:
        scram = Scram(username, password)
        first = iter([scram.first()])
        answer = authenticate(
            session,
            MECHANISM.encode(),
            lambda challenge: next(first, None) or scram.respond(challenge_octets(challenge)),
        )
        if answer.ok and not scram.verified:
            raise unproved()
    elif "LOGIN" in offered:
        # Never standardised: the server asks for the name, then for the password.
        rest = iter([username.encode(), password.encode()])
        answer = authenticate(session, b"LOGIN", lambda _: next(rest, b"*"))
    elif stamp is not None:
        digest = hashlib.md5((stamp[0] + password).encode(), usedforsecurity=False).hexdigest()
        answer = session.command(
            b"APOP " + f"{username} {digest}".encode(), shown=b"APOP " + username.encode() + b" ***"
        )
    else:
        raise Refused(
            f"The mail server takes a password in no way that is known here: it offers "
            f"{' '.join(offered)}.",
            step="login",
            code="login-method-missing",
            hint="Choose TLS or STARTTLS if the connection has neither; or the server wants "
            "OAuth2; or use IMAP for this mailbox.",
        )
    return None if answer.ok else answer


def _passes(answer: Pop3Answer) -> bool:
    """Whether a refusal speaks of the server's state, so that no other way in is tried."""
    return (
        answer.code in ("IN-USE", "LOGIN-DELAY", "SYS/TEMP")
        or _TOO_SOON.search(answer.text) is not None
    )


def refusal(session: Pop3Session, answer: Pop3Answer) -> Unreachable | Refused | SessionLost:
    """What the refusal of a login means (response codes: RFC 2449 section 8, RFC 3206)."""
    code, text = answer.code, answer.text or "-ERR"
    if code == "LOGIN-DELAY" or (code != "AUTH" and _TOO_SOON.search(text)):
        return LoginTooSoon(
            f"The mail server wants time between two logins: {text}",
            retry_after=_delay(text) or session.login_delay or _UNTOLD_DELAY,
        )
    if code == "IN-USE" or (code not in ("AUTH", "SYS/PERM") and _IN_USE.search(text)):
        return Unreachable(
            f"Another program has the mailbox open: {text}",
            step="login",
            code="mailbox-in-use",
            hint="A POP3 mailbox serves one session at a time.",
        )
    if code == "SYS/TEMP":
        return login_error("UNAVAILABLE", text, "POP3")
    if code in ("AUTH", "SYS/PERM"):
        return login_error("AUTHENTICATIONFAILED", text, "POP3")
    return login_error("", text, "POP3")


def _delay(text: str) -> float | None:
    match = _SPAN.search(text)
    if match is None:
        return None
    return min(_LONGEST_DELAY, float(match[1]) * _SECONDS[match[2][0].lower()])


def authenticate(
    session: Pop3Session, mechanism: bytes, respond: Callable[[bytes], bytes]
) -> Pop3Answer:
    """AUTH (RFC 5034): `respond` gives the answer to each challenge, neither in base64.

    The initial response may not fit a command line (section 4): sent on its own, always.
    """
    session.stream.start_clock()
    session.send(b"AUTH " + mechanism)
    for _ in range(5):
        line = session.first_line()
        session.stream.transcript.received(line)
        if not line.startswith(b"+ ") and line != b"+":
            return session.understood(line)
        session.respond(base64.b64encode(respond(line[1:].strip())))
    raise session.stream.nonsense("one challenge after the other")


def _bearer(session: Pop3Session, connection: Connection, token: str) -> None:
    offered = session.capabilities.get("SASL", "").split()
    mechanism = b"XOAUTH2"
    if "XOAUTH2" not in offered and "OAUTHBEARER" in offered:
        mechanism = b"OAUTHBEARER"
    message = bearer_message(mechanism, connection, token)
    session.stream.transcript.hide(token)
    session.stream.transcript.hide(message.decode())
    details: dict[str, object] = {}
    responses = iter([message])

    def respond(challenge: bytes) -> bytes:
        first = next(responses, None)
        if first is not None:
            return first
        details.update(decode_challenge(challenge))
        return b"\x01" if mechanism == b"OAUTHBEARER" else b""

    answer = authenticate(session, mechanism, respond)
    if answer.ok:
        return
    if not details and (
        answer.code in ("SYS/TEMP", "LOGIN-DELAY", "IN-USE") or _TOO_SOON.search(answer.text)
    ):
        raise refusal(session, answer)
    raise OAuthRefused(
        f"The mail server refused the access token for {connection.mailbox}: {answer.text}",
        details=details,
        server_text=answer.text,
    )
