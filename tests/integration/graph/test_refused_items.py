"""One item that Graph refuses, with whatever words, keeps no other mail of its mailbox waiting.

For an administrator: the mail is on the quarantine page with Graph's words and stays on the server,
the alert `mail-quarantined` and `posthouse_quarantined_total` tell it, and the connection is well.
A mailbox that refuses everything is failing with Graph's words, and has no mail in quarantine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from shared.errors import TryAgain
from shared.mailbox.errors.refused_mails import MailRefused
from shared.mailbox.failures import StepFailed
from tests.contract import mailbox_kinds
from tests.contract.recorders import KnownKeys
from tests.integration.graph.application import application_credential
from tests.integration.graph.conftest import ALICE, Office
from tests.integration.graph.test_faults import DELETE, UNREAD, fetch
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import mail
from tests.rig.stack import Stack
from tests.servers.graph import GraphServer
from tests.servers.graph.mailboxes import Attachment
from tests.servers.oidc import OidcServer

MAILS = [mail(number, 500, seed=3) for number in range(10)]
STATE = "SELECT health, error ->> 'message' FROM connection_state"


@pytest.fixture
def watched(
    graph_server: GraphServer, oidc: OidcServer, redis_url: str, build_stack: Callable[..., Stack]
) -> Iterator[tuple[FetcherHere, int]]:
    """A mailbox that is emptied, four mails a batch."""
    graph_server.trust(oidc.public_key)
    graph_server.mailbox(ALICE).deliver(MAILS)
    stack = build_stack(redis_url, batch_mails="4")
    stack.add_handler()
    connection = stack.add_connection(
        password="",
        name="graph",
        mode="microsoft-graph",
        username=ALICE,
        after_download="delete",
        credential_id=application_credential(stack, graph_server, oidc),
    )
    with FetcherHere(stack).working() as here:
        yield here, connection


@pytest.mark.promise("I5", "H4", "M7")
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "ErrorAccessDenied"),
        (404, "ErrorInvalidUser"),
        (409, "ErrorCannotOpenFileAttachment"),
        (413, "ErrorMessageSizeExceeded"),
    ],
)
def test_an_item_that_is_refused_is_quarantined_alone(
    status: int, code: str, watched: tuple[FetcherHere, int], graph_server: GraphServer
) -> None:
    """403 is what its own rights say as well as those of the mailbox: others show which it is."""
    here, connection = watched
    box = graph_server.mailbox(ALICE)
    item = list(box.items.values())[2]
    item.mime, item.mime_error = None, (status, code, "Not this one.")
    here.run_until_idle(connection)
    stack = here.stack
    assert stack.count("message") == len(MAILS) - 1
    ((key, reason),) = stack.query("SELECT native_key, reason FROM quarantine")
    assert key == item.id
    assert f"{code} while downloading: Not this one" in reason
    assert [one.id for one in box.in_folder(box.inbox)] == [item.id]
    assert stack.query("SELECT count(*) FROM alert WHERE kind = 'mail-quarantined'") == [(1,)]
    assert stack.query(STATE) == [("working", None)]


@pytest.mark.promise("M27", "M19")
def test_a_mailbox_that_refuses_every_item_has_none_in_quarantine(
    watched: tuple[FetcherHere, int], graph_server: GraphServer
) -> None:
    """As where its permission to read was taken away and that to list not yet."""
    here, connection = watched
    words = "Access is denied. Check credentials and try again."
    graph_server.fail(
        "/$value", status=403, code="ErrorAccessDenied", message=words, times=1_000_000
    )
    here.run_until_idle(connection)
    stack, box = here.stack, graph_server.mailbox(ALICE)
    assert stack.count("quarantine") == stack.count("message") == 0
    ((health, message),) = stack.query(STATE)
    assert health == "failing"
    assert words in message
    assert len(box.in_folder(box.inbox)) == len(MAILS)
    graph_server.faults.clear()
    here.run_until_idle(connection)
    assert stack.count("message") == len(MAILS)
    assert stack.query(STATE) == [("working", None)]


@pytest.mark.promise("I1", "M7")
@pytest.mark.parametrize("kind", ["fileAttachment", "itemAttachment"])
def test_a_mail_of_properties_without_all_its_files_is_none(office: Office, kind: str) -> None:
    """It was handed on without the file that Graph refuses, and its original deleted."""
    files = [Attachment("offer.pdf", b"%PDF", kind=kind)]
    (item,) = office.box.deliver([None], properties={"subject": "Offer"}, attachments=files)
    office.box.deliver([mailbox_kinds.mail("other")])
    office.server.fail(
        f"{item.id}/attachments/", status=404, code="ErrorItemNotFound", times=1_000_000
    )
    sink = fetch(office.open(), KnownKeys(), DELETE)
    assert isinstance(sink.abandoned[item.id], MailRefused)
    assert "ErrorItemNotFound" in str(sink.abandoned[item.id])
    assert [one.id for one in office.box.in_folder(office.box.inbox)] == [item.id]


@pytest.mark.promise("I5", "I9")
def test_a_header_that_is_refused_is_left_out_where_others_are_given(office: Office) -> None:
    """Where none is, nothing is known of any mail: who compares would take all for new ones."""
    items = office.box.deliver([mailbox_kinds.mail("one"), mailbox_kinds.mail("two")])
    mailbox = office.open()
    mailbox.open("")
    refs = mailbox.list_new(KnownKeys(), UNREAD).new
    denied = {"status": 403, "code": "ErrorAccessDenied", "message": "Denied.", "times": 1000}
    office.server.fail(f"{items[0].id}/$value", **denied)
    assert [ref.key for ref, _ in mailbox.headers(refs)] == [items[1].id]
    office.server.fail("/$value", **denied)
    with pytest.raises(StepFailed, match="Denied") as refused:
        list(mailbox.headers(refs))
    assert not isinstance(refused.value, TryAgain)
