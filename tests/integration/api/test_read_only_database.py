"""Postgres only reads, as a standby does: pages and API say so, and what can be read is shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.integration.api.conftest import TOKEN, Api
from tests.integration.api.test_logging_in_to_pages import log_in

WORDS = "Postgres only reads and takes no changes"


class Standby:
    """The database of a running service, which may be written or not."""

    def __init__(self, api: Api, url: str) -> None:
        self.api, self._url = api, url

    def switch(self, value: str) -> None:
        """For new sessions; those that are open end, as in a failover."""
        server, _, name = self._url.rpartition("/")
        with psycopg.connect(f"{server}/postgres", autocommit=True) as session:
            session.execute(
                f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}'.encode()
            )
            session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )


@pytest.fixture
def standby(database_url: str, tmp_path: Path) -> Iterator[Standby]:
    with Api(database_url, tmp_path) as api:
        yield Standby(api, database_url)


@pytest.mark.promise("M19")
def test_pages_and_api_say_that_nothing_can_be_written(standby: Standby) -> None:
    api = standby.api
    with httpx.Client(base_url=api.url, timeout=60) as person:
        assert log_in(person, token=TOKEN).status_code == 303
        standby.switch("on")
        # Who is in goes on looking, and the overview says it beside Postgres.
        page = person.get("/")
        assert page.status_code == 200
        assert WORDS in page.text
        for path in ("/connections", "/mails", "/handlers", "/quarantine", "/settings"):
            assert person.get(path).status_code == 200, path
        # Who comes now is told why not, and so is a program that changes something.
        with httpx.Client(base_url=api.url, timeout=60) as another:
            answer = log_in(another, token=TOKEN)
        assert answer.status_code == 503
        assert WORDS in answer.text and "DATABASE_URL" in answer.text
        assert "posthouse overview" in answer.text  # which shows it all the same, see below
        refused = api.http.post("handlers", json={"name": "archive"})
        assert refused.status_code == 503
        assert refused.json()["code"] == "database-cannot-write"
        assert WORDS in refused.json()["detail"]
        (row,) = [b for b in api.http.get("overview").json()["backends"] if b["name"] == "Postgres"]
        assert WORDS in row["trouble"]
        standby.switch("off")
        assert person.get("/").status_code == 200
        assert api.http.post("handlers", json={"name": "archive"}).status_code == 201
    with httpx.Client(base_url=api.url, timeout=60) as another:
        assert log_in(another, token=TOKEN).status_code == 303
