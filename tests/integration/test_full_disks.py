"""A disk of ours is full: all waits, says why, and goes on once there is room. None is lost.

For an administrator: a full store is the check `store` on the overview, in the alert
`service-failing` and in `posthouse_service_failing`. That the disk of Postgres is full is on the
overview, in the fetcher's log and in the same metric; alerts of Posthouse's own are rows, for which
there may be no room: the rule PosthouseServiceFailing tells.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from shared.storage.migrate import migrate
from tests.integration.test_own_health import TOKEN, get, overview
from tests.rig.administrator_view import listen
from tests.rig.forkserver import Forkserver
from tests.rig.mails import digests, mail
from tests.rig.queue_events import open_queue
from tests.rig.small_disk import SmallDisk, small_disk
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.postgres import PostgresServer
from tests.servers.processes import free_port
from tests.servers.webhooks import Receiver

pytestmark = [pytest.mark.rooted, pytest.mark.promise("M7", "M19", "I1")]

MAILS = [mail(number, 20_000, seed=11) for number in range(20)]
MANY = [mail(number, 2_000, seed=13) for number in range(40, 140)]
MORE = [mail(number, 20_000, seed=12) for number in range(20, 40)]


def published(redis_url: str) -> list[str]:
    return sorted(event["data"]["sha256"] for event in open_queue(redis_url, "archive").events())


def summaries(receiver: Receiver) -> list[str]:
    return [one.json["data"]["summary"] for one in receiver.received]


def failing(stack: Stack) -> Callable[[], bool]:
    asked = "SELECT 1 FROM service WHERE name = 'fetcher' AND failing ? 'store'"
    return lambda: bool(stack.query(asked))


def test_the_store_is_full(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    port, health = free_port(), free_port()
    with small_disk(tmp_path / "store", megabytes=4) as disk:
        stack = build_stack(redis_url, port=str(port), admin_token=TOKEN)
        listen(stack, receiver)
        stack.add_handler()
        stack.start("admin", "fetcher", "decryptor")
        stack.start("scheduler", settings={"health_port": str(health)})
        dovecot.deliver(mail_user, MAILS)
        connection = stack.watch(dovecot, mail_user, after_download="delete")
        stack.wait_settled(len(MAILS))

        disk.fill()
        dovecot.deliver(mail_user, MORE)
        stack.fetch_now(connection)
        stack.wait(failing(stack), "the fetcher says that its store is full")
        # The reason is on the overview, in the API, the alert, and the metric.
        (fetcher,) = [s for s in overview(stack, port)["services"] if s["name"] == "fetcher"]
        assert "The store is full" in fetcher["failing"]["store"]
        stack.query("UPDATE service SET failing_since = now() - interval '2 minutes' RETURNING 1")
        words = re.compile(r"Services?.* fetcher\b.* failing \(store\): The store is full")
        stack.wait(lambda: any(map(words.search, summaries(receiver))), "the alert")
        stack.wait(
            lambda: (
                'posthouse_service_failing{check="store",service="fetcher"} 1.0'
                in get(health, "/metrics").text
            ),
            "the metric",
        )
        # Who is called can log in, and sees why.
        with browser(port) as person:
            assert log_in(person).status_code == 303
            page = person.get("/")
            assert page.status_code == 200
            assert "The store is full" in page.text
            for path in ("/mails", "/connections", f"/connections/{connection}", "/quarantine"):
                assert person.get(path).status_code == 200, path
        assert stack.count("quarantine") == 0
        assert len(dovecot.flags(mail_user)) == len(MORE), "a mail that is nowhere else is gone"

        disk.free()
        stack.wait(lambda: (stack.hurry(), stack.count("message"))[1] == 40, "the others come")
        stack.wait_settled(40)
        assert published(redis_url) == digests(MAILS + MORE)
        assert dovecot.flags(mail_user) == {}
        stack.stop()


@pytest.mark.promise("C4")
def test_the_disk_of_the_spools_is_full(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    tmp_path: Path,
) -> None:
    """A large mail is read by way of a file there. It waits, and no attempt is counted against it:
    after five it would be in quarantine."""
    large = mail(1, 20 << 20, seed=14)
    with small_disk(tmp_path / "spools", megabytes=64) as disk:
        disk.fill()
        stack = build_stack(redis_url)
        stack.add_handler()
        stack.start("scheduler", "fetcher")
        stack.start("decryptor", settings={"spool_dir": str(disk.path)})
        dovecot.deliver(mail_user, [large])
        stack.watch(dovecot, mail_user)
        asked = "SELECT attempts FROM outbox WHERE position('No space left' IN error) > 0"
        stack.wait(lambda: bool(stack.query(asked)), "the decryptor has tried")
        assert stack.query(asked)[0][0] == 0

        disk.free()
        stack.wait(lambda: stack.count("outbox") == 0, "it is delivered once there is room")
        assert published(redis_url) == digests([large])
        stack.stop()


@pytest.fixture
def disk_of_postgres() -> Iterator[tuple[SmallDisk, PostgresServer]]:
    """A Postgres whose data have a disk of their own; the folder is Postgres' own user's."""
    server = PostgresServer()
    with small_disk(server.folder, megabytes=200) as disk, server:
        yield disk, server


@pytest.mark.long
def test_the_disk_of_postgres_is_full(
    disk_of_postgres: tuple[SmallDisk, PostgresServer],
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    forkserver: Forkserver,
    tmp_path: Path,
) -> None:
    disk, server = disk_of_postgres
    database_url = server.create_database()
    migrate(database_url)
    port, health = free_port(), free_port()
    settings = {"port": str(port), "admin_token": TOKEN}
    with Stack(
        database_url, redis_url, tmp_path, forkserver=forkserver, settings=settings
    ) as stack:
        stack.add_handler()
        stack.start("admin", "fetcher", "decryptor")
        stack.start("scheduler", settings={"health_port": str(health)})
        dovecot.deliver(mail_user, MAILS)
        connection = stack.watch(dovecot, mail_user, after_download="delete")
        stack.wait_settled(len(MAILS))
        overview(stack, port)
        with browser(port) as person:
            assert log_in(person).status_code == 303
            dovecot.deliver(mail_user, MANY)
            disk.fill()
            stack.fetch_now(connection)
            full = "Postgres has no space left"
            stack.wait(lambda: full in stack.log_of("fetcher").read_text(), "it is full")
            # Who is in sees why; who comes now is told why, wherever the disk's end is met.
            stack.wait(lambda: full in shown(person.get("/")), "the overview says so")
            metric = 'posthouse_service_failing{check="database",service="fetcher"} 1.0'
            stack.wait(lambda: metric in get(health, "/metrics").text, "the metric")
            for _ in range(50):
                with browser(port) as another:
                    answer = log_in(another)
                    assert answer.status_code == 303, answer.text
                    assert full in shown(another.get("/"))
            left = len(dovecot.flags(mail_user))
            assert left == len(MANY), "a mail that is nowhere else is gone"
        disk.free()
        stack.wait(lambda: (stack.hurry(), stack.count("message"))[1] == 120, "the others come")
        stack.wait_settled(120)
        assert published(redis_url) == digests(MAILS + MANY)
        assert dovecot.flags(mail_user) == {}
        stack.wait(lambda: full not in get(port, "/api/v1/overview").text, "it says so no more")
        stack.stop()


def shown(page: httpx.Response) -> str:
    assert page.status_code in (200, 503), page.text
    return page.text


def browser(port: int) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)


def log_in(person: httpx.Client) -> httpx.Response:
    """The answer to the form of the login, or its page where that says what is wrong."""
    page = person.get("/login")
    field = re.search(r'name="csrf" value="([^"]+)"', page.text)
    if field is None:
        return page
    return person.post("/login", data={"csrf": field[1], "way": "token", "token": TOKEN})
