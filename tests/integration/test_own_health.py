"""Nothing stays green that is not well: connections, services and what they need.

For an administrator: the overview shows both; connections without a run that succeeded are the
alert `connections-overdue` and `posthouse_connections_overdue` (PosthouseConnectionsOverdue), a
service that fails or is gone is `service-failing` and `posthouse_service_failing`
(PosthouseServiceFailing).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import redis

from tests.rig.administrator_view import listen, told
from tests.rig.mails import mail
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.processes import free_port
from tests.servers.redis import RedisServer
from tests.servers.webhooks import Receiver

pytestmark = pytest.mark.promise("T3", "M19")

TOKEN = "a-token-of-more-than-20-characters"


@pytest.fixture
def locked_redis() -> Iterator[RedisServer]:
    with RedisServer(password="right") as server:
        yield server


@contextmanager
def without_memory(server: RedisServer) -> Iterator[None]:
    """It answers, and takes nothing."""
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "1")
        yield
        client.config_set("maxmemory", "0")


def get(port: int, path: str) -> Any:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.get(f"http://127.0.0.1:{port}{path}", headers=headers, timeout=20)


def post(port: int, path: str, **body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.post(f"http://127.0.0.1:{port}{path}", headers=headers, json=body, timeout=20)


def overview(stack: Stack, port: int) -> Any:
    """As the API and the command show it, once it answers."""

    def answers() -> bool:
        try:
            return bool(get(port, "/login").is_success)
        except httpx.TransportError:
            return False

    stack.wait(answers, "the API answers")
    return get(port, "/api/v1/overview").json()


def two_intervals_pass(stack: Stack) -> None:
    stack.query(
        "UPDATE connection_state SET last_success_at = last_success_at - interval '2 minutes',"
        " awaited_since = awaited_since - interval '2 minutes' RETURNING connection_id"
    )


def test_without_a_fetcher_connections_are_overdue_everywhere(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    receiver: Receiver,
) -> None:
    port, health = free_port(), free_port()
    stack = build_stack(redis_url, port=str(port), admin_token=TOKEN)
    listen(stack, receiver)
    stack.add_handler()
    stack.start("admin")
    stack.start("scheduler", settings={"health_port": str(health)})
    (fetcher,) = stack.start("fetcher")
    connection = stack.watch(dovecot, mail_user)
    stack.run_once(connection)
    assert overview(stack, port)["connections"] == {"working": 1}

    stack.kill(fetcher)
    two_intervals_pass(stack)
    # Claimed by the scheduler again and again, and run by nobody.
    assert get(port, f"/api/v1/connections/{connection}").json()["health"] == "overdue"
    shown = overview(stack, port)
    assert shown["connections"] == {"overdue": 1}
    assert [one["health"] for one in shown["unhealthy"]] == ["overdue"]
    data = told_after(stack, receiver, "connections-overdue")
    assert mail_user in data["summary"] and data["url"].endswith("/connections?health=overdue")
    stack.wait(
        lambda: "posthouse_connections_overdue 1.0" in get(health, "/metrics").text, "the metric"
    )

    stack.start("fetcher")
    stack.fetch_now(connection)
    told(stack, receiver, "connections-on-time")
    assert overview(stack, port)["connections"] == {"working": 1}


def told_after(stack: Stack, receiver: Receiver, kind: str) -> dict[str, Any]:
    """What comes once more of the time has passed that a restart would take."""
    two_intervals_pass(stack)
    return told(stack, receiver, kind)


def test_a_wrong_password_of_the_broker_in_every_fetcher(
    locked_redis: RedisServer,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    receiver: Receiver,
) -> None:
    port, health, metrics, decryptor = (free_port() for _ in range(4))
    stack = build_stack(locked_redis.url, port=str(port), admin_token=TOKEN)
    listen(stack, receiver)
    stack.add_handler()
    stack.start("admin")
    stack.start("decryptor", settings={"health_port": str(decryptor)})
    stack.start("scheduler", settings={"health_port": str(metrics)})
    wrong = locked_redis.url.replace("right", "wrong")
    (fetcher,) = stack.start(
        "fetcher",
        settings={"broker_url": wrong, "output_url": wrong, "health_port": str(health)},
    )
    dovecot.deliver(mail_user, [mail(1, 2000)])
    stack.watch(dovecot, mail_user)
    stack.wait(lambda: bool(stack.query("SELECT 1 FROM service WHERE failing ? 'broker'")), "said")
    # Not ready, so that no roll-out goes on; alive, so that nothing is replaced for it.
    assert get(health, "/readyz").json()["checks"]["broker"] == "failing"
    assert get(health, "/readyz").status_code == 503
    assert get(health, "/healthz").status_code == 200
    two_intervals_pass(stack)
    shown = overview(stack, port)
    assert shown["connections"] == {"overdue": 1}
    failing = {one["name"]: one["failing"] for one in shown["services"]}
    assert "refuses the user" in failing["fetcher"]["broker"]
    assert set(failing) == {"scheduler", "fetcher", "decryptor", "admin"}
    troubles = {one["name"]: one["trouble"] for one in shown["backends"]}
    assert troubles["Postgres"] == ""
    assert "fetcher: Redis at" in troubles["Broker"] and "refuses the user" in troubles["Broker"]
    stack.query(
        "UPDATE service SET failing_since = failing_since - interval '2 minutes' RETURNING name"
    )
    data = told(stack, receiver, "service-failing")
    assert "refuses the user" in data["summary"] and "fetcher" in data["summary"]
    # Nothing that the scheduler does on time hides that no run succeeds.
    data = told_after(stack, receiver, "connections-overdue")
    assert mail_user in data["summary"]
    metric = "posthouse_connections_overdue 1.0"
    stack.wait(lambda: metric in get(metrics, "/metrics").text, "the metric of overdue connections")
    stack.wait(
        lambda: (
            'posthouse_service_failing{check="broker",service="fetcher"} 1.0'
            in get(metrics, "/metrics").text
        ),
        "the metric",
    )
    # After all of that it is the same process, which a kubelet leaves alone.
    assert fetcher.poll() is None
    assert get(health, "/healthz").status_code == 200
    assert get(metrics, "/readyz").status_code == get(decryptor, "/readyz").status_code == 200
    with without_memory(locked_redis):
        for service in (metrics, decryptor):
            checks = get(service, "/readyz").json()["checks"]
            assert {name for name in checks if checks[name] == "failing"} == {"broker", "output"}
            assert get(service, "/healthz").status_code == 200
    assert get(metrics, "/readyz").status_code == get(decryptor, "/readyz").status_code == 200


def test_a_service_that_is_gone_is_said_to_be(
    redis_url: str, build_stack: Callable[..., Stack], receiver: Receiver
) -> None:
    port = free_port()
    stack = build_stack(redis_url, port=str(port), admin_token=TOKEN)
    listen(stack, receiver)
    stack.start("scheduler", "admin")
    (decryptor,) = stack.start("decryptor")
    stack.wait(
        lambda: bool(stack.query("SELECT 1 FROM service WHERE name = 'decryptor'")), "it is seen"
    )
    assert overview(stack, port)["absent"] == ["fetcher"]
    # Nobody misses the forwarder before a handler's events are to be passed on.
    made = post(port, "/api/v1/handlers", name="hooks", forward={"address": "https://example.com"})
    assert made.is_success, made.text
    assert overview(stack, port)["absent"] == ["fetcher", "forwarder"]
    stack.kill(decryptor)
    stack.query(
        "UPDATE service SET seen_at = now() - interval '3 minutes' WHERE name = 'decryptor'"
        " RETURNING 1"
    )
    data = told(stack, receiver, "service-failing")
    assert data["summary"].startswith("Service decryptor is failing (heartbeat)")
    silent = [one["name"] for one in overview(stack, port)["services"] if one["is_silent"]]
    assert silent == ["decryptor"]
    stack.start("decryptor")
    told(stack, receiver, "service-recovered")


def test_a_store_that_cannot_be_written_is_said_and_the_pages_stay(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    port, health, pages = free_port(), free_port(), free_port()
    stack = build_stack(redis_url, port=str(port), admin_token=TOKEN)
    stack.start("scheduler")
    stack.start("admin", settings={"health_port": str(pages)})
    stack.start("fetcher", settings={"health_port": str(health)})
    stack.wait(lambda: stack.count("service") == 3, "all are seen")
    spool = stack.store / "spool"
    spool.rename(stack.store / "away")
    stack.wait(
        lambda: bool(stack.query("SELECT 1 FROM service WHERE failing ? 'store'")), "it is said"
    )
    assert get(health, "/readyz").status_code == 503
    shown = overview(stack, port)
    failing = {one["name"]: set(one["failing"]) for one in shown["services"]}
    assert failing == {"fetcher": {"store"}, "scheduler": set(), "admin": set()}
    assert all(one["total"] for one in shown["services"])
    assert get(pages, "/readyz").status_code == 200
