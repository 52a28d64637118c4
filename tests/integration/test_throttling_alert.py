"""Servers that ask to come back later, over any protocol: the metric, and the rule of Prometheus.

Graph's is in test_what_is_told.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.rig import alert_rules
from tests.rig.administrator_view import Telling
from tests.rig.mails import mail
from tests.rig.stack import Stack
from tests.servers.pop3_rules import RuledPop3
from tests.servers.scripted import Conversation, ScriptedServer, imap

pytestmark = pytest.mark.promise("M27", "H4")

GMAIL = b"[OVERQUOTA] Account exceeded command or bandwidth limits."
EXCHANGE = b"[SYS/TEMP] Request is throttled. Suggested Backoff Time: 299910 milliseconds"


def puts_off(talk: Conversation, tag: bytes, rest: bytes) -> None:
    talk.send(tag + b" NO " + GMAIL + b"\r\n")


def throttled(telling: Telling, mode: str) -> float | None:
    return telling.metric("scheduler", f'posthouse_connections_throttled{{mode="{mode}"}}')


def test_a_provider_that_throttles_over_imap_or_pop3_raises_the_alert(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    stack = build_stack(redis_url)
    stack.add_handler()
    with (
        ScriptedServer(imap({"UID FETCH": puts_off})) as gmail,
        RuledPop3(refuse=lambda *_: EXCHANGE) as exchange,
        Telling(stack, ("scheduler", "fetcher")) as telling,
    ):
        exchange.deliver("alice", [mail(1, 600, seed=63)])
        for user in ("a", "b", "c", "d", "e"):
            stack.add_plain_connection(gmail.port, username=user, name=user, mode="imap")
        stack.add_plain_connection(exchange.pop3_port, name="exchange", mode="pop3")
        asked = "SELECT count(*) FROM connection_state WHERE health = 'failing'"
        stack.wait(lambda: stack.query(asked) == [(6,)], "all are failing")
        assert throttled(telling, "imap") == 5
        assert throttled(telling, "pop3") == 1
        assert telling.fires("PosthouseThrottled", "scheduler")
        # One mailbox that is over a limit of its own is told by webhook, as any that fails.
        few = ('throttled{mode="imap"} 5', 'throttled{mode="imap"} 1')
        alone = telling.metrics("scheduler").replace(*few)
        assert not alert_rules.fires("PosthouseThrottled", alone, stack.folder)
        stack.stop()
