"""A note that Exchange writes in place of a mail is no mail: the original stays, also with delete.

For an administrator: quarantine page, `mail-quarantined` alert,
`posthouse_quarantined_total{code="server-note"}`, with what can be done in the reason.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.rig.mails import digests
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.scripted import MAILS, ScriptedServer, imap, pop3
from tests.unit.test_unconverted_mails import NOTE


@pytest.mark.promise("H4", "M7")
@pytest.mark.parametrize("mode", ["imap", "pop3"])
def test_a_note_is_quarantined_and_its_original_never_deleted(
    mode: str, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    mails = {**MAILS, 2: NOTE}
    quoting = b"Message-ID: <1@x>\r\nFrom: bob@example.org\r\nSubject: look\r\n\r\n" + NOTE
    mails[4] = quoting
    script = imap(mails=mails) if mode == "imap" else pop3(mails=mails)
    stack = build_stack(redis_url)
    stack.add_handler()
    with ScriptedServer(script) as server:
        stack.start("scheduler", "fetcher", "decryptor")
        connection = stack.add_plain_connection(
            server.port, name="exchange", mode=mode, after_download="delete"
        )
        stack.wait_settled(3)
        stack.run_once(connection)
        stack.stop()
    ((code, reason),) = stack.query("SELECT code, reason FROM quarantine")
    assert code == "server-note"
    assert "Outlook" in reason
    assert stack.query("SELECT data ->> 'code' FROM alert") == [("server-note",)]
    events = open_queue(redis_url, "archive").events()
    assert sorted(e["data"]["sha256"] for e in events) == digests([MAILS[1], MAILS[3], quoting])
    if mode == "imap":
        removed = b" ".join(line for line in server.heard if b"EXPUNGE" in line)
        assert b"EXPUNGE 1,3:4" in removed
    else:
        # Again in the second run: this server lists them as if nothing had been deleted.
        deleted = {line for line in server.heard if line.startswith(b"DELE")}
        assert deleted == {b"DELE 1", b"DELE 3", b"DELE 4"}
