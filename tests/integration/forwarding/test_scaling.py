"""What KEDA asks to know how many forwarders there should be."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.deploy.manifests import of_kind
from tests.rig.stack import Stack
from tests.servers.redis import RedisServer


@pytest.mark.parametrize("overlay", ["production", "production-redis"])
def test_keda_counts_what_waits_for_the_forwarders(
    overlay: str, build_stack: Callable[..., Stack], redis_server: RedisServer
) -> None:
    """With the account that it is given: of handlers that are forwarded and not paused."""
    (trigger,) = [
        trigger
        for scaled in of_kind(overlay, "ScaledObject")
        for trigger in scaled["spec"]["triggers"]
        if trigger["type"] == "postgresql"
    ]
    stack = build_stack(redis_server.url)
    for name, backlog, is_forwarded in (("a", 7, True), ("b", 30, False), ("c", 500, True)):
        handler = stack.add_handler(name)
        stack.query(
            "INSERT INTO handler_queue (handler_id, backlog) VALUES (%s, %s) RETURNING 1",
            handler,
            backlog,
        )
        if is_forwarded:
            stack.forward(handler, "https://example.com/hook")
    stack.execute(
        "UPDATE forward SET paused_at = now() FROM handler h "
        "WHERE h.id = handler_id AND h.name = 'c'"
    )
    with psycopg.connect(stack.url_of("forwarder")) as session:
        assert session.execute(trigger["metadata"]["query"]).fetchall() == [(7,)]
