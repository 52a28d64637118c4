"""Mails that an IMAP server does not give together with others are asked for alone: each is given,
or told of once and with the right reason, and none takes another one with it.

For an administrator: as in test_breaking_mails.py and test_throttled_downloads.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from shared.mailbox.base import MailRef
from shared.mailbox.errors.refused_mails import MailRefused
from tests.integration.mail_sessions import failure
from tests.integration.test_hostile_imap import downloaded
from tests.servers.scripted import Answer, Conversation, ScriptedServer, body_response, imap

MAILS = {uid: b"Subject: %d\r\n\r\ntext\r\n" % uid for uid in range(1, 6)}
REFS = [MailRef(uid, len(raw)) for uid, raw in MAILS.items()]
Body = Callable[[Conversation, bytes], None]


def alone(
    bodies: Mapping[int, Body], more: Mapping[str, Answer] | None = None
) -> dict[str, Answer]:
    """Refuses several mails at once, and answers for some of them in its own way."""

    def answer(talk: Conversation, tag: bytes, rest: bytes) -> None:
        wanted = rest.split(b" ")[0]
        if not wanted.isdigit():
            talk.send(tag + b" NO some of these are not to be had\r\n")
        elif int(wanted) in bodies:
            bodies[int(wanted)](talk, tag)
        else:
            talk.send(body_response(int(wanted), MAILS[int(wanted)]))
            talk.ok(tag)

    return {"UID FETCH": answer, **(more or {})}


def refusing(words: bytes) -> Body:
    return lambda talk, tag: talk.send(tag + b" NO " + words + b"\r\n")


def giving(octets: bytes) -> Body:
    def body(talk: Conversation, tag: bytes) -> None:
        talk.send(octets)
        talk.ok(tag)

    return body


@pytest.mark.promise("H4")
def test_a_mail_that_turns_out_too_large_is_told_of_once() -> None:
    large = giving(body_response(2, b"x" * 5000))
    sink, error = downloaded(imap(alone({2: large}), mails=MAILS), REFS, limit=1000)
    assert error is None
    assert set(sink.mails) == {1, 3, 4, 5}
    assert [reason.code for reason in sink.abandoned.values()] == ["too-large"]


@pytest.mark.promise("H4")
@pytest.mark.parametrize(("listed", "code"), [(b" 2", "mail-refused"), (b"", "mail-vanished")])
def test_a_mail_that_is_passed_over_is_gone_or_refused(listed: bytes, code: str) -> None:
    search: dict[str, Answer] = {"UID SEARCH": b"* SEARCH" + listed + b"\r\n"}
    sink, error = downloaded(imap(alone({2: giving(b"")}, search), mails=MAILS), REFS)
    assert error is None
    assert set(sink.mails) == {1, 3, 4, 5}
    assert sink.abandoned[2].code == code


@pytest.mark.promise("H4")
@pytest.mark.parametrize("items", [b"BODY[] ", b"BODY[] {0}\r\na mail behind its size"])
@pytest.mark.parametrize("listed", [b" 2", b""])
def test_a_mail_whose_answer_is_malformed_is_no_vanished_one(items: bytes, listed: bytes) -> None:
    malformed = giving(b"* 2 FETCH (UID 2 " + items + b")\r\n")
    search: dict[str, Answer] = {"UID SEARCH": b"* SEARCH" + listed + b"\r\n"}
    script = imap(alone({2: malformed}, search), mails=MAILS)
    sink, error = downloaded(script, REFS)
    assert error is None
    assert set(sink.mails) == {1, 3, 4, 5}
    assert sink.abandoned[2].code == "mail-refused"
    assert "malformed" in str(sink.abandoned[2])


@pytest.mark.promise("H4")
def test_a_mail_whose_answer_is_malformed_among_others_is_asked_for_alone() -> None:
    def answer(talk: Conversation, tag: bytes, rest: bytes) -> None:
        wanted = rest.split(b" ")[0]
        for uid in [int(wanted)] if wanted.isdigit() else MAILS:
            whole = uid != 2 or wanted.isdigit()
            talk.send(body_response(uid, MAILS[uid]) if whole else b"* 2 FETCH (UID 2 BODY[] )\r\n")
        talk.ok(tag)

    sink, error = downloaded(imap({"UID FETCH": answer}, mails=MAILS), REFS)
    assert error is None
    assert sink.mails == MAILS


ITEMS = {
    "behind the body": b"* %d FETCH (UID %d BODY[] {%d}\r\n%s FLAGS (\\Seen))\r\n",
    "a literal before it": b"* %d FETCH (UID %d ENVELOPE {5}\r\nfalse BODY[] {%d}\r\n%s)\r\n",
}


@pytest.mark.parametrize("form", ITEMS.values(), ids=ITEMS)
def test_other_items_beside_a_body_are_no_mail_and_no_answer(form: bytes) -> None:
    answer = b"".join(form % (uid, uid, len(raw), raw) for uid, raw in MAILS.items())
    sink, error = downloaded(imap({"UID FETCH": answer}, mails=MAILS), REFS)
    assert error is None
    assert sink.mails == MAILS


@pytest.mark.promise("H4")
def test_a_mail_that_is_refused_as_searches_are_is_no_vanished_one() -> None:
    """It would never be told of, and looked for in each run."""

    def refuse(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(tag + b" NO [SERVERBUG] index is damaged\r\n")

    script = imap(alone({2: refusing(b"damaged")}, {"UID SEARCH": refuse}), mails=MAILS)
    sink, error = downloaded(script, REFS)
    assert error is None
    assert set(sink.mails) == {1, 3, 4, 5}
    assert sink.abandoned[2].code == "mail-refused"


@pytest.mark.promise("I5")
@pytest.mark.parametrize(
    "refused",
    [{1: b"damaged", 2: b"has a virus", 3: b"is being moved"}, {1: b"damaged", 3: b"damaged"}],
    ids=["each with its reason", "with another one in between"],
)
def test_several_bad_mails_stop_no_other(refused: dict[int, bytes]) -> None:
    script = imap(alone({uid: refusing(words) for uid, words in refused.items()}), mails=MAILS)
    sink, error = downloaded(script, REFS)
    assert error is None
    assert sink.mails == {uid: raw for uid, raw in MAILS.items() if uid not in refused}
    assert {reason.code for reason in sink.abandoned.values()} == {"mail-refused"}


@pytest.mark.promise("M27")
def test_a_server_that_refuses_each_mail_by_its_number_is_not_asked_for_everything() -> None:
    """The words are the same but for the number: it is the server, and no mail."""
    numbered = {uid: refusing(b"message %d cannot be opened" % uid) for uid in MAILS}
    sink, error = downloaded(imap(alone(numbered), mails=MAILS), REFS)
    assert error is None
    codes = [reason.code for reason in sink.abandoned.values()]
    assert codes == ["mail-refused"] * 2 + ["mail-not-asked"] * 3


@pytest.mark.promise("M27")
def test_what_is_not_asked_for_any_more_is_told_apart_from_what_was_refused() -> None:
    """More commands than are under way at once, and a server that throttles from the first on."""
    refs = [MailRef(uid, 3 << 20) for uid in range(1, 13)]

    def throttle(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(tag + b" NO [LIMIT] enough for today\r\n")

    sink, error = downloaded(imap({"UID FETCH": throttle}), refs, limit=1 << 30)
    assert error is None
    assert set(sink.abandoned) == {ref.key for ref in refs}
    refused = [one for one in sink.abandoned.values() if isinstance(one, MailRefused)]
    assert len(refused) == 1
    assert [one.code for one in sink.abandoned.values()].count("mail-not-asked") == 11


@pytest.mark.promise("I6")
def test_news_before_a_literal_are_not_listened_to_for_ever() -> None:
    def login(talk: Conversation, tag: bytes, rest: bytes) -> None:
        while not talk._stopping.is_set():
            talk.send(b"* 3 EXISTS\r\n" * 500)

    with ScriptedServer(imap({"LOGIN": login}, capability=b"IMAP4rev1")) as server:
        assert failure(server.port, password="kennwört").code == "protocol-error"
