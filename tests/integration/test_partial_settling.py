"""IMAP servers that say OK and carry out a part of it: no mail counts as read, or deleted, that is
not, and all others cost one command.

For an administrator: mails that are left are tried again with each run and counted by
`posthouse_settlements_pending`; where none could be marked, the connection is failing at the step
*settle* with `not-flagged` (its page, the alert `connection-failing`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import pytest

from shared.connections import AfterDownload
from shared.mailbox.base import MailRef
from shared.mailbox.failures import Unreachable
from tests.integration.mail_sessions import connection_to, opened
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.scripted import Conversation, ScriptedServer, imap, read_set

BOX = {uid: mail(uid, 600, seed=97) for uid in (3, 5, 6, 9)}
REFS = [MailRef(uid, len(raw)) for uid, raw in BOX.items()]


def with_uid(number: int, uid: int) -> bytes:
    return b"* %d FETCH (UID %d FLAGS (\\Seen))\r\n" % (number, uid)


def in_other_order(number: int, uid: int) -> bytes:
    return b"* %d FETCH (FLAGS (\\Answered \\seen) MODSEQ (77) UID %d)\r\n" % (number, uid)


def without_uid(number: int, uid: int) -> bytes:
    return b"* %d FETCH (FLAGS (\\Seen))\r\n" % number


def nothing(number: int, uid: int) -> bytes:
    return b""


@dataclass
class Flags:
    """Sets \\Seen on those of the mails in a STORE that `sets` chooses, and says OK."""

    sets: Callable[[Collection[int]], Collection[int]] = lambda named: named
    says: Callable[[int, int], bytes] = with_uid
    code: bytes = b""
    read: set[int] = field(default_factory=set)

    def store(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        named = [uid for uid in BOX if uid in read_set(rest.split(b" ")[0], 9)]
        self.read.update(self.sets(named))
        for number, uid in enumerate(BOX, 1):
            if uid in named and b"SILENT" not in rest:
                said = self.says(number, uid)
                talk.send(said if uid in self.read else re.sub(rb"\\seen", b"", said, flags=re.I))
        talk.send(tag + b" OK " + self.code + b"done\r\n")

    def search(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        words = rest.split(b" ")
        named = read_set(words[1], 9) if words[0] == b"UID" else set(BOX)
        unread = [uid for uid in BOX if uid in named and uid not in self.read]
        found = unread if b"UNSEEN" in rest else [uid for uid in BOX if uid in named]
        talk.send(b"* SEARCH" + b"".join(b" %d" % uid for uid in found) + b"\r\n")
        talk.ok(tag)

    @property
    def server(self) -> ScriptedServer:
        return ScriptedServer(imap({"UID STORE": self.store, "UID SEARCH": self.search}, mails=BOX))


@pytest.mark.promise("M7")
@pytest.mark.parametrize("says", [with_uid, in_other_order, without_uid, nothing])
def test_a_server_that_marks_all_is_asked_once_more_only_where_it_does_not_say_so(
    says: Callable[[int, int], bytes],
) -> None:
    flags = Flags(says=says)
    with flags.server as server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        assert mailbox.settle(REFS, AfterDownload.MARK_READ) == REFS
        asked = [line for line in server.heard if b"STORE" in line or b"SEARCH" in line]
    assert len(asked) == (1 if says in (with_uid, in_other_order) else 2)


@pytest.mark.promise("M7")
@pytest.mark.parametrize("says", [with_uid, in_other_order, without_uid, nothing])
@pytest.mark.parametrize("code", [b"", b"[MODIFIED 5,9] "])
def test_what_was_not_marked_does_not_count_as_read(
    says: Callable[[int, int], bytes], code: bytes
) -> None:
    flags = Flags(sets=lambda named: [uid for uid in named if uid in (3, 6)], says=says, code=code)
    with flags.server as server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        settled = mailbox.settle(REFS, AfterDownload.MARK_READ)
        assert [ref.key for ref in settled] == [3, 6]
        with pytest.raises(Unreachable) as caught:
            mailbox.settle([REFS[1]], AfterDownload.MARK_READ)
    assert (caught.value.step, caught.value.code) == ("settle", "not-flagged")


@pytest.mark.promise("M7")
def test_what_was_not_expunged_does_not_count_as_deleted() -> None:
    box = dict(BOX)

    def expunge(talk: Conversation, tag: bytes, rest: bytes) -> None:
        box.pop(min(read_set(rest, 9) & box.keys()))
        talk.send(b"* 1 EXPUNGE\r\n")
        talk.ok(tag)

    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"* SEARCH" + b"".join(b" %d" % uid for uid in box) + b"\r\n")
        talk.ok(tag)

    script = imap({"UID EXPUNGE": expunge, "UID SEARCH": search}, live=box)
    with ScriptedServer(script) as server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        settled = mailbox.settle(REFS, AfterDownload.DELETE)
    assert [ref.key for ref in settled] == [3]


@pytest.mark.promise("M7", "M27")
@pytest.mark.parametrize("says", [with_uid, nothing])
def test_marking_goes_on_until_all_are_read(
    says: Callable[[int, int], bytes], here: FetcherHere
) -> None:
    """The server marks one mail a command."""
    flags = Flags(sets=lambda named: [uid for uid in named if uid not in flags.read][:1], says=says)
    with flags.server as server:
        here.run_until_idle(here.stack.add_plain_connection(server.port, name="part", mode="imap"))
    assert flags.read == set(BOX)
    assert here.had() == digests([*BOX.values()])
    assert here.stack.count("settlement") == 0


@pytest.mark.promise("M7", "M27")
def test_a_mail_that_is_never_marked_is_told(here: FetcherHere) -> None:
    flags = Flags(sets=lambda named: [uid for uid in named if uid != 5])
    with flags.server as server:
        connection = here.stack.add_plain_connection(server.port, name="part", mode="imap")
        for _ in range(3):
            here.run(connection)
    assert here.had() == digests([*BOX.values()])
    assert here.stack.count("settlement") == 1
    told = "SELECT health, error ->> 'step', error ->> 'code' FROM connection_state"
    assert here.stack.query(told) == [("failing", "settle", "not-flagged")]
