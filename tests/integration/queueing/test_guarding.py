"""The guard of the handlers' queues: what the broker loses is published again from Postgres."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from services.scheduler import queue_guard
from services.scheduler.queue_guard import Guard
from services.scheduler.repeated_errors import RepeatedErrors
from shared.clock import utc_now
from shared.queueing.output import Publication, QueueCounts
from shared.queueing.output.open import open_output
from shared.storage import deliveries, handler_queues, handlers
from shared.storage.pool import Database
from tests.integration.queueing.conftest import eventually
from tests.integration.rows import add_connection, add_handler, add_message
from tests.servers.redis import RedisServer


class Place:
    """A database, a Redis of its own, one handler and the guard of its queue."""

    def __init__(self, database: Database, server: RedisServer, handler: str) -> None:
        self.database, self.server, self.handler = database, server, handler
        self.output = open_output(server.url)
        self.guard = Guard(database, self.output, "redis://here")
        with database.transaction() as session:
            self.connection_id = add_connection(session)
            self.handler_id = add_handler(session, handler, utc_now() - timedelta(minutes=5))
        self.guard.check_all()

    def publish(self, *, recorded: bool = True) -> tuple[uuid.UUID, str]:
        """One mail, published; as the decryptor does it."""
        with self.database.transaction() as session:
            mail = add_message(session, self.connection_id, utc_now())
        body = b'{"id":"%s"}' % str(mail).encode()
        position = self.output.publish([Publication(self.handler, body, str(mail))])[0]
        assert isinstance(position, str), position
        if recorded:
            self.record(mail, position)
        return mail, position

    def record(self, mail: uuid.UUID, position: str) -> None:
        with self.database.transaction() as session:
            deliveries.record_deliveries(session, [(mail, self.handler_id, position)])

    def acknowledge(self) -> list[str]:
        """All that waits, as a handler would; the event ids."""
        client = self.output._client  # type: ignore[attr-defined]
        key = f"posthouse:handler:{self.handler}"
        answer = client.xreadgroup("posthouse", "c", {key: ">"}, count=100)
        entries = answer[0][1] if answer else []
        for position, _ in entries:
            client.xack(key, "posthouse", position)
        return [fields[b"event"].decode()[7:-2] for _, fields in entries]

    def waiting(self) -> set[uuid.UUID]:
        """Mails that are to be published again."""
        with self.database.transaction() as session:
            return {row[0] for row in session.execute("SELECT message_id FROM outbox")}

    def crash_without_the_last_entry(self) -> None:
        self.server.kill()
        file = next((self.server.folder / "appendonlydir").glob("*.incr.aof"))
        content = file.read_bytes()
        file.write_bytes(content[: content.rindex(b"XADD") - len(b"*6\r\n$4\r\n")])
        self.server.start()
        eventually(self._answers)

    def _answers(self) -> bool:
        return self.output.inspect(self.handler).exists


@pytest.fixture
def place(database_url: str, handler: str) -> Iterator[Place]:
    with (
        RedisServer(options=["--appendfsync", "no"]) as server,
        Database(database_url, size=4) as database,
    ):
        made = Place(database, server, handler)
        yield made
        made.output.close()


@pytest.mark.promise("I2")
def test_a_flushed_queue_is_filled_with_what_was_not_acknowledged(place: Place) -> None:
    had, _ = place.publish()
    place.acknowledge()
    place.guard.check_all()
    missing, _ = place.publish()
    place.server.wipe()
    assert place.guard.check_all() == 1
    assert missing in place.waiting()
    assert place.output.inspect(place.handler).exists
    assert place.guard.check_all() == 0, "the same loss is made good twice"
    assert had not in place.waiting(), "what was acknowledged is repeated"


@pytest.mark.promise("I2")
def test_the_end_that_a_crash_took_is_filled_again_though_later_events_were_handled(
    place: Place,
) -> None:
    place.publish()
    place.acknowledge()
    place.guard.check_all()
    lost, _ = place.publish()
    place.crash_without_the_last_entry()
    place.publish()
    assert str(lost) not in place.acknowledge()
    place.guard.check_all()
    assert lost in place.waiting()


@pytest.mark.promise("I2")
def test_so_is_an_event_whose_publishing_was_recorded_only_after_the_restart(place: Place) -> None:
    place.publish()
    place.acknowledge()
    place.guard.check_all()
    lost, position = place.publish(recorded=False)
    place.crash_without_the_last_entry()
    place.publish()
    place.acknowledge()
    place.guard.check_all()
    place.record(lost, position)
    place.guard.check_all()
    assert lost in place.waiting()


@pytest.mark.promise("I2")
def test_what_came_after_the_oldest_that_waits_may_have_been_recorded_before_it(
    place: Place,
) -> None:
    """Of two decryptors the one whose event was first in the queue recorded it last."""
    place.guard.check_all()
    first, position = place.publish(recorded=False)
    second, _ = place.publish()
    place.record(first, position)
    place.guard.check_all()
    place.server.wipe()
    assert place.guard.check_all() == 1
    assert place.waiting() == {first, second}


@pytest.mark.promise("I2")
@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(hours=1)], ids=["alike", "ahead"])
def test_what_is_drained_by_another_clock_is_so_a_minute_ago(
    place: Place, ahead: timedelta
) -> None:
    """RabbitMQ says nothing of time: what is empty now was so by the clock of this machine."""
    with place.database.transaction() as session:
        (name,) = handler_queues.handlers(session)
        remembered = handler_queues.lock(session, name.id)
        assert remembered is not None
        seen = remembered.now + ahead
        state = QueueCounts(exists=True, drained=True, acknowledged_before=seen)
        watermark = place.guard._watermark(session, name, remembered, state)
    assert watermark == remembered.now - queue_guard.CLOCK_MARGIN


@pytest.mark.promise("I2")
def test_a_queue_is_not_made_by_who_was_overtaken(place: Place) -> None:
    """Between its note and the queue itself another scheduler noticed the loss, too."""
    place.server.wipe()
    with place.database.transaction() as session:
        (name,) = handler_queues.handlers(session)
        generation = place.guard._check(session, name)
    assert generation is not None
    assert place.guard.check_all() == 1
    assert not place.guard._make(name, generation)
    assert place.guard.check_all() == 0


@pytest.mark.promise("I2", "I5")
def test_a_queue_that_cannot_be_looked_at_keeps_no_other_from_being_made(place: Place) -> None:
    client = place.output._client  # type: ignore[attr-defined]
    client.set(f"posthouse:handler:{place.handler}", "somebody else's")
    with place.database.transaction() as session:
        add_handler(session, "other", utc_now())
    assert place.guard.check_all() == 1
    assert place.output.inspect("other").exists


def test_a_broker_that_is_away_is_logged_once_a_minute_and_not_for_each_queue(
    place: Place,
) -> None:
    with place.database.transaction() as session:
        add_handler(session, "other", utc_now())
    now = [0.0]
    guard = Guard(place.database, place.output, "redis://here", RepeatedErrors(lambda: now[0]))
    guard.check_all()
    place.server.stop()
    for _ in range(2):  # connections that were open end in words of their own
        guard.check_all()
    logged = []
    for now[0] in (59.0, 61.0, 62.0):
        with capture_logs() as lines:
            guard.check_all()
        logged.append([(one["count"], sorted(one["handlers"])) for one in lines])
    assert logged == [[], [(2, sorted([place.handler, "other"]))], []]


@pytest.mark.promise("I2")
def test_what_waits_at_a_broker_that_is_switched_away_from_is_published_at_the_other(
    place: Place, broker_url: str
) -> None:
    """The other one has a queue of this name already, from before: it is not the one."""
    place.guard.check_all()
    missing, _ = place.publish()
    other = open_output(broker_url)
    other.ensure(place.handler, str(uuid.uuid4()))
    guard = Guard(place.database, other, "another place")
    assert guard.check_all() == 1
    assert place.waiting() == {missing}
    assert guard.check_all() == 0
    other.close()


@pytest.mark.promise("I2")
def test_a_queue_that_somebody_else_made_after_it_was_lost_is_filled(place: Place) -> None:
    """An older copy of the installation, say; events that came since do not hide the loss."""
    place.guard.check_all()
    lost, _ = place.publish()
    place.output.delete(place.handler)
    place.output.ensure(place.handler, str(uuid.uuid4()))
    place.publish()
    assert place.guard.check_all() == 1
    assert lost in place.waiting()


@pytest.mark.promise("I2")
@pytest.mark.parametrize("read", [False, True], ids=["waiting", "in hand"])
def test_entries_that_somebody_deleted_are_published_again(read: bool, place: Place) -> None:
    place.guard.check_all()
    lost = {place.publish()[0] for _ in range(3)}
    key = f"posthouse:handler:{place.handler}"
    client = place.output._client  # type: ignore[attr-defined]
    if read:
        client.xreadgroup("posthouse", "c", {key: ">"})
    client.xtrim(key, maxlen=0, approximate=False)
    assert place.guard.check_all() == 1
    assert place.waiting() == lost
    assert place.guard.check_all() == 0


@pytest.mark.promise("I2")
def test_a_queue_that_somebody_emptied_by_making_it_anew_is_filled(place: Place) -> None:
    """Under the same name and with the same marker: it ends before what was confirmed."""
    place.guard.check_all()
    lost = {place.publish()[0] for _ in range(3)}
    key = f"posthouse:handler:{place.handler}"
    client = place.output._client  # type: ignore[attr-defined]
    client.delete(key)
    client.xgroup_create(key, "posthouse", id="0", mkstream=True)
    assert place.guard.check_all() == 1
    assert place.waiting() == lost


def test_a_restart_that_lost_nothing_repeats_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.publish()
    place.acknowledge()
    place.guard.check_all()
    place.publish()
    place.server.restart()
    eventually(place._answers)
    place.acknowledge()
    for grace in (queue_guard.RESTART_GRACE, timedelta(0)):
        monkeypatch.setattr(queue_guard, "RESTART_GRACE", grace)
        assert place.guard.check_all() == 0
        place.publish()
        place.acknowledge()
    assert place.guard.check_all() == 0
    assert place.waiting() == set()


def test_a_handler_is_deleted_while_somebody_looks_at_its_queue(place: Place) -> None:
    """Who looks holds the queue and asks for the handler at the end; who deleted it held that, and
    Postgres ended one of them."""
    looking, gone = threading.Event(), threading.Event()
    inspect = place.output.inspect

    def slowly(handler: str) -> QueueCounts:
        looking.set()
        locked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

        def waits() -> bool:
            with place.database.transaction() as session:
                return bool(session.execute(locked).fetchone() != (0,))

        eventually(waits)  # for what is held here
        return inspect(handler)

    def delete() -> None:
        looking.wait(30)
        with place.database.transaction() as session:
            handlers.delete(session, place.handler_id)
        gone.set()

    place.output.inspect = slowly  # type: ignore[method-assign]
    deleting = threading.Thread(target=delete)
    deleting.start()
    place.guard.check_all()
    deleting.join(30)
    assert gone.is_set()
    with place.database.transaction() as session:
        assert session.execute("SELECT FROM handler").fetchall() == []
