"""Failing connections are told of after a while, those of one host together; so is their end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.rig.administrator_view import listen, told
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.webhooks import Receiver

pytestmark = pytest.mark.promise("H5")


def kinds(stack: Stack) -> list[tuple[Any, ...]]:
    return stack.query("SELECT kind, (data->>'count')::int FROM alert ORDER BY id")


def fail(stack: Stack, *connections: int) -> None:
    for number in connections:
        stack.run_once(number)
    failing = "SELECT count(*) FROM connection_state WHERE health = 'failing'"
    stack.wait(lambda: stack.query(failing) == [(len(connections),)], "they fail")


def test_a_server_that_is_started_anew_alerts_nobody(
    redis_url: str, mail_user: str, build_stack: Callable[..., Stack], receiver: Receiver
) -> None:
    stack = build_stack(redis_url, alert_after_minutes="10")
    listen(stack, receiver)
    stack.add_handler()
    with Dovecot() as server:
        connection = stack.watch(server, mail_user)
        port = server.imap_port
        stack.start("scheduler", "fetcher")
        stack.run_once(connection)
    fail(stack, connection)
    assert kinds(stack) == [("connection-failing", 1)]
    # It is back before the time has passed: nothing is told, neither the failure nor its end.
    with Dovecot() as server:
        server.add_user(mail_user)
        stack.execute(f"UPDATE connection SET port = {server.imap_port} WHERE port = {port}")
        stack.run_once(connection)
        stack.wait(lambda: kinds(stack) == [], "withdrawn")
    assert receiver.received == []


def test_connections_of_one_host_fail_and_recover_in_one_alert_each(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    receiver: Receiver,
) -> None:
    stack = build_stack(redis_url, alert_after_minutes="10")
    listen(stack, receiver)
    stack.add_handler()
    numbers = [
        stack.watch(dovecot, f"{mail_user}-{n}", name=f"Box {n} {mail_user}", port=9)
        for n in range(5)
    ]
    stack.start("scheduler", "fetcher")
    fail(stack, *numbers)
    assert kinds(stack) == [("connection-failing", 5)]
    # One of them works again before anybody was told: it is not among them.
    stack.execute(f"UPDATE connection SET port = {dovecot.imap_port} WHERE id = {numbers[0]}")
    stack.run_once(numbers[0])
    stack.wait(lambda: kinds(stack) == [("connection-failing", 4)], "four are left")
    stack.execute("UPDATE alert SET next_attempt_at = now()")
    data = told(stack, receiver, "connection-failing")
    start = "4 connections at 127.0.0.1 are failing, such as “Box "
    assert data["summary"].startswith(start) and "Box 0" not in data["summary"]
    assert data["url"].endswith("/connections?health=failing")
    # One recovery for all: not before the last of them works.
    stack.execute(f"UPDATE connection SET port = {dovecot.imap_port}")
    for number in numbers[1:-1]:
        stack.run_once(number)
    assert [kind for kind, _ in kinds(stack)] == ["connection-failing"]
    stack.run_once(numbers[-1])
    summary = told(stack, receiver, "connection-recovered")["summary"]
    assert summary == "All 4 connections at 127.0.0.1 that failed work again."
    assert [kind for kind, _ in kinds(stack)] == ["connection-failing", "connection-recovered"]


def test_one_that_failed_often_enough_is_told_before_the_time(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    receiver: Receiver,
) -> None:
    stack = build_stack(redis_url, alert_after_minutes="600", alert_after_failures="3")
    listen(stack, receiver)
    stack.add_handler()
    stack.start("scheduler", "fetcher")
    connection = stack.watch(dovecot, mail_user, password="wrong")
    for _ in range(3):
        stack.run_once(connection)
    assert mail_user in told(stack, receiver, "connection-failing")["summary"]
