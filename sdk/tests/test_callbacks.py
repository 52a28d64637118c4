"""Whatever the author wrote is run to its end before its mail is acknowledged, or refused.

For an administrator: a callback that is refused at the start is an error of the handler's own
process. Its mails wait: the handler's page, the alert `handler-backlog-old`,
`posthouse_handler_oldest_seconds` (PosthouseHandlerBehind).
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from posthouse import Consumer, MailEvent, Reject, Retry
from posthouse.callbacks import Callback
from posthouse.testing import make_event, run_in_memory

_HANDLED: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_yet() -> None:
    _HANDLED.clear()


async def coroutine(event: MailEvent) -> None:
    await asyncio.sleep(0.01)
    _HANDLED.append(event.id)


async def with_a_prefix(prefix: str, event: MailEvent) -> None:
    await coroutine(event)


class Handler:
    async def __call__(self, event: MailEvent) -> None:
        await coroutine(event)

    async def handle(self, event: MailEvent) -> None:
        await coroutine(event)


def returns_an_awaitable(event: MailEvent) -> Awaitable[None]:
    return coroutine(event)


class _Awaitable:
    def __init__(self, event: MailEvent) -> None:
        self._event = event

    def __await__(self) -> Iterator[None]:
        yield from coroutine(self._event).__await__()


_POOL = ThreadPoolExecutor(1)


def returns_a_future(event: MailEvent) -> Future[None]:
    return _POOL.submit(asyncio.run, coroutine(event))


@pytest.mark.promise("F5")
@pytest.mark.parametrize(
    "callback",
    [
        coroutine,
        Handler(),
        Handler().handle,
        functools.partial(with_a_prefix, "x"),
        functools.partial(functools.partial(with_a_prefix), "x"),
        lambda event: coroutine(event),
        returns_an_awaitable,
        lambda event: _Awaitable(event),
        returns_a_future,
    ],
)
def test_what_is_awaited_is_handled_before_it_is_acknowledged(callback: Callback) -> None:
    events = [make_event() for _ in range(3)]
    report = run_in_memory(callback, events)
    assert report.acknowledged == _HANDLED == [event.id for event in events]


def test_a_coroutine_rejects_and_retries_as_a_function_does() -> None:
    tries: list[str] = []

    async def handle(event: MailEvent) -> None:
        tries.append(event.headers.subject)
        await asyncio.sleep(0)
        if event.headers.subject == "never":
            raise Reject("no such customer")
        if tries.count("later") < 2:
            raise Retry(60)

    later, never = make_event(subject="later"), make_event(subject="never")
    report = run_in_memory(handle, [later, never])
    assert report.acknowledged == [later.id]
    assert report.dead == [(never.id, "no such customer")]
    assert report.retried == [(later.id, 1)]


def test_coroutines_run_at_the_same_time_on_one_loop_that_lasts() -> None:
    loops: set[int] = set()
    together = 0
    most = 0

    async def handle(event: MailEvent) -> None:
        nonlocal together, most
        loops.add(id(asyncio.get_running_loop()))
        together += 1
        most = max(most, together)
        for _ in range(100):
            if most == 4:
                break
            await asyncio.sleep(0.05)
        together -= 1

    report = run_in_memory(handle, [make_event() for _ in range(8)], concurrency=4)
    assert len(report.acknowledged) == 8
    assert most == 4
    assert len(loops) == 1


def test_the_loop_ends_with_the_consumer() -> None:
    ended = threading.Event()

    async def left_behind() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    kept: list[asyncio.Task[None]] = []

    async def handle(event: MailEvent) -> None:
        kept.append(asyncio.create_task(left_behind()))
        await asyncio.sleep(0)

    run_in_memory(handle, [make_event()])
    assert ended.is_set()
    assert not [t for t in threading.enumerate() if t.name == "posthouse-loop"]


async def async_generator(event: MailEvent) -> AsyncIterator[None]:
    _HANDLED.append(event.id)
    yield


def generator(event: MailEvent) -> Iterator[None]:
    _HANDLED.append(event.id)
    yield


def of_two(event: MailEvent, more: str) -> None: ...


@pytest.mark.promise("F5")
@pytest.mark.parametrize(
    ("callback", "words"),
    [
        (async_generator, "has a `yield`"),
        (generator, "has a `yield`"),
        (functools.partial(generator), "has a `yield`"),
        (of_two, "cannot be called with an event alone"),
        (lambda: None, "cannot be called with an event alone"),
        (Handler, "is a class"),
        ("handle", "cannot be called"),
    ],
)
def test_what_cannot_handle_an_event_is_refused_at_the_start(
    callback: Callable[..., object], words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        run_in_memory(callback, [make_event()])
    with pytest.raises(TypeError, match=words):
        run_in_memory(callback, [])
    # Before anything is taken from a queue: it would not be given back for a while.
    consumer = Consumer("redis://127.0.0.1:1/0", "archive", verify=False)
    consumer.stop()
    with pytest.raises(TypeError, match=words):
        consumer.run(callback)
    with pytest.raises(TypeError, match=words):
        asyncio.run(consumer.run_async(callback))


def test_a_generator_that_is_only_returned_is_no_handled_mail() -> None:
    event = make_event()
    report = run_in_memory(lambda event: generator(event), [event], max_deliveries=2)
    assert report.acknowledged == []
    assert "returned a generator" in report.dead[0][1]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize(
    "callback",
    [
        lambda event: [coroutine(event)],
        lambda event: (coroutine(event), None),
        lambda event: map(coroutine, [event]),
        lambda event: filter(coroutine, [event]),
    ],
    ids=["list", "tuple", "map", "filter"],
)
def test_work_that_is_only_returned_is_no_handled_mail(callback: Callback) -> None:
    """Nobody awaits it or goes through it."""
    report = run_in_memory(callback, [make_event()], max_deliveries=1)
    assert report.acknowledged == []
    assert "nothing ran" in str(report.dead[0])


def test_an_iterator_that_did_its_work_is_handled() -> None:
    """A cursor of a database is one."""
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as database:
        report = run_in_memory(lambda event: database.execute("SELECT 1"), [make_event()])
    assert len(report.acknowledged) == 1


_TYPED = """
from posthouse import Consumer, MailEvent
from posthouse.testing import make_event, run_in_memory

