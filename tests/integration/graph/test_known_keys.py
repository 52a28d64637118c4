"""What is known of a mailbox at Graph does not grow with its traffic: old keys are forgotten."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from services.fetcher import run_phases
from shared.storage import connections
from tests.integration.graph.application import application_connection
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.stack import Stack
from tests.servers.graph import GraphServer
from tests.servers.oidc import OidcServer

LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)
ERIN = "erin@example.org"
OLD = [mail(number, 600, seed=92) for number in range(3)]
NEW = [mail(number, 600, seed=93) for number in range(2)]


@pytest.mark.promise("I9")
@pytest.mark.parametrize(
    ("selection", "after_download"), [("unread", "delete"), ("all", "delete"), ("all", "mark-read")]
)
def test_keys_of_mails_that_are_gone_are_forgotten_in_time(
    selection: str,
    after_download: str,
    graph_server: GraphServer,
    oidc: OidcServer,
    redis_url: str,
    build_stack: Callable[..., Stack],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_phases, "_FORGET_BEYOND", 0)
    graph_server.trust(oidc.public_key)
    box = graph_server.mailbox(ERIN)
    box.deliver(OLD)
    stack = build_stack(redis_url)
    stack.add_handler()
    connection = application_connection(
        stack, graph_server, oidc, ERIN, selection=selection, after_download=after_download
    )
    with FetcherHere(stack).working() as here:
        here.run_until_idle(connection)
        box.items.clear()  # as somebody does who tidies up
        for day in range(2):
            stack.execute("UPDATE connection_state SET pruned_at = now() - interval '25 hours'")
            stack.execute("UPDATE known_key SET vanished_on = vanished_on - 40")
            box.deliver(NEW[day : day + 1])
            here.run_until_idle(connection)
        keys = stack.count("known_key")
        ((pruned,),) = stack.query(
            "SELECT pruned_at > now() - interval '1 h' FROM connection_state"
        )
    assert stack.count("message") == len([*OLD, *NEW])
    assert keys == (1 if after_download == "delete" else len(NEW))
    assert pruned


@pytest.mark.promise("M9")
def test_a_mail_that_graph_never_told_of_comes_within_a_day(
    graph_server: GraphServer,
    oidc: OidcServer,
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    """Moved out of the folder and back between two polls, it is told as removed, or not at all
    (microsoft-graph-docs #21752)."""
    graph_server.trust(oidc.public_key)
    box = graph_server.mailbox(ERIN)
    box.deliver(OLD)
    stack = build_stack(redis_url)
    stack.add_handler()
    connection = application_connection(stack, graph_server, oidc, ERIN, selection="all")
    with FetcherHere(stack).working() as here:
        here.run_until_idle(connection)
        told = len(box.log)
        box.deliver(NEW[:1])
        del box.log[told:]
        here.run(connection)
        assert stack.count("message") == len(OLD)
        stack.execute("UPDATE connection_state SET pruned_at = now() - interval '25 hours'")
        here.run(connection)
        assert here.had() == digests([*OLD, NEW[0]])


@pytest.mark.promise("I9")
def test_keys_are_forgotten_where_only_mails_of_a_date_on_are_listed(
    graph_server: GraphServer,
    oidc: OidcServer,
    redis_url: str,
    build_stack: Callable[..., Stack],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such a list is none of the whole folder."""
    monkeypatch.setattr(run_phases, "_FORGET_BEYOND", 0)
    graph_server.trust(oidc.public_key)
    box = graph_server.mailbox(ERIN)
    box.deliver(OLD)
    stack = build_stack(redis_url)
    stack.add_handler()
    connection = application_connection(stack, graph_server, oidc, ERIN, selection="all")
    with stack.database.transaction() as session:
        connections.start_from(session, connection, since=LONG_AGO, skip_existing=False)
    with FetcherHere(stack).working() as here:
        here.run_until_idle(connection)
        assert here.had() == digests(OLD)
        box.items.clear()  # as somebody does who tidies up
        for _ in range(2):
            stack.execute("UPDATE connection_state SET pruned_at = now() - interval '25 hours'")
            stack.execute("UPDATE known_key SET vanished_on = vanished_on - 40")
            here.run_until_idle(connection)
    assert stack.count("known_key") == 0
