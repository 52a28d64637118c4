"""What Microsoft documents of Graph, said to runs: the verdict, the delay, and no quarantine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.connections import Connection, Mode
from shared.credentials import Credential
from shared.mailbox.base import Mailbox
from shared.mailbox.graph.http import GraphHttp
from shared.mailbox.graph.mailbox import GraphMailbox
from shared.mailbox.net.request_limits import ProcessLimiter
from shared.mailbox.net.transcript import Transcript
from tests.integration.oauth.conftest import ALICE, Share, Stack
from tests.integration.oauth.test_vendors_words import Office, faults, of, open_office
from tests.servers.graph import GraphServer
from tests.servers.oidc import OidcServer


class Unhurried(ProcessLimiter):
    """Lets Retry-After pass without anybody waiting for it."""

    def pause(self, mailbox: str, seconds: float) -> None:
        pass


@pytest.fixture
def graph_office(
    database_url: str, redis_url: str, tmp_path: Path, oidc: OidcServer, graph_server: GraphServer
) -> Iterator[Office]:
    graph_server.trust(oidc.public_key)

    def opener(stack: Stack) -> Callable[[Connection], Mailbox]:
        def opened(connection: Connection) -> Mailbox:
            login = stack.logins.of(connection)
            assert login.access_token is not None and login.endpoint is not None
            graph = GraphHttp(
                login.endpoint,
                connection.mailbox,
                login.access_token,
                limiter=Unhurried(),
                transcript=Transcript(),
                ca_certificate=login.ca_certificate or "",
                wait=lambda _: None,
            )
            mailbox = GraphMailbox(graph, connection)
            mailbox.log_in()
            return mailbox

        return opened

    yield from open_office(database_url, redis_url, tmp_path, oidc, opener)


def graph_connection(office: Office, graph: GraphServer, **changes: Any) -> Connection:
    credential: Credential = office.stack.credential(
        settings={"graph_host": f"localhost:{graph.port}"}
    )
    values: dict[str, Any] = {
        "name": "graph",
        "mode": Mode.MICROSOFT_GRAPH,
        "username": ALICE,
        "credential_id": credential.id,
    }
    connection = office.connect(Connection(**(values | changes)))
    office.stack.authorise(connection)
    return connection


@pytest.mark.promise("A5", "M2", "M27")
@pytest.mark.parametrize("selection", ["unread", "all"])
def test_words_of_graph(
    graph_office: Office, graph_server: GraphServer, selection: str, share: Share
) -> None:
    office, box = graph_office, graph_server.mailbox(ALICE)
    connection = graph_connection(office, graph_server, selection=selection)
    wrong: list[str] = []
    places = {
        "any": "/messages",
        "stored deltaLink": "/delta",
        "nextLink of the first round": "/delta",
        "$value": "/$value",
    }
    for number, line in enumerate(share(of("graph"))):
        if line.answers not in places or ("Link" in line.answers and selection == "unread"):
            continue
        before = office.run(connection)
        assert before.health == "working", f"before {line}: {before}"
        box.deliver([b"Subject: %d %d\r\n\r\ntext\r\n" % (number, n) for n in (1, 2)])
        status, asked, kind, body = line.http
        error = line.json.get("error", {})
        graph_server.fail(
            places[line.answers],
            status=status,
            code=error.get("code", ""),
            message=error.get("message", ""),
            retry_after=asked,
            content=body.encode() if kind == "text/html" or not body else None,
            times=1 if line.expected in ("begin anew once", "this mail only") else 999,
        )
        ill = office.run(connection)
        graph_server.faults.clear()
        after = office.run(connection)
        if line.expected in ("begin anew once", "this mail only"):
            if ill.health != "working":
                wrong.append(f"{line}: {ill}")
        else:
            wrong += faults(line, ill, before)
        if (after.health, after.mails - before.mails) != ("working", 2):
            wrong.append(f"{line}: afterwards {after.mails - before.mails} mails, {after}")
    assert not wrong, "\n".join(wrong)
