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
import pyotp
import pytest
from pydantic import ValidationError

from services.admin.auth import passwords
from services.admin.auth.login_attempts import OF_A_NAME, OF_A_NETWORK, OF_STRANGERS
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


def test_a_session_ends_after_twelve_hours_however_it_is_used(api: Api) -> None:
    with browser(api) as client:
        assert is_in(log_in(client, token=TOKEN))
        lasts = "SELECT max(expires_at - created_at) BETWEEN '11:59:59' AND '12:00:01' FROM session"
        assert api.execute(lasts) == [(True,)]
        for _ in range(2):
            assert client.get("/").status_code == 200
            api.execute("UPDATE session SET seen_at = now() - interval '2 minutes'")
        assert api.execute(lasts) == [(True,)]
        api.execute("UPDATE session SET expires_at = now() - interval '1 s', seen_at = now()")
        assert client.get("/").status_code == 303


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
        AdminSettings.model_validate(
            {
                "database_url": "postgresql://x/y",
                "broker_url": "redis://127.0.0.1/0",
                "store_url": f"file://{tmp_path}",
                "secret_keys": (),
                "admin_token": "nineteen-characters",
            }
        )


def test_two_browsers_of_a_person_and_the_end_of_one(api: Api) -> None:
    name = a_person(api)
    with browser(api) as one, browser(api) as other:
        for client in (one, other):
            assert is_in(log_in(client, name=name, password=PASSWORD))
        page = one.get("/account").text
        assert page.count('class="tag">this browser<') == 1
        ending = re.findall(r'name="session" value="([0-9a-f]+)"', page)
        assert len(ending) == 1
        csrf = re.search(r'name="csrf" value="([^"]+)"', page)
        assert csrf
        one.post("/account/sessions", data={"csrf": csrf[1], "session": ending[0]})
        assert one.get("/").status_code == 200
        assert other.get("/").status_code == 303


def test_nobody_ends_the_session_of_another(api: Api) -> None:
    mine, theirs = a_person(api), a_person(api)
    with browser(api) as one, browser(api) as other:
        assert is_in(log_in(one, name=mine, password=PASSWORD))
        assert is_in(log_in(other, name=theirs, password=PASSWORD))
        ((digest,),) = api.execute(
            "SELECT digest FROM session s JOIN person p ON p.id = s.person_id WHERE name = %(n)s",
            n=theirs,
        )
        csrf = re.search(r'name="csrf" value="([^"]+)"', one.get("/account").text)
        assert csrf
        form = {"csrf": csrf[1], "session": bytes(digest).hex()}
        assert one.post("/account/sessions", data=form).status_code == 404
        assert other.get("/").status_code == 200


def set_up_codes(client: httpx.Client) -> tuple[pyotp.TOTP, list[str]]:
    def send(path: str, **fields: str) -> str:
        csrf = re.search(r'name="csrf" value="([^"]+)"', client.get("/account").text)
        assert csrf
        return client.post(path, data={"csrf": csrf[1], **fields}).text

    page = send("/account/second-factor", current=PASSWORD)
    assert "<svg" in page
    secret = re.search(r"<pre[^>]*>([A-Z2-7]{32})</pre>", page)
    assert secret
    totp = pyotp.TOTP(secret[1])
    assert "not the code" in send("/account/second-factor/confirm", code="000000")
    page = send("/account/second-factor/confirm", code=totp.now())
    codes = re.findall(r"[0-9a-f]{6}-[0-9a-f]{6}", page)
    assert len(codes) == 8
    return totp, codes


def give_code(client: httpx.Client, code: str) -> httpx.Response:
    csrf = re.search(r'name="csrf" value="([^"]+)"', client.get("/login/code").text)
    assert csrf
    return client.post("/login/code", data={"csrf": csrf[1], "code": code, "next": "/"})


@pytest.mark.promise("T1")
def test_a_password_alone_opens_nothing_where_a_second_factor_is_set_up(api: Api) -> None:
    name = a_person(api)
    with browser(api) as first:
        assert is_in(log_in(first, name=name, password=PASSWORD))
        totp, codes = set_up_codes(first)
    with browser(api) as client:
        answer = log_in(client, name=name, password=PASSWORD)
        assert answer.headers["location"].startswith("/login/code")
        assert client.get("/").status_code == 303, "not logged in yet"
        assert client.get("/account").status_code == 303
        assert give_code(client, "123456").status_code == 401
        assert give_code(client, totp.now()).status_code == 401, "used when it was set up"
        soon = totp.at(time.time() + 30)
        assert is_in(give_code(client, soon))
        assert client.get("/").status_code == 200
    with browser(api) as client:
        log_in(client, name=name, password=PASSWORD)
        assert give_code(client, soon).status_code == 401, "each code works once"
        assert is_in(give_code(client, codes[0]))
    with browser(api) as client:
        log_in(client, name=name, password=PASSWORD)
        assert give_code(client, codes[0]).status_code == 401
        # An administrator helps who lost the phone and the codes.
        (person,) = api.http.get("people", params={"q": name}).json()["items"]
        assert person["has_second_factor"] is True
        assert api.http.delete(f"people/{person['id']}/second-factor").status_code == 204
    with browser(api) as client:
        assert log_in(client, name=name, password=PASSWORD).headers["location"] == "/"


def test_codes_are_not_guessed(api: Api) -> None:
    name = a_person(api)
    with browser(api) as client:
        log_in(client, name=name, password=PASSWORD)
        set_up_codes(client)
    api.execute("DELETE FROM login_attempt")
    with browser(api) as client:
        log_in(client, name=name, password=PASSWORD)
        codes = [give_code(client, f"{n:06}").status_code for n in range(OF_A_NAME + 1)]
    assert codes[-1] == 429
    api.execute("DELETE FROM login_attempt")


@pytest.mark.parametrize("tokens", ["end", "take-over"])
def test_what_a_person_who_leaves_made_ends_or_is_taken_over(api: Api, tokens: str) -> None:
    name = a_person(api)
    for one in (name, a_person(api)):  # the last administrator cannot leave
        (person,) = api.http.get("people", params={"q": one}).json()["items"]
        api.http.patch(f"people/{person['id']}", json={"role": "admin"})
    (person,) = api.http.get("people", params={"q": name}).json()["items"]
    with browser(api) as client:
        log_in(client, name=name, password=PASSWORD)
        csrf = re.search(r'name="csrf" value="([^"]+)"', client.get("/tokens").text)
        assert csrf
        form = {"csrf": csrf[1], "name": f"token of {name}", "role": "viewer", "days": "30"}
        made = re.search(r"posthouse_[\w-]{43}", client.post("/tokens", data=form).text)
        assert made
    assert f"token of {name}" in page_as_admin(api, f"/people/{person['id']}")
    gone = api.http.delete(f"people/{person['id']}", params={"tokens": tokens})
    assert gone.status_code == 204
    with api.as_token(made[0]) as program:
        assert program.get("overview").status_code == (401 if tokens == "end" else 200)
    log = api.http.get("audit", params={"subject": f"person/{person['id']}"})
    assert any(f"token of {name}" in str(entry["after"]) for entry in log.json()["items"])


def page_as_admin(api: Api, path: str) -> str:
    with browser(api) as client:
        assert is_in(log_in(client, token=TOKEN))
        return client.get(path).text
