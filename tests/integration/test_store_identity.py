"""Bytes that are not there are not a bad mail, and a store is its installation's alone.

For an administrator: readiness and the overview name the check (`store`, `mails`) with the
reason, as do the alert `service-failing` and `posthouse_service_failing`; missing bytes count in
`posthouse_store_misses_total` (PosthouseMissingBytes), and after a day they are an entry in
quarantine.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import httpx
import pytest

from cli.main import main
from services.scheduler.retention import housekeeping
from shared.clock import utc_now
from shared.settings import StoreSettings
from shared.storage import services
from shared.storage.pool import Database
from shared.store import FileStore, ObjectStore
from shared.store_identity import ForeignStore, OwnStore, adopt_store
from tests.integration.rows import add_connection, add_message
from tests.rig.administrator_view import Telling
from tests.rig.mails import digests, mail
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.processes import free_port

MAILS = [mail(number, 2000, seed=9) for number in range(20)]


def readiness(port: int) -> dict[str, str]:
    try:
        found: dict[str, str] = httpx.get(f"http://127.0.0.1:{port}/readyz").json()["checks"]
    except httpx.TransportError:
        return {}
    return found


@pytest.mark.promise("I5")
@pytest.mark.parametrize("other", ["empty", "another installation's"])
def test_a_decryptor_with_a_wrong_store_harms_no_mail(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    tmp_path: Path,
    other: str,
) -> None:
    dovecot.deliver(mail_user, MAILS)
    stack = build_stack(redis_url)
    stack.add_handler()
    wrong, port = tmp_path / "typo", free_port()
    if other != "empty":
        FileStore(wrong).mark(uuid.uuid4())

    def said(service: str) -> str:
        log = stack.log_of(service)
        return log.read_text() if log.exists() else ""

    with Telling(stack, ("scheduler", "fetcher")) as telling:
        stack.watch(dovecot, mail_user)
        stack.wait(lambda: stack.count("message") == len(MAILS), "all are in the ledger")
        (lost,) = stack.start(
            "decryptor", settings={"store_url": f"file://{wrong}", "health_port": str(port)}
        )
        stack.wait(
            lambda: (
                (stack.hurry(), "--adopt-store" in said("decryptor"))[1]
                or stack.query("SELECT count(*) FROM outbox WHERE error ~ 'store'")
                == [(len(MAILS),)]
            ),
            "it came for them",
        )
        words = "another installation" if other != "empty" else "not the one that holds"
        stack.wait(lambda: readiness(port).get("store") == "failing", "it is not ready")
        stack.wait(lambda: words in said("decryptor"), "the log says why")
        check_told(stack, telling, "store", words)
        assert stack.count("quarantine") == 0
        assert stack.count("outbox") == len(MAILS)
        stack.kill(lost)
        stack.hasten()
        stack.start("decryptor")
        stack.wait_settled(len(MAILS))
        stack.stop()
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(MAILS)


def check_told(stack: Stack, telling: Telling, check: str, words: str) -> None:
    """That a check of the decryptor fails for longer than a restart takes is told everywhere."""
    is_said = "SELECT FROM service WHERE name = 'decryptor' AND failing ? %s"
    stack.wait(lambda: bool(stack.query(is_said, check)), "the heartbeat says so")
    stack.execute("UPDATE service SET failing_since = now() - interval '2 minutes'")
    stack.wait(lambda: bool(telling.hears("service-failing")), "the webhook hears of it")
    assert [words in heard for heard in telling.hears("service-failing")] == [True]
    telling.log_in()
    assert words in telling.page("/")
    series = f'posthouse_service_failing{{check="{check}",service="decryptor"}}'
    stack.wait(lambda: telling.metric("scheduler", series) == 1, "the metric")
    assert telling.fires("PosthouseServiceFailing", "scheduler")


@pytest.mark.promise("I5")
def test_a_fetcher_with_a_wrong_store_leaves_mailboxes_to_others(
    redis_url: str,
    plain_dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    tmp_path: Path,
) -> None:
    """It takes jobs as the others do: what it cannot do fails no connection and waits for no
    back-off, and the mail server is asked for nothing."""
    plain_dovecot.deliver(mail_user, MAILS[:1])
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "decryptor")
    (right,) = stack.start("fetcher")
    connection = stack.watch(plain_dovecot, mail_user)
    stack.wait_settled(1)
    stack.kill(right)
    stack.hasten()
    plain_dovecot.deliver(mail_user, MAILS[1:])
    (wrong,) = stack.start("fetcher", settings={"store_url": f"file://{tmp_path / 'typo'}"})
    said = "SELECT FROM service WHERE name = 'fetcher' AND failing ? 'store'"
    stack.wait(lambda: bool(stack.query(said)), "the overview says what is wrong")
    logins = plain_dovecot.log.read_text().count("Login: ")
    log = stack.log_of("fetcher")
    for _ in range(3):
        before = log.read_text().count("run left to other fetchers")
        stack.hasten()
        stack.wait(
            lambda before=before: log.read_text().count("run left to other fetchers") > before,  # type: ignore[misc]
            "it is left",
        )
    asked = "SELECT health, failures FROM connection_state"
    assert stack.query(asked) == [("working", 0)]
    assert plain_dovecot.log.read_text().count("Login: ") == logins
    assert wrong.poll() is None
    # Which of two gets it next is luck, and each time that it is this one takes longer.
    stack.kill(wrong)
    stack.hasten()
    stack.start("fetcher")
    stack.fetch_now(connection)
    stack.wait_settled(len(MAILS))
    assert stack.query(asked) == [("working", 0)]
    assert stack.count("fetch_run WHERE error IS NOT NULL") == 0
    assert stack.count("alert WHERE subject LIKE 'connection/%%'") == 0


@pytest.mark.promise("I5", "T3")
def test_no_service_is_ready_at_a_store_that_is_another_installations(
    redis_url: str, build_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    """Each says why to readiness, the overview, the alert `service-failing` and
    `posthouse_service_failing`."""
    stack = build_stack(redis_url)
    FileStore(tmp_path / "theirs").mark(uuid.uuid4())
    ports = {name: free_port() for name in ("scheduler", "fetcher", "decryptor", "admin")}
    for name, port in ports.items():
        settings = {"store_url": f"file://{tmp_path / 'theirs'}", "health_port": str(port)}
        if name == "admin":
            settings["port"] = str(free_port())
        stack.start(name, settings=settings)
    for name, port in ports.items():
        stack.wait(
            lambda port=port: readiness(port).get("store") == "failing",  # type: ignore[misc]
            f"{name} is not ready",
        )
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 503
    said = "SELECT name FROM service WHERE failing ->> 'store' ~ 'another installation'"
    stack.wait(lambda: {name for (name,) in stack.query(said)} == set(ports), "each says why")
    stack.execute("UPDATE service SET failing_since = now() - interval '2 minutes'")
    told = "SELECT data ->> 'name' FROM alert WHERE kind = 'service-failing'"
    everyone = [(", ".join(sorted(ports)),)]
    stack.wait(lambda: stack.query(told) == everyone, "one alert of what is one fault")
    line = 'posthouse_service_failing{{check="store",service="{}"}} 1.0'
    stack.wait(
        lambda: (
            (shown := httpx.get(f"http://127.0.0.1:{ports['scheduler']}/metrics").text) != ""
            and all(line.format(name) in shown for name in ports)
        ),
        "the metric of each",
    )
    stack.stop()
    stack.execute("UPDATE service SET failing = '{}', failing_since = NULL")
    with stack.database.transaction() as session:
        services.raise_failing(session)
    over = "SELECT data ->> 'name' FROM alert WHERE kind = 'service-recovered'"
    assert stack.query(over) == everyone, "told once that it is over"


@pytest.mark.promise("I5")
def test_missing_bytes_are_tried_again_counted_and_fail_readiness(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    tmp_path: Path,
) -> None:
    dovecot.deliver(mail_user, MAILS[:4])
    # None of the attempts may count: the second one would be too many.
    stack = build_stack(redis_url, batch_mails="2", decrypt_attempts="1")
    stack.add_handler()
    with Telling(stack, ("scheduler", "fetcher")) as telling:
        stack.watch(dovecot, mail_user)
        stack.wait(lambda: stack.count("message") == 4, "all are in the ledger")
        ((key,),) = stack.query("SELECT raw_key FROM message ORDER BY raw_key LIMIT 1")
        away = tmp_path / "away"
        shutil.move(stack.store / key, away)
        port = telling.start("decryptor")
        stack.wait(
            lambda: (
                stack.query("SELECT count(*) FROM outbox WHERE missing_since IS NOT NULL") == [(2,)]
                and stack.count("outbox") == 2
            ),
            "the others are published, these wait",
        )
        stack.wait(lambda: readiness(port).get("mails") == "failing", "it is not ready")
        check_told(stack, telling, "mails", "lacks mails")
        assert (telling.metric("decryptor", "posthouse_store_misses_total") or 0) >= 2
        assert telling.fires("PosthouseMissingBytes", "decryptor")

        def looked_for(times: float) -> bool:
            stack.hurry()
            return (telling.metric("decryptor", "posthouse_store_misses_total") or 0) >= times

        stack.wait(lambda: looked_for(6), "both are looked for twice more")
        assert stack.count("quarantine") == 0
        shutil.move(away, stack.store / key)
        stack.hurry()
        stack.wait_settled(4)
        stack.stop()
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(MAILS[:4])


def test_after_a_day_somebody_has_to_decide(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    dovecot.deliver(mail_user, MAILS[:1])
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher")
    stack.watch(dovecot, mail_user)
    stack.wait(lambda: stack.count("message") == 1, "it is in the ledger")
    ((key,),) = stack.query("SELECT raw_key FROM message")
    (stack.store / key).unlink()
    stack.query(
        "UPDATE outbox SET missing_since = now() - interval '25 hours' RETURNING message_id"
    )
    stack.start("decryptor")
    stack.wait(lambda: (stack.hurry(), stack.count("quarantine"))[1] == 1, "it is quarantined")
    assert stack.query("SELECT code FROM quarantine") == [("bytes-missing",)]
    ((kind, data),) = stack.query("SELECT kind, data FROM alert WHERE kind = 'mail-quarantined'")
    assert kind == "mail-quarantined"
    assert "not in the store for a day" in data["reason"]


def test_retention_deletes_nothing_in_a_store_that_is_not_ours(
    database: Database, tmp_path: Path
) -> None:
    with database.transaction() as session:
        connection = add_connection(session)
    old = utc_now() - timedelta(days=100)
    theirs = FileStore(tmp_path / "theirs")
    OwnStore(database, FileStore(tmp_path / "ours")).check()
    theirs.mark(uuid.uuid4())
    path = tmp_path / "theirs" / "raw" / f"{old:%Y/%m/%d}" / ("0" * 32)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a mail of somebody else")
    with database.transaction() as session:
        add_message(session, connection, utc_now())
    with pytest.raises(ForeignStore, match="another installation"):
        housekeeping(database, OwnStore(database, theirs), utc_now(), 30)
    assert path.exists()


def test_a_moved_store_is_refused_until_an_administrator_adopts_it(
    database: Database,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours, moved = tmp_path / "ours", tmp_path / "moved"
    OwnStore(database, FileStore(ours)).check()
    with database.transaction() as session:
        add_message(session, add_connection(session), utc_now())
    shutil.copytree(ours, moved)
    OwnStore(database, FileStore(moved)).check()  # moved whole: known by what lies in it
    (moved / "posthouse-store").unlink()
    store = OwnStore(database, FileStore(moved))
    with pytest.raises(ForeignStore) as refused:
        store.check()
    assert "posthouse migrate --adopt-store" in refused.value.hint
    monkeypatch.setenv("POSTHOUSE_DATABASE_URL", database_url)
    monkeypatch.setenv("POSTHOUSE_STORE_URL", f"file://{moved}")
    monkeypatch.setattr("sys.argv", ["posthouse", "migrate", "--adopt-store"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    assert "belongs to this database now" in capsys.readouterr().out
    store.check()
    foreign = FileStore(tmp_path / "foreign")
    foreign.mark(uuid.uuid4())
    adopt_store(database, foreign)
    OwnStore(database, foreign).check()
    with pytest.raises(ForeignStore, match="another installation"):
        store.check()


def test_services_that_start_together_agree_whose_an_empty_store_is(
    database: Database, tmp_path: Path
) -> None:
    """A fresh installation starts four services at once; none may call the store a stranger's."""
    for turn in range(30):
        path, barrier = tmp_path / str(turn), Barrier(4)
        path.mkdir()
        with database.transaction() as session:
            session.execute("DELETE FROM store")

        def start(path: Path = path, barrier: Barrier = barrier) -> None:
            store = OwnStore(database, FileStore(path))
            barrier.wait()
            store.check()

        with ThreadPoolExecutor(4) as services:
            for started in [services.submit(start) for _ in range(4)]:
                started.result()


def test_a_store_with_mails_is_not_taken_for_an_empty_one(
    database: Database, tmp_path: Path
) -> None:
    """A new database beside an old store: housekeeping would drop what no row points to."""
    path = tmp_path / "raw" / "2026" / "01" / "01" / ("0" * 32)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mails")
    with pytest.raises(ForeignStore, match="knows nothing"):
        OwnStore(database, FileStore(tmp_path)).check()


def test_an_object_store_is_recognised_as_a_folder_is(database: Database) -> None:
    """By the library that speaks to buckets, over its store in memory."""
    ours, other = (ObjectStore(StoreSettings(store_url="memory:///")) for _ in range(2))
    OwnStore(database, ours).check()
    with database.transaction() as session:
        add_message(session, add_connection(session), utc_now())
    with pytest.raises(ForeignStore, match="not the one that holds"):
        OwnStore(database, other).check()
    assert other.marker() is None
    other.mark(uuid.uuid4())
    with pytest.raises(ForeignStore, match="another installation"):
        OwnStore(database, other).check()
    assert adopt_store(database, other) == other.marker()
    OwnStore(database, other).check()
