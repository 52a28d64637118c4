"""IMAP folders with more mails than are looked at together.

For an administrator: with `unread` mails come. What needs a look at all of them leaves the
connection failing with `folder-too-large`, whose hint says what to choose.
"""

from __future__ import annotations

import pytest

from shared.connections import Selection
from shared.mailbox.base import MOST_LOOKED_AT, NothingKnown
from shared.mailbox.failures import Refused
from tests.integration.mail_sessions import connection_to, opened
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.scripted import CAPABILITY, Conversation, Script, ScriptedServer, imap

pytestmark = pytest.mark.promise("H4", "I5")

TOTAL = MOST_LOOKED_AT + 500_000
MAILS = {TOTAL + number: mail(number, 600, seed=67) for number in range(4)}


def vast(live: dict[int, bytes], capability: bytes) -> Script:
    """A folder with so many read mails before those that are `live`, and unread."""

    def status(talk: Conversation, tag: bytes, rest: bytes) -> None:
        counts = (TOTAL + len(live), max(live) + 1, len(live))
        answer = b"* STATUS INBOX (MESSAGES %d UIDNEXT %d UIDVALIDITY 7 UNSEEN %d)\r\n"
        talk.send(answer % counts)
        talk.ok(tag)

    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        everything = b"UNSEEN" not in rest
        asked = rest.partition(b") ")[2] if rest.startswith(b"RETURN") else rest
        first = int(asked[4:].partition(b":")[0]) if asked.startswith(b"UID ") else 1
        found = [uid for uid in live if uid >= first]
        uids = b",".join(b"%d" % uid for uid in found)
        if everything and first == 1:
            uids = b"1:%d" % max(live)
        if rest.startswith(b"RETURN"):
            said = b" ALL " + uids if uids else b""
            talk.send(b'* ESEARCH (TAG "%s") UID%s\r\n' % (tag, said))
        else:
            talk.send(b"* SEARCH %s\r\n" % uids.replace(b",", b" "))
        talk.ok(tag)

    return imap({"STATUS": status, "UID SEARCH": search}, live=live, capability=capability)


@pytest.mark.parametrize("capability", [CAPABILITY, CAPABILITY + b" ESEARCH"])
def test_new_mails_come_day_after_day(capability: bytes, here: FetcherHere) -> None:
    live = dict(list(MAILS.items())[:2])
    with ScriptedServer(vast(live, capability)) as server:
        connection = here.stack.add_connection(
            name="vast",
            mode="imap",
            host=server.host,
            port=server.port,
            security="none",
            username="alice",
            after_download="mark-read",
        )
        here.run(connection)
        for uid in list(MAILS)[2:]:
            here.stack.execute("UPDATE connection_state SET pruned_at = now() - interval '2 days'")
            live[uid] = MAILS[uid]
            here.run(connection)
            asked = "SELECT health, pruned_at > now() - interval '1 day' FROM connection_state"
            assert here.stack.query(asked) == [("working", True)]
    assert here.had() == digests([*MAILS.values()])


def test_what_needs_a_look_at_all_mails_says_what_to_choose() -> None:
    with (
        ScriptedServer(vast(dict(MAILS), CAPABILITY)) as server,
        opened(connection_to(server.port)) as mailbox,
    ):
        mailbox.open("")
        with pytest.raises(Refused, match="1,500,004 mails") as listed:
            mailbox.list_new(NothingKnown(), Selection.ALL)
        with pytest.raises(Refused) as named:
            mailbox.keys()
        assert listed.value.code == named.value.code == "folder-too-large"
        assert "unread" in listed.value.hint
        found = mailbox.list_new(NothingKnown(), Selection.UNREAD, count_known=True)
        assert [ref.key for ref in found.new] == list(MAILS)
