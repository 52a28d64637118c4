"""Logging in to the pages: guessing is slowed down, bounded, and locks nobody else out."""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from services.admin.people import passwords
from services.admin.people.attempts import OF_A_NAME, OF_A_NETWORK, OF_STRANGERS
from services.admin.settings import AdminSettings
from tests.integration.api.conftest import TOKEN, Api
from tests.servers.postgres import PostgresServer

PASSWORD = "a few words in a row"


@pytest.fixture(scope="module")
def proxied(
    postgres: PostgresServer, schema_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """Behind a proxy on this machine that is trusted."""
    url = postgres.create_database(schema_template)
    folder = tmp_path_factory.mktemp("proxied")
    with Api(url, folder, trusted_proxies=("127.0.0.1",)) as api:
        yield api
    postgres.drop_database(url)


def a_person(api: Api) -> str:
    name = f"person-{uuid.uuid4().hex[:8]}"
    made = api.http.post("people", json={"name": name, "password": PASSWORD, "role": "viewer"})
    assert made.status_code == 201
    return name


def browser(api: Api, address: str = "") -> httpx.Client:
    headers = {"X-Forwarded-For": address} if address else {}
    return httpx.Client(base_url=api.url, headers=headers, timeout=60)


def log_in(client: httpx.Client, **fields: str) -> httpx.Response:
    page = client.get("/login")
    token = re.search(r'name="csrf" value="([^"]+)"', page.text)
    assert token
    way = "token" if "token" in fields else "password"
    return client.post("/login", data={"csrf": token[1], "way": way, **fields})


def is_in(answer: httpx.Response) -> bool:
    return answer.status_code == 303


@pytest.mark.promise("T1")
def test_forty_logins_at_once_take_little_memory_and_the_pages_stay(api: Api) -> None:
    name = a_person(api)
    peak, done = [resident()], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak.append(resident())

    def guess(number: int) -> int:
        with browser(api) as client:
            return log_in(client, name=f"{name}-{number}", password="wrong").status_code

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(40) as pool:
        codes = Counter(pool.map(guess, range(40)))
    done.set()
    watcher.join()
    assert set(codes) == {401, 429}
    hashes = passwords.AT_ONCE * 64 << 20
    assert max(peak) - peak[0] < hashes + (160 << 20)
    with browser(api) as client:
        assert is_in(log_in(client, name=name, password=PASSWORD))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_many_guesses_at_once_are_no_way_around_the_limit(proxied: Api) -> None:
    name = a_person(proxied)

    def guess(_: int) -> int:
        with browser(proxied, "198.51.100.7") as client:
            while True:
                answer = log_in(client, name=name, password="wrong")
                if "same moment" not in answer.text:
                    return answer.status_code
                time.sleep(0.05)

    with ThreadPoolExecutor(30) as pool:
        codes = Counter(pool.map(guess, range(30)))
    assert codes == {401: OF_A_NAME, 429: 30 - OF_A_NAME}


@pytest.mark.promise("T1")
def test_wrong_bootstrap_tokens_from_elsewhere_keep_nobody_out(proxied: Api) -> None:
    with browser(proxied, "203.0.113.5") as guesser:
        codes = [log_in(guesser, token=f"wrong-{n}").status_code for n in range(OF_A_NAME + 2)]
        assert codes[-1] == 429
        assert log_in(guesser, token=TOKEN).status_code == 429, "guessing must cost something"
    with browser(proxied, "203.0.113.6") as owner:
        assert is_in(log_in(owner, token=TOKEN))


@pytest.mark.promise("T1")
def test_strangers_do_not_lock_out_who_has_logged_in_before(proxied: Api) -> None:
    name = a_person(proxied)
    with browser(proxied, "203.0.113.10") as known, browser(proxied, "203.0.113.11") as new:
        assert is_in(log_in(known, name=name, password=PASSWORD))
        proxied.execute(
            "INSERT INTO login_attempt (source) SELECT %(s)s FROM generate_series(1, %(n)s)",
            s=f"strangers {name}",
            n=OF_STRANGERS,
        )
        assert log_in(new, name=name, password=PASSWORD).status_code == 429
        assert is_in(log_in(known, name=name, password=PASSWORD))
        # Its own wrong guesses count all the same.
        for _ in range(OF_A_NAME):
            assert log_in(known, name=name, password="wrong").status_code == 401
        assert log_in(known, name=name, password=PASSWORD).status_code == 429


def test_a_device_of_one_person_is_none_of_another(proxied: Api) -> None:
    name, other = a_person(proxied), a_person(proxied)
    with browser(proxied, "203.0.113.20") as client:
        assert is_in(log_in(client, name=other, password=PASSWORD))
        proxied.execute(
            "INSERT INTO login_attempt (source) SELECT %(s)s FROM generate_series(1, %(n)s)",
            s=f"strangers {name}",
            n=OF_STRANGERS,
        )
        assert log_in(client, name=name, password=PASSWORD).status_code == 429


def test_what_a_caller_says_of_its_address_is_not_believed(api: Api) -> None:
    codes = []
    for number in range(OF_A_NETWORK + 2):
        with browser(api, f"198.51.100.{number}") as client:
            codes.append(log_in(client, token=f"wrong-{number}").status_code)
    assert codes[-1] == 429
    api.execute("DELETE FROM login_attempt")


def test_neighbours_of_an_ipv6_host_are_one_source(proxied: Api) -> None:
    codes = []
    for number in range(OF_A_NAME + 1):
        with browser(proxied, f"2001:db8:7:1::{number:x}") as client:
            codes.append(log_in(client, token="wrong").status_code)
    assert codes[-1] == 429
    with browser(proxied, "2001:db8:7:2::1") as client:
        assert is_in(log_in(client, token=TOKEN))


def test_failed_logins_and_refusals_stand_in_the_audit_log(proxied: Api) -> None:
    name = a_person(proxied)
    with browser(proxied, "203.0.113.30") as client:
        for _ in range(OF_A_NAME + 3):
            log_in(client, name=name, password="wrong")
    entries = proxied.http.get("audit", params={"q": name}).json()["items"]
    actions = Counter(e["action"] for e in entries if e["actor"] == name)
    assert actions == {"login refused": OF_A_NAME, "logins refused for a while": 1}


def test_a_session_that_nobody_uses_ends(api: Api) -> None:
    with browser(api) as client:
        assert is_in(log_in(client, token=TOKEN))
        assert client.get("/").status_code == 200
        api.execute("UPDATE session SET seen_at = now() - interval '119 minutes'")
        # A page that refreshes itself is nobody's use of it.
        assert client.get("/overview/live", headers={"x-part": "yes"}).status_code == 200
        api.execute("UPDATE session SET seen_at = seen_at - interval '2 minutes'")
        assert client.get("/").status_code == 303


@pytest.mark.promise("T1")
def test_over_https_cookies_are_bound_to_the_host_and_browsers_stay_there(
    postgres: PostgresServer, schema_template: str, tmp_path: Path
) -> None:
    url = postgres.create_database(schema_template)
    with Api(url, tmp_path, public_url="https://mail.example.org") as api:
        host = {"Host": "mail.example.org"}
        page = httpx.get(f"{api.url}/login", headers=host)
        assert page.headers["strict-transport-security"].startswith("max-age=")
        cookie = page.headers["set-cookie"]
        assert cookie.startswith("__Host-posthouse_login=")
        assert {"Secure", "HttpOnly", "Path=/"} <= {part.strip() for part in cookie.split(";")}
        elsewhere = httpx.get(f"{api.url}/login", headers={"Host": "attacker.example"})
        assert elsewhere.status_code == 421
        assert "PUBLIC_URL" in elsewhere.text
        # Handlers inside the cluster use another name, with a token.
        inside = httpx.get(
            f"{api.url}/api/v1/overview",
            headers={"Host": "posthouse-admin", "Authorization": f"Bearer {TOKEN}"},
        )
        assert inside.status_code == 200
    postgres.drop_database(url)


def test_a_short_admin_token_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="at least 20 characters"):
        AdminSettings(
            database_url="postgresql://x/y",
            broker_url="redis://127.0.0.1/0",
            store_url=f"file://{tmp_path}",
            secret_keys=(),
            admin_token="nineteen-characters",
        )
