"""Refusals of single mails: the server's state, or the mail's fault. All of them made up."""

from __future__ import annotations

import pytest

from shared.mailbox.errors.throttling import is_full, is_passing, is_throttled, stated_delay

#: Sentence, seconds that it asks for.
THROTTLED = [
    ("[THROTTLED] Request rate exceeded, please slow down", None),
    ("[LIMIT] Rate limit hit. Retry after 60 seconds", 60),
    ("UID FETCH Rate limited; wait 5 minutes", 300),
    ("User is over quota for downloads", None),
    ("Your account has exceeded the download bandwidth", 3600),
    ("You have exceeded your daily download quota", None),
    ("Excessive usage detected", None),
    ("Too much mail downloaded in too short a time", None),
    ("Too many messages retrieved, retry in 15 minutes", 900),
    ("[ALERT] Too many simultaneous requests. (Failure)", None),
    ("Access rate exceeded. Wait 2 hours before next try", 7200),
    ("Policy limit reached: 500 messages per hour", None),
    ("Daily limit of 1000 messages downloaded reached", None),
    ("Traffic limit exceeded for this hour", None),
    ("Exceeded the rate limit for RETR", None),
    ("Application is over its MailboxConcurrency limit.", None),
]
PASSING = [
    "Server Busy, please retry in 30 sec.",
    "Backend Server is busy",
    "Service not available, try later",
    "Error retrieving message. Please retry later",
    "ErrorTimeoutExpired: The request timed out",
    "[SYS/TEMP] Server too busy",
    "Quota exceeded (mailbox for user is full)",
    "[OVERQUOTA] Mailbox is full / Blocks limit exceeded / Inode limit exceeded",
]
OF_THE_MAIL = [
    "Message too complex to be parsed",
    "Message corrupted on disk",
    "Message not available",
    "Message is larger than the limit",
    "Unable to open message file: No such file or directory",
    "Message is flagged as a virus and will not be delivered",
    "Lookup failed abcd1234",
]


@pytest.mark.promise("M9")
@pytest.mark.parametrize(("words", "seconds"), THROTTLED)
def test_throttling_in_any_words(words: str, seconds: float | None) -> None:
    assert is_throttled(words)
    assert stated_delay(words) == seconds


@pytest.mark.promise("M9")
@pytest.mark.parametrize("words", PASSING)
def test_what_passes_by_itself_is_no_throttling_and_no_mails_fault(words: str) -> None:
    assert is_passing(words)
    assert not is_throttled(words) or is_full(words)


@pytest.mark.parametrize("words", OF_THE_MAIL)
def test_what_is_said_of_one_mail_is_not_taken_for_the_servers_state(words: str) -> None:
    assert not is_passing(words)
