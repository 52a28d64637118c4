"""From Graph to a handler's queue, through every service, while Graph throttles."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.graph.application import application_credential
from tests.rig.mails import digests, mixed
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.graph import GraphServer
from tests.servers.oidc import OidcServer

COUNT = 2000
ALICE = "alice@example.org"


@pytest.mark.slow
@pytest.mark.promise("M2")
@pytest.mark.promise("A3")
def test_two_thousand_mails_out_of_a_throttled_graph(
    graph_server: GraphServer,
    oidc: OidcServer,
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    """Three fetchers, application access with tokens of the authorisation server, every 100th
    request refused: each mail reaches the handler once, octet for octet (SHA-256)."""
    oidc.settings(accessTokenTTL=3600)
    mails = list(mixed(COUNT, seed=11))
    graph_server.trust(oidc.public_key)
    box = graph_server.mailbox(ALICE)
    box.deliver(mails)
    graph_server.throttle_every = 100
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.add_connection(
        password="",
        name="graph",
        mode="microsoft-graph",
        username=ALICE,
        credential_id=application_credential(stack, graph_server, oidc),
    )
    stack.start("scheduler", "fetcher", "fetcher", "fetcher", "decryptor")
    stack.wait_settled(COUNT, seconds=240)
    stack.stop()
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(mails)
    assert len({event["id"] for event in events}) == COUNT
    assert [item for item in box.in_folder(box.inbox) if not item.read] == []
    assert graph_server.throttled >= 20
    assert graph_server.peak <= graph_server.at_once


@pytest.mark.promise("F4")
def test_the_event_tells_the_conversation_and_the_categories(
    graph_server: GraphServer, oidc: OidcServer, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """NUL and half of a surrogate pair, which no database takes, lose no mail."""
    graph_server.trust(oidc.public_key)
    box = graph_server.mailbox("carol@example.org")
    labels = {"conversationId": "AAQk=", "categories": ["Red", "B\0ücher", "half \ud83d"]}
    box.deliver([b"Subject: one\r\nMessage-ID: <a@x>\r\n\r\nx\r\n"], properties=labels)
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.add_connection(
        password="",
        name="graph",
        mode="microsoft-graph",
        username="carol@example.org",
        credential_id=application_credential(stack, graph_server, oidc),
    )
    stack.start("scheduler", "fetcher", "decryptor")
    stack.wait_settled(1)
    stack.stop()
    (event,) = open_queue(redis_url, "archive").events()
    assert event["data"]["mail"]["thread"] == "AAQk="
    assert event["data"]["mail"]["labels"] == ["Red", "Bücher", "half ?"]


@pytest.mark.promise("M2")
def test_two_folders_of_a_mailbox_and_the_fetcher_of_one_is_killed(
    graph_server: GraphServer, oidc: OidcServer, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """Small batches, so that downloads and settling meet: never more requests at once than the
    mailbox takes, also when the permits of the dead fetcher are given on."""
    graph_server.trust(oidc.public_key)
    graph_server.delay = 0.02
    box = graph_server.mailbox(ALICE)
    box.create("Archive")
    mails = list(mixed(80, seed=12))
    box.deliver(mails[:40])
    box.deliver(mails[40:], "Archive")
    stack = build_stack(redis_url)
    stack.add_handler()
    credential = application_credential(stack, graph_server, oidc)
    settings = {"batch_mails": "5", "lease_seconds": "5"}
    fetchers = stack.start("fetcher", "fetcher", settings=settings)
    stack.start("scheduler", "decryptor", settings=settings)
    for name, folder in (("inbox", ""), ("archive", "Archive")):
        stack.add_connection(
            password="",
            name=name,
            folder=folder,
            mode="microsoft-graph",
            username=ALICE,
            credential_id=credential,
        )
        stack.wait(lambda: stack.count("message") >= 5, "the first mails are there")
    ((owner,),) = stack.query(
        "SELECT owner FROM lease WHERE until > now() ORDER BY mailbox LIMIT 1"
    )
    working = {str(child.pid): child for child in fetchers}
    stack.kill(working[owner.split("/")[1]])
    held = "SELECT FROM lease WHERE until > now() AND owner = %s"
    stack.wait(lambda: stack.query(held, owner) == [], "its folders may be fetched by others")
    stack.hurry()
    stack.wait_settled(80)
    stack.stop()
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(mails)
    assert [item for item in box.items.values() if not item.read] == []
    assert graph_server.peak <= graph_server.at_once  # a batch runs four at a time
    assert graph_server.throttled == 0
