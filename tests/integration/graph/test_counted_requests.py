"""Whoever talks to Graph counts: the services themselves, for the mailbox and the application."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.graph.application import application_connection
from tests.rig.administrator_view import Telling
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.stack import Stack
from tests.servers.graph import GraphServer
from tests.servers.oidc import OidcServer

ERIN = "erin@example.org"
MAILS = [mail(number, 600, seed=91) for number in range(2)]


def fetches(stack: Stack, connection: int) -> None:
    here = FetcherHere(stack)
    with here.working():
        here.run(connection)
    assert here.had() == digests(MAILS)


def is_tested_by_an_administrator(stack: Stack, connection: int) -> None:
    with Telling(stack, ()) as telling:
        telling.log_in()
        assert ERIN in telling.tested(connection)


@pytest.mark.promise("M2")
@pytest.mark.parametrize("who", [fetches, is_tested_by_an_administrator])
def test_requests_of_a_service_count_for_the_mailbox_and_the_application(
    who: Callable[[Stack, int], None],
    graph_server: GraphServer,
    oidc: OidcServer,
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    graph_server.trust(oidc.public_key)
    graph_server.mailbox(ERIN).deliver(MAILS)
    stack = build_stack(redis_url)
    stack.add_handler()
    connection = application_connection(stack, graph_server, oidc, ERIN)
    who(stack, connection)
    counted = {budget for (budget,) in stack.query("SELECT budget FROM request_budget")}
    assert counted == {f"mailbox {ERIN}", f"application {oidc.client_id}"}
