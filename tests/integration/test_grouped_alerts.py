"""Failing connections are told of after a while, those of one host together; so is their end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.test_reasons import listen, told
from tests.rig.house import House
from tests.servers.dovecot import Dovecot
from tests.servers.webhooks import Receiver

pytestmark = pytest.mark.promise("H5")


def kinds(house: House) -> list[tuple[Any, ...]]:
    return house.query("SELECT kind, (data->>'count')::int FROM alert ORDER BY id")


def fail(house: House, *connections: int) -> None:
    for number in connections:
        house.run_once(number)
    failing = "SELECT count(*) FROM connection_state WHERE health = 'failing'"
    house.wait(lambda: house.query(failing) == [(len(connections),)], "they fail")


def test_a_server_that_is_started_anew_alerts_nobody(
    redis_url: str, mail_user: str, build_house: Callable[..., House], receiver: Receiver
) -> None:
    house = build_house(redis_url, alert_after_minutes="10")
    listen(house, receiver)
    house.add_handler()
    with Dovecot() as server:
        connection = house.watch(server, mail_user)
        port = server.imap_port
        house.start("scheduler", "fetcher")
        house.run_once(connection)
    fail(house, connection)
    assert kinds(house) == [("connection-failing", 1)]
    # It is back before the time has passed: nothing is told, neither the failure nor its end.
    with Dovecot() as server:
        server.add_user(mail_user)
        house.execute(f"UPDATE connection SET port = {server.imap_port} WHERE port = {port}")
        house.run_once(connection)
        house.wait(lambda: kinds(house) == [], "withdrawn")
    assert receiver.received == []


def test_connections_of_one_host_fail_and_recover_in_one_alert_each(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_house: Callable[..., House],
    receiver: Receiver,
) -> None:
    house = build_house(redis_url, alert_after_minutes="10")
    listen(house, receiver)
    house.add_handler()
    numbers = [
        house.watch(dovecot, f"{mail_user}-{n}", name=f"Box {n} {mail_user}", port=9)
        for n in range(5)
    ]
    house.start("scheduler", "fetcher")
    fail(house, *numbers)
    assert kinds(house) == [("connection-failing", 5)]
    # One of them works again before anybody was told: it is not among them.
    house.execute(f"UPDATE connection SET port = {dovecot.imap_port} WHERE id = {numbers[0]}")
    house.run_once(numbers[0])
    house.wait(lambda: kinds(house) == [("connection-failing", 4)], "four are left")
    house.execute("UPDATE alert SET next_attempt_at = now()")
    data = told(house, receiver, "connection-failing")
    start = "4 connections at 127.0.0.1 are failing, such as “Box "
    assert data["summary"].startswith(start) and "Box 0" not in data["summary"]
    assert data["url"].endswith("/connections?health=failing")
    # One recovery for all: not before the last of them works.
    house.execute(f"UPDATE connection SET port = {dovecot.imap_port}")
    for number in numbers[1:-1]:
        house.run_once(number)
    assert [kind for kind, _ in kinds(house)] == ["connection-failing"]
    house.run_once(numbers[-1])
    summary = told(house, receiver, "connection-recovered")["summary"]
    assert summary == "All 4 connections at 127.0.0.1 that failed work again."
    assert [kind for kind, _ in kinds(house)] == ["connection-failing", "connection-recovered"]


def test_one_that_failed_often_enough_is_told_before_the_time(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_house: Callable[..., House],
    receiver: Receiver,
) -> None:
    house = build_house(redis_url, alert_after_minutes="600", alert_after_failures="3")
    listen(house, receiver)
    house.add_handler()
    house.start("scheduler", "fetcher")
    connection = house.watch(dovecot, mail_user, password="wrong")
    for _ in range(3):
        house.run_once(connection)
    assert mail_user in told(house, receiver, "connection-failing")["summary"]