def handle(event: MailEvent) -> None: ...
async def handle_async(event: MailEvent) -> None: ...
class Handler:
    async def __call__(self, event: MailEvent) -> int:
        return 1

consumer = Consumer("redis://localhost", "x")
consumer.run(handle)
consumer.run(handle_async)
consumer.run(Handler())
run_in_memory(handle_async, [make_event()])
"""


#: What a handler uses of an event, and of its own database.
_USED = """\
import sqlite3
from email.message import EmailMessage
from pathlib import Path

from typing_extensions import assert_type

from posthouse import MailEvent
from posthouse.inbox import create_table, forget, is_first_time

def handle(event: MailEvent) -> None:
    assert_type(event.text, str)
    assert_type(event.mail.reply_text, str)
    assert_type(event.html(), str)
    assert_type(event.message(), EmailMessage)
    assert_type(event.is_automatic, bool)
    assert_type(event.reply_headers(), dict[str, str])
    for attachment in event.attachments:
        assert_type(attachment.save(Path("folder")), Path)
        with attachment.open() as stream:
            assert_type(stream.read(), bytes)
    with sqlite3.connect("inbox.db") as connection:
        create_table(connection)
        assert_type(is_first_time(connection, event.id), bool)
        assert_type(forget(connection, 40), int)
"""


def test_type_checkers_take_callbacks_and_know_what_they_use(tmp_path: Path) -> None:
    programs = [tmp_path / "typed.py", tmp_path / "used.py"]
    for program, text in zip(programs, (_TYPED, _USED), strict=True):
        program.write_text(text)
    programs.append(Path(__file__).parents[1] / "examples" / "python_handler.py")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "c"), *programs],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert checked.returncode == 0, checked.stdout
