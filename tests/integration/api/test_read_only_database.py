"""Postgres only reads, as a standby does: pages and API say so, and what can be read is shown."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.integration.api.conftest import TOKEN, Api
from tests.integration.api.test_logging_in_to_pages import PASSWORD, log_in

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
        # A session that was cut under the service's hands costs one answer: they are opened again.
        for _ in range(100):
            if self.api.http.get("overview").status_code == 200:
                break
            time.sleep(0.1)


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
        # A program that changes something is told why not.
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


@pytest.mark.promise("M19")
def test_an_administrator_can_always_log_in_and_read(standby: Standby) -> None:
    """No session can be written then: the bootstrap token opens a sealed one, for a while."""
    api = standby.api
    made = api.http.post("people", json={"name": "Ann", "password": PASSWORD, "role": "admin"})
    assert made.status_code == 201, made.text
    standby.switch("on")
    with httpx.Client(base_url=api.url, timeout=60) as person:
        assert log_in(person, token="wrong" * 8).status_code == 401
        entered = log_in(person, token=TOKEN)
        assert entered.status_code == 303, entered.text
        (lasts,) = re.findall(r"posthouse_session=[^;]+;.*Max-Age=(\d+)", str(entered.headers))
        assert int(lasts) <= 900
        for path in ("/", "/connections", "/mails", "/handlers", "/quarantine", "/settings"):
            assert person.get(path).status_code == 200, path
        assert WORDS in person.get("/").text
        cookie = person.cookies["posthouse_session"]
        with httpx.Client(base_url=api.url, timeout=60) as forger:
            for value in (cookie[:-1] + ("0" if cookie[-1] != "0" else "1"), _later(cookie)):
                forger.cookies.set("posthouse_session", value)
                assert forger.get("/connections").status_code == 303, "the login page"
        # A change without the session's own CSRF token is refused before Postgres is asked.
        forged = person.post("/handlers/new", data={"name": "x", "csrf": "x"})
        assert (forged.status_code, "under another login" in forged.text) == (400, True)
        csrf = re.findall(r'name="csrf" value="([^"]+)"', person.get("/handlers/new").text)[0]
        assert person.post("/logout", data={"csrf": csrf}).status_code == 303
        assert person.get("/connections").status_code == 303
    # People have passwords, whose attempts are counted in Postgres: they are told why not.
    with httpx.Client(base_url=api.url, timeout=60) as another:
        refused = log_in(another, name="Ann", password=PASSWORD)
    assert refused.status_code == 503
    assert WORDS in refused.text and "DATABASE_URL" in refused.text
    assert "bootstrap token" in refused.text and "posthouse overview" in refused.text


@pytest.mark.promise("T1")
def test_guesses_of_the_bootstrap_token_are_slowed_down_without_postgres(standby: Standby) -> None:
    standby.switch("on")
    with httpx.Client(base_url=standby.api.url, timeout=60) as guesser:
        answers = [log_in(guesser, token=f"{n:040}").status_code for n in range(40)]
    assert answers[0] == 401
    assert answers[-1] == 429


def _later(cookie: str) -> str:
    """The same, to end later."""
    mark, ends, rest = cookie.split(".", 2)
    return f"{mark}.{int(ends) + 1000}.{rest}"
