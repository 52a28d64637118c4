"""From the real cause to the text of the webhook: the reason arrives, and the link exists."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import httpx
import pytest

from shared.storage import connections
from shared.vault import password_path
from tests.rig.administrator_view import listen, told
from tests.rig.mails import mail
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.processes import free_port
from tests.servers.webhooks import Receiver

pytestmark = pytest.mark.promise("H5")


def test_a_refused_login_is_told_with_the_words_that_the_page_has(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    receiver: Receiver,
) -> None:
    stack = build_stack(redis_url)
    listen(stack, receiver)
    stack.add_handler()
    stack.start("scheduler", "fetcher")
    connection = stack.watch(dovecot, mail_user, password="wrong")
    data = told(stack, receiver, "connection-failing")
    ((error,),) = stack.query("SELECT error FROM connection_state")
    assert error["message"] and error["message"] in data["summary"]
    assert data["hint"] == error["hint"] != ""
    assert data["url"].endswith(f"/connections/{connection}")
    sealed = stack.vault.seal(b"secret", password_path(connection))
    with stack.database.transaction() as session:
        connections.write_password(session, connection, sealed)
    stack.fetch_now(connection)
    summary = told(stack, receiver, "connection-recovered")["summary"]
    assert summary == f"Connection “{mail_user}” works again."


@pytest.mark.promise("H4")
def test_a_mail_in_quarantine_is_told_with_its_reason_and_a_link_that_opens(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    receiver: Receiver,
) -> None:
    port, health = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    dovecot.deliver(mail_user, [mail(1, 50_000)])
    token = "a-token-of-more-than-20-characters"
    stack = build_stack(
        redis_url, max_message_bytes="20000", public_url=url, port=str(port), admin_token=token
    )
    listen(stack, receiver)
    stack.add_handler()
    stack.start("scheduler", "admin")
    stack.start("fetcher", settings={"health_port": str(health)})
    stack.watch(dovecot, mail_user)
    data = told(stack, receiver, "mail-quarantined")
    assert "the limit is 20,000 (MAX_MESSAGE_BYTES)" in data["summary"]
    metrics = httpx.get(f"http://127.0.0.1:{health}/metrics").text
    assert 'posthouse_quarantined_total{code="too-large"} 1.0' in metrics

    with httpx.Client(base_url=url, follow_redirects=True) as browser:
        stack.wait(lambda: is_up(browser), "the pages answer")
        page = browser.get("/login").text
        csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
        browser.post("/login", data={"token": token, "csrf": csrf, "way": "token", "next": "/"})
        shown = browser.get(data["url"].removeprefix(url))
        assert shown.status_code == 200
        assert "the limit is 20,000 (MAX_MESSAGE_BYTES)" in shown.text
        gone = browser.get(f"/quarantine/{uuid.uuid4()}")
        assert "not in quarantine any more" in gone.text


def is_up(browser: httpx.Client) -> bool:
    try:
        return browser.get("/login").is_success
    except httpx.TransportError:
        return False


def test_many_mails_in_quarantine_at_once_are_told_together(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    receiver: Receiver,
) -> None:
    port, token = free_port(), "a-token-of-more-than-20-characters"
    url = f"http://127.0.0.1:{port}"
    dovecot.deliver(mail_user, [mail(number, 50_000) for number in range(38)])
    stack = build_stack(
        redis_url, max_message_bytes="20000", public_url=url, port=str(port), admin_token=token
    )
    listen(stack, receiver)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "admin")
    connection = stack.watch(dovecot, mail_user)
    stack.wait(lambda: stack.count("quarantine") == 38, "all are quarantined")
    stack.wait(lambda: bool(receiver.received), "the webhook hears of them")
    # What came while the first was told waits for ten minutes, and is one alert again.
    dovecot.deliver(mail_user, [mail(number, 50_000) for number in range(38, 41)])
    stack.run_once(connection)
    counts = "SELECT (data ->> 'count')::int FROM alert ORDER BY id"
    first, second = (row[0] for row in stack.query(counts))
    assert first + second == 41
    assert first > 1
    due = "SELECT next_attempt_at > now() + interval '9 minutes' FROM alert WHERE attempts = 0"
    assert stack.query(due) == [(True,)]
    stack.query("UPDATE alert SET next_attempt_at = now() WHERE attempts = 0 RETURNING id")
    stack.wait(lambda: len(receiver.received) == 2, "the webhook hears of the others")
    data = receiver.received[1].json["data"]
    assert data["summary"].startswith(f"{second} mails of connection “{mail_user}” are in quarant")
    assert data["url"] == f"{url}/quarantine?connection={connection}&code=too-large"
