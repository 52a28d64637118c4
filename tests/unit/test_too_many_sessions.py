"""Refusals about the number of sessions, and those that look like it; all of them made up."""

from __future__ import annotations

import pytest

from shared.mailbox.errors.server_answers import of_login
from shared.mailbox.errors.too_many_sessions import says_too_many_sessions

TOO_MANY = """
Too many connections from your IP
[LIMIT] Too many sessions
421 too many IMAP clients
Too many simultaneous connections. (Failure)
Too much simultaneous logins
Too many already open connections for this mailbox
Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)
[UNAVAILABLE] Maximum concurrent connections reached
Sorry, the maximum number of clients - 4 - from your host are already connected
User is authenticated but not connected. Session limit exceeded.
Your account is limited to 15 concurrent sessions
User has reached the limit of open IMAP sessions
Simultaneous login limit reached
Concurrent connection count exceeded
Connection refused: only 5 connections allowed per user
More than 10 concurrent connections per mailbox are not permitted
Another 8 sessions are open for this account, that is the maximum
The number of open sessions exceeds the allowed maximum
No more connections allowed from your host
excessive number of connections
connection pool exhausted for this user
All connection slots in use, try again later
session quota exceeded
Already connected 16 times
"""
OTHERS = """
[AUTHENTICATIONFAILED] Invalid credentials
Too many invalid login attempts, locked for 15 minutes
Too many login failures
Too many failed authentications from this address
Too many failed connections, try again in an hour
[LIMIT] Too many failed logins, try later
Maximum login attempts exceeded
Logins must be at least 1 minute apart
Mailbox already in use by another session
Only TLS connections are allowed
Session idle limit exceeded
Session time limit reached
Maximum number of messages per session reached
Connection timed out: backend limit
Connection dropped by IMAP server.
Mailbox is full, quota exceeded
"""


def sentences(text: str) -> list[str]:
    return text.strip().splitlines()


@pytest.mark.promise("M27")
@pytest.mark.parametrize("words", sentences(TOO_MANY))
def test_too_many_sessions_in_any_words(words: str) -> None:
    error = of_login(words, token=False)
    assert error is not None
    assert error.code == "too-many-connections"
    assert "POSTHOUSE_SESSIONS_PER_HOST" in error.hint


@pytest.mark.promise("M27")
@pytest.mark.parametrize("words", sentences(OTHERS))
def test_what_else_is_counted_or_bounded_is_not_meant(words: str) -> None:
    assert not says_too_many_sessions(words)
