"""Application access to the test Graph, with tokens of the test session's authorisation server."""

from __future__ import annotations

from typing import Any

from shared.credentials import Credential, Grant, Provider
from shared.storage import credentials
from shared.vault import client_secret_path
from tests.rig.stack import Stack
from tests.servers.graph import GraphServer
from tests.servers.oidc import OidcServer


def application_credential(stack: Stack, graph: GraphServer, oidc: OidcServer) -> int:
    """A credential in Posthouse that opens every mailbox of `graph`; its id."""
    credential = Credential(
        name="application",
        provider=Provider.MICROSOFT,
        grant=Grant.CLIENT_CREDENTIALS,
        client_id=oidc.client_id,
        has_client_secret=True,
        settings={
            "authority": oidc.issuer,
            "ca_certificate": oidc.ca,
            "graph_host": f"localhost:{graph.port}",
        },
    )
    with stack.database.transaction() as session:
        number = credentials.insert(session, credential)
        sealed = stack.vault.seal(oidc.client_secret.encode(), client_secret_path(number))
        credentials.write_client_secret(session, number, sealed)
    return number


def application_connection(
    stack: Stack, graph: GraphServer, oidc: OidcServer, user: str, **fields: Any
) -> int:
    """An enabled connection to the mailbox of `user`, read by such a credential; its id."""
    return stack.add_connection(
        password="",
        name="graph",
        mode="microsoft-graph",
        username=user,
        credential_id=application_credential(stack, graph, oidc),
        **fields,
    )
