"""IMAP servers that break off, lie, or speak nonsense: bounded, told apart, and never believed.

For an administrator: as in test_breaking_mails.py and test_throttled_downloads.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import pytest

from shared.errors import PosthouseError
from shared.mailbox.base import MailRef
from shared.mailbox.errors.refused_mails import MailRefused
from shared.mailbox.failures import SessionLost
from tests.contract.recorders import Collector
from tests.integration.mail_sessions import connection_to, opened
from tests.servers.scripted import (
    MAILS,
    Answer,
    Conversation,
    Script,
    ScriptedServer,
    body_response,
    imap,
)

REFS = [MailRef(uid, len(raw)) for uid, raw in MAILS.items()]


def downloaded(
    script: Script, refs: list[MailRef] = REFS, *, limit: int = 1 << 20, timeout_s: float = 5
) -> tuple[Collector, PosthouseError | None]:
    """What a download got, and how it ended."""
    sink = Collector()
    with (
        ScriptedServer(script) as server,
        opened(connection_to(server.port), read_timeout_s=timeout_s) as mailbox,
    ):
        mailbox.open("")
        try:
            mailbox.download(refs, sink, limit=limit)
        except PosthouseError as error:
            return sink, error
    return sink, None


def bodies(*octets: bytes) -> dict[str, Answer]:
    return {"UID FETCH": b"".join(octets)}


def test_the_scripted_server_itself() -> None:
    sink, error = downloaded(imap())
    assert error is None
    assert sink.mails == MAILS


ODD_BUT_FINE: Mapping[str, bytes] = {
    "other order": b"".join(body_response(uid, MAILS[uid]) for uid in (3, 1, 2)),
    "uid behind the body": b"".join(
        b"* %d FETCH (BODY[] {%d}\r\n%s UID %d)\r\n" % (uid, len(raw), raw, uid)
        for uid, raw in MAILS.items()
    ),
    "more items": b"".join(
        b'* %d FETCH (FLAGS (\\Seen "odd" (nested)) UID %d X-GM-LABELS ({3}\r\nabc "x") '
        b"MODSEQ (12) BODY[] {%d}\r\n%s INTERNALDATE {26}\r\n22-Nov-2026 10:00:00 +0000)\r\n"
        % (uid, uid, len(raw), raw)
        for uid, raw in MAILS.items()
    ),
    "quoted strings": b"".join(
        b'* %d FETCH (UID %d BODY[] "%s")\r\n' % (uid, uid, b"Subject: x") for uid in MAILS
    ),
    "lower case and spaces": b"".join(
        b"* %d fetch ( uid %d  rfc822 {%d}\r\n%s )\r\n" % (uid, uid, len(raw), raw)
        for uid, raw in MAILS.items()
    ),
    "news in between": b"* 9 EXISTS\r\n* 2 RECENT\r\n"
    + body_response(1, MAILS[1])
    + b"* 1 FETCH (FLAGS (\\Seen))\r\n* OK [ALERT] the disk {is} full {5}\r\n* VANISHED 99\r\n"
    + body_response(2, MAILS[2])
    + b"* 1 FETCH (UID 1 FLAGS (\\Seen \\Answered))\r\n* 7 EXPUNGE\r\n"
    + body_response(3, MAILS[3]),
    "one twice, one nobody asked for": body_response(1, MAILS[1])
    + body_response(1, b"another")
    + body_response(77, b"a stranger")
    + body_response(2, MAILS[2])
    + body_response(3, MAILS[3]),
}


@pytest.mark.parametrize("answer", ODD_BUT_FINE.values(), ids=ODD_BUT_FINE)
def test_unusual_answers_that_the_protocol_allows(answer: bytes) -> None:
    sink, error = downloaded(imap(bodies(answer)))
    assert error is None
    assert not sink.abandoned
    if b'"Subject: x"' in answer:
        assert sink.mails == dict.fromkeys(MAILS, b"Subject: x")
    else:
        assert sink.mails == MAILS


def test_mails_in_tiny_pieces_and_commands_finished_in_another_order() -> None:
    tags: list[bytes] = []

    def trickle(talk: Conversation, tag: bytes, rest: bytes) -> None:
        tags.append(tag)
        if len(tags) < 2:
            return
        for uid, raw in many.items():
            answer = body_response(uid, raw)
            for start in range(0, len(answer), 7):
                talk.send(answer[start : start + 7])
        for each in reversed(tags):
            talk.ok(each)

    many = {uid: b"Subject: %d\r\n\r\n" % uid + b"z" * uid for uid in range(1, 601)}
    sink, error = downloaded(
        imap({"UID FETCH": trickle}, mails=many),
        [MailRef(uid, len(raw)) for uid, raw in many.items()],
    )
    assert error is None
    assert sink.mails == many


def hang_up_after(octets: bytes) -> Callable[[Conversation, bytes, bytes], None]:
    def answer(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(octets)
        talk.hang_up()

    return answer


@pytest.mark.parametrize(
    "last_words",
    [
        b"",
        b"* 2 FET",
        b"* 2 FETCH (UID 2 BODY[] {100000}\r\n",
        b"* 2 FETCH (UID 2 BODY[] {100000}\r\nhalf a mai",
        b"* 2 FETCH (UID 2 BODY[] {4}\r\nmail",
        b"* 2 FETCH (BODY[] {4}\r\nmail UID 2",
        b"* BYE the server goes down\r\n",
    ],
)
def test_a_hang_up_in_the_middle_keeps_what_was_whole(last_words: bytes) -> None:
    first = body_response(1, MAILS[1])
    sink, error = downloaded(imap({"UID FETCH": hang_up_after(first + last_words)}))
    assert isinstance(error, SessionLost)
    assert (error.code, error.step) == ("connection-lost", "download")
    assert sink.mails[1] == MAILS[1]
    assert 3 not in sink.mails
    assert not sink.abandoned
    if b"BYE" in last_words:
        assert "goes down" in str(error)


@pytest.mark.promise("M8")
@pytest.mark.parametrize("began", [b"", b"* 1 FETCH (UID 1 BODY[] {50}\r\nhalf"])
def test_a_server_that_falls_silent_is_given_up(began: bytes) -> None:
    def silent(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(began)
        talk.say_nothing()

    sink, error = downloaded(imap({"UID FETCH": silent}), timeout_s=0.3)
    assert isinstance(error, SessionLost)
    assert (error.code, error.step) == ("read-timeout", "download")
    assert not sink.mails


@pytest.mark.promise("M8")
def test_a_server_that_trickles_is_given_up() -> None:
    """Each octet comes in time; all of them together never would."""

    def trickle(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"* 1 FETCH (UID 1 BODY[] {100000}\r\n")
        for _ in itertools.count():
            talk.send(b"x")
            talk._stopping.wait(0.02)

    _, error = downloaded(imap({"UID FETCH": trickle}), timeout_s=0.1)
    assert isinstance(error, SessionLost)
    assert error.code == "read-timeout"
    assert "slowly" in str(error)


NONSENSE: Mapping[str, bytes] = {
    "no protocol": b"hello there\r\n",
    "a tag of nobody": b"X99 OK done\r\n",
    "a literal too large for what it is": b"* LIST () {99999999}\r\n",
    "a literal of 2^63 nobody asked for": b"* 1 FETCH (UID 9 BODY[] {9223372036854775808}\r\nx",
    "an endless line": b"* " + b"A" * 3_000_000 + b"\r\n",
    "a line without an end": b"* OK " + b"x" * 3_000_000,
    "NUL": b"\0\0\0\0\r\n",
    "nothing but line ends": b"\r\n",
}


@pytest.mark.parametrize("octets", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_ends_the_session_and_is_called_so(octets: bytes) -> None:
    def answer(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(body_response(1, MAILS[1]) + octets)
        talk.say_nothing()

    sink, error = downloaded(imap({"UID FETCH": answer}))
    assert isinstance(error, SessionLost)
    assert (error.code, error.step) == ("protocol-error", "download")
    assert error.transcript
    assert sink.mails == {1: MAILS[1]}


MALFORMED: Mapping[str, bytes] = {
    "no content": b"* 2 FETCH (UID 2 BODY[] )\r\n",
    "half a list": b"* 2 FETCH (UID 2 BODY[]\r\n",
    "no list": b"* 2 FETCH (((((((((\r\n",
    "deep nesting": b"* 2 FETCH (UID 2 FLAGS " + b"(" * 100_000 + b"\r\n",
    "behind the list": b"* 2 FETCH (UID 2 FLAGS ()) more\r\n",
    "a literal in a list that is none": b"* 2 FETCH ((UID 2 BODY[] {6}\r\nsecond)\r\n",
    "no list around it": b"* 2 FETCH UID 2 BODY[] {6}\r\nsecond\r\n",
}


@pytest.mark.promise("H4", "I5")
@pytest.mark.parametrize("octets", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_answer_is_the_matter_of_its_mail_only(octets: bytes) -> None:
    def answer(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in (1, 2, 3) if rest.startswith(b"1:3") else [int(rest.split(b" ")[0])]:
            talk.send(octets if uid == 2 else body_response(uid, MAILS[uid]))
        talk.ok(tag)

    sink, error = downloaded(imap({"UID FETCH": answer}))
    assert error is None
    assert sink.mails == {1: MAILS[1], 3: MAILS[3]}
    assert sink.abandoned[2].code == "mail-refused"


def test_parentheses_too_many_behind_a_whole_mail_do_no_harm() -> None:
    answer = body_response(1, MAILS[1]) + body_response(2, MAILS[2]).replace(b")\r\n", b")))\r\n")
    sink, error = downloaded(imap(bodies(answer, body_response(3, MAILS[3]))))
    assert error is None
    assert sink.mails == MAILS


def test_endless_news_are_not_listened_to_for_ever() -> None:
    def answer(talk: Conversation, tag: bytes, rest: bytes) -> None:
        chunk = b"* OK " + b"still working on it " * 3000 + b"\r\n"
        for _ in itertools.count():
            talk.send(chunk)

    with (
        ScriptedServer(imap({"NOOP": answer, "STATUS": answer})) as server,
        opened(connection_to(server.port)) as mailbox,
        pytest.raises(SessionLost) as caught,
    ):
        mailbox.open("")
    assert caught.value.code == "protocol-error"


@pytest.mark.promise("H4")
def test_a_mail_of_a_size_that_nothing_could_hold_is_quarantined() -> None:
    """Then the session is over, as the literal cannot be read; the mail must not come up again."""

    def answer(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(body_response(1, MAILS[1]))
        talk.send(b"* 2 FETCH (UID 2 BODY[] {9223372036854775808}\r\n")
        talk.say_nothing()

    sink, error = downloaded(imap({"UID FETCH": answer}))
    assert isinstance(error, SessionLost)
    assert sink.mails == {1: MAILS[1]}
    assert [sink.abandoned[2].code] == ["too-large"]


@pytest.mark.promise("H4")
def test_sizes_that_lie() -> None:
    large = {1: b"a" * 100, 2: b"b" * 5000, 3: b"c" * 100}
    claims = [MailRef(1, 100), MailRef(2, 10), MailRef(3, 100)]
    sink, error = downloaded(imap(mails=large), claims, limit=1000)
    assert error is None
    assert sink.mails == {1: large[1], 3: large[3]}
    assert {uid: reason.code for uid, reason in sink.abandoned.items()} == {2: "too-large"}


@pytest.mark.promise("H4")
def test_a_mail_known_to_be_too_large_is_not_even_asked_for() -> None:
    sink = Collector()
    with ScriptedServer(imap()) as server:
        with opened(connection_to(server.port)) as mailbox:
            mailbox.open("")
            mailbox.download([REFS[0], MailRef(2, 10_000), REFS[2]], sink, limit=1000)
        asked = [line for line in server.heard if b"BODY" in line]
    assert [line.partition(b" ")[2] for line in asked] == [b"UID FETCH 1,3 (UID BODY.PEEK[])"]
    assert set(sink.mails) == {1, 3}
    assert sink.abandoned[2].code == "too-large"


@pytest.mark.promise("H4")
def test_one_mail_that_the_server_cannot_give_stops_no_other() -> None:
    def answer(talk: Conversation, tag: bytes, rest: bytes) -> None:
        wanted = rest.split(b" ")[0]
        if wanted == b"1:3":
            talk.send(body_response(1, MAILS[1]) + tag + b" NO internal inconsistency\r\n")
        elif wanted == b"2":
            talk.send(tag + b" NO this message is damaged\r\n")
        else:
            talk.send(body_response(3, MAILS[3]))
            talk.ok(tag)

    sink, error = downloaded(imap({"UID FETCH": answer}))
    assert error is None
    assert sink.mails == {1: MAILS[1], 3: MAILS[3]}
    assert sink.abandoned[2].code == "mail-refused"
    assert "damaged" in str(sink.abandoned[2])


@pytest.mark.promise("M27")
@pytest.mark.parametrize(
    ("words", "throttled", "delay", "asked_alone"),
    [
        (b"storage is away", False, None, 2),
        (b"[UNAVAILABLE] storage is away", False, None, 2),
        (b"[LIMIT] enough for today", True, None, 0),
        (b"[OVERQUOTA] Account exceeded command or bandwidth limits.", True, 3600, 0),
        (
            b"Request is throttled. Suggested Backoff Time: 299910 milliseconds",
            True,
            299.91,
            0,
        ),
    ],
)
def test_a_server_that_refuses_everything_is_not_asked_for_everything(
    words: bytes, throttled: bool, delay: float | None, asked_alone: int
) -> None:
    """Whose fault it is is left open, and what was left out is told apart from what was refused."""
    asked: list[bytes] = []

    def answer(talk: Conversation, tag: bytes, rest: bytes) -> None:
        asked.append(rest)
        talk.send(tag + b" NO " + words + b"\r\n")

    sink, error = downloaded(imap({"UID FETCH": answer}))
    assert error is None
    assert len(asked) == 1 + asked_alone
    refused = [reason for reason in sink.abandoned.values() if isinstance(reason, MailRefused)]
    assert len(refused) == (1 if throttled else 2)
    assert refused[0].throttled is throttled
    assert refused[0].retry_after == delay
    assert sink.abandoned[3].code == "mail-not-asked"


def test_bodies_without_a_uid_are_asked_for_alone() -> None:
    def answer(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in [1, 2, 3] if rest.startswith(b"1:3") else [int(rest.split(b" ")[0])]:
            talk.send(b"* %d FETCH (BODY[] {%d}\r\n%s)\r\n" % (uid, len(MAILS[uid]), MAILS[uid]))
        talk.ok(tag)

    sink, error = downloaded(imap({"UID FETCH": answer}))
    assert error is None
    assert sink.mails == MAILS


def test_a_mail_with_no_content_is_quarantined_and_an_empty_one_taken() -> None:
    answer = (
        body_response(1, b"")
        + b"* 2 FETCH (UID 2 BODY[] NIL)\r\n"
        + b'* 3 FETCH (UID 3 BODY[] "")\r\n'
    )
    sink, error = downloaded(imap(bodies(answer)))
    assert error is None
    assert sink.mails == {1: b"", 3: b""}
    assert sink.abandoned[2].code == "mail-refused"


@pytest.mark.promise("H4")
@pytest.mark.parametrize(
    ("listed_still", "code"), [(b" 2", "mail-refused"), (b"", "mail-vanished")]
)
def test_a_mail_that_does_not_come_is_gone_or_refused(listed_still: bytes, code: str) -> None:
    answers = bodies(body_response(1, MAILS[1]), body_response(3, MAILS[3]))
    sink, error = downloaded(imap({**answers, "UID SEARCH": b"* SEARCH" + listed_still + b"\r\n"}))
    assert error is None
    assert set(sink.mails) == {1, 3}
    assert sink.abandoned[2].code == code


class DiskFull(Exception):
    pass


def test_an_error_of_the_sink_comes_through_and_ends_the_session() -> None:
    class Broken(Collector):
        def write(self, chunk: bytes | memoryview) -> None:
            raise DiskFull

    with ScriptedServer(imap()) as server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        with pytest.raises(DiskFull):
            mailbox.download(REFS, Broken(), limit=1000)
        assert not mailbox.is_alive()
