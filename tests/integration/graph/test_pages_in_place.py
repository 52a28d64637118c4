"""What comes in place of a mail (a page, JSON, nothing) is not taken for it; nothing is deleted."""

from __future__ import annotations

import pytest

from shared.errors import TryAgain
from shared.mailbox.errors.refused_mails import MailRefused
from tests.contract.mailbox_kinds import mail
from tests.contract.recorders import KnownKeys
from tests.integration.graph.conftest import Office
from tests.integration.graph.test_faults import DELETE, fetch, subjects

PAGE = b"<!DOCTYPE html>\n<html><body>Log in to this network</body></html>"


@pytest.mark.promise("M2")
@pytest.mark.parametrize("part", ["/$value", "/messages", "/mailFolders"])
@pytest.mark.parametrize("status", [200, 302, 307])
def test_a_page_is_no_mail_and_nothing_is_deleted(office: Office, part: str, status: int) -> None:
    """Who took it for the mail would hand it over and delete the mail."""
    office.box.deliver([mail("one"), mail("two")])
    office.server.fail(part, status=status, content=PAGE, times=1000)
    with pytest.raises(TryAgain) as gone:
        fetch(office.open(), KnownKeys(), DELETE)
    assert gone.value.code == "not-the-provider"
    assert len(office.box.items) == 2
    office.server.faults.clear()
    assert subjects(fetch(office.open(), KnownKeys(), DELETE)) == ["one", "two"]


@pytest.mark.promise("M7", "H4")
@pytest.mark.parametrize("answer", [b"", b'{"error": {"code": "Unavailable"}}', b"\r\n {}"])
def test_an_empty_answer_is_no_mail_and_nothing_is_deleted(office: Office, answer: bytes) -> None:
    """Nor is an error, or an object, of something on the way that says all went well."""
    office.box.deliver([mail("one"), mail("two")])
    ids, inbox = list(office.box.items), {item.folder for item in office.box.items.values()}
    office.server.fail(f"{ids[0]}/$value", status=200, content=answer, times=1000)
    sink = fetch(office.open(), KnownKeys(), DELETE)
    assert subjects(sink) == ["two"]
    assert isinstance(sink.abandoned[ids[0]], MailRefused)
    assert [office.box.items[one].folder in inbox for one in ids] == [True, False]
