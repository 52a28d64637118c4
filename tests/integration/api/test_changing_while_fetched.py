"""A connection is changed just when a fetcher commits mails of it: both come through."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest

from tests.integration.api.conftest import Api

CHANGES: dict[str, Callable[[Api, str], httpx.Response]] = {
    "another field": lambda api, path: api.http.patch(path, json={"description": "changed"}),
    "another password": lambda api, path: api.http.patch(path, json={"password": "another"}),
    "another folder": lambda api, path: api.http.patch(path, json={"folder": "Archive"}),
    "disabled": lambda api, path: api.http.post(f"{path}/disable"),
    "deleted": lambda api, path: api.http.delete(path),
}


def wait_for_a_waiting(watch: psycopg.Connection[Any]) -> None:
    """Until a statement of the service waits for a row of ours."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        waiting = watch.execute(
            "SELECT FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)"
            " WHERE NOT l.granted AND a.datname = current_database()"
        ).fetchone()
        if waiting is not None:
            return
        time.sleep(0.01)
    raise TimeoutError("nobody waits")


@pytest.mark.promise("T1")
@pytest.mark.parametrize("how", list(CHANGES))
def test_a_change_waits_for_a_commit_and_neither_stops_the_other(api: Api, how: str) -> None:
    """A fetcher locks the state, and then refers to the connection; so does who changes it."""
    connection = api.create()["id"]
    with (
        psycopg.connect(api.owner_url) as fetcher,
        psycopg.connect(api.owner_url, autocommit=True) as watch,
        ThreadPoolExecutor(1) as beside,
    ):
        fetcher.execute(
            "UPDATE connection_state SET sequence = sequence + 1 WHERE connection_id = %s",
            [connection],
        )
        changing = beside.submit(CHANGES[how], api, f"connections/{connection}")
        wait_for_a_waiting(watch)
        # What the rows that name a connection ask of it (a foreign key).
        fetcher.execute("SELECT FROM connection WHERE id = %s FOR KEY SHARE", [connection])
        fetcher.commit()
        answer = changing.result()
    assert answer.status_code in (200, 204), answer.text
