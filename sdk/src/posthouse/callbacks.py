"""Calling what the author of a handler wrote: a function, or a coroutine function."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from posthouse.event import MailEvent
from posthouse.workers import TimeLimit, too_long

#: `def handle(event)` or `async def handle(event)`; also an object with `__call__`, or a partial.
#: What it returns is of no interest, but that an awaitable is awaited.
Callback = Callable[[MailEvent], object]

#: Seconds that tasks left behind get to be cancelled in when the consumer ends.
_CANCEL_S = 5.0


def refuse_unusable(callback: Callback) -> None:
    """Raises TypeError where calling it with an event could not handle the event."""
    if not callable(callback):
        raise TypeError(f"the callback is {type(callback).__name__!r}, which cannot be called")
    function = _function_of(callback)
    if inspect.isclass(function):
        raise TypeError(
            f"the callback {_name(callback)} is a class: calling it would make an object and "
            "handle nothing. Give a method of one."
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"the callback {_name(callback)} has a `yield`: calling it would run nothing of it. "
            "Write a function or a coroutine function that handles one event."
        )
    try:
        signature = inspect.signature(callback)
    except (TypeError, ValueError):
        return  # built in: it says so when it is called
    try:
        signature.bind(None)
    except TypeError as error:
        raise TypeError(
            f"the callback {_name(callback)}{signature} cannot be called with an event alone: "
            f"{error}"
        ) from None


class Caller:
    """Calls back in the calling thread, and awaits what comes of it. Thread-safe.

    Coroutines run on `loop`, or on an event loop in a thread of its own, made for the first one
    and kept until `close`: clients and pools that belong to a loop last as long as the consumer.
    """

    def __init__(
        self,
        callback: Callback,
        *,
        timeout_s: float | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        refuse_unusable(callback)
        self._callback = callback
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._loop = loop
        self._thread: threading.Thread | None = None
        self._awaited: set[Future[None]] = set()

    def __call__(self, event: MailEvent, limit: TimeLimit) -> None:
        """Returns when the event is handled, whatever the callback is; raises what it raises, and
        TimedOut where `limit` expired or what it awaits takes longer than `timeout_s`."""
        with limit:
            result = self._callback(event)
        if inspect.isawaitable(result):
            self._await(result)
        elif isinstance(result, Future):
            try:
                result.result(self._timeout_s)
            except TimeoutError:
                if result.done() or self._timeout_s is None:
                    raise
                result.cancel()
                raise too_long(self._timeout_s) from None
        elif (what := _what_never_ran(result)) is not None:
            raise TypeError(
                f"the callback {_name(self._callback)} returned {what}, of which nothing ran"
            )

    def close(self) -> None:
        """Cancels what is left running, and ends the loop where it is our own."""
        with self._lock:
            left, loop, thread = list(self._awaited), self._loop, self._thread
            self._loop = None
        for future in left:
            future.cancel()
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(2 * _CANCEL_S)  # a coroutine may block it

    def _await(self, result: Any) -> None:
        coroutine = _finished(result, self._timeout_s)
        future = asyncio.run_coroutine_threadsafe(coroutine, self._running_loop())
        with self._lock:
            self._awaited.add(future)
        try:
            future.result()
        finally:
            with self._lock:
                self._awaited.discard(future)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run, args=(self._loop,), name="posthouse-loop", daemon=True
                )
                self._thread.start()
            return self._loop


def _what_never_ran(result: object) -> str | None:
    """What a callback returned in place of doing its work; None where that can be told of nothing.

    Other iterators may be anything: a cursor of a database, a file.
    """
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        return "a generator"
    if isinstance(result, map | filter):
        return f"a {type(result).__name__}"
    if isinstance(result, list | tuple | set | frozenset) and any(map(inspect.iscoroutine, result)):
        return "coroutines that it did not await (asyncio.gather does)"
    return None


async def _finished(result: Any, timeout_s: float | None) -> None:
    try:
        async with asyncio.timeout(timeout_s) as scope:
            await result
    except TimeoutError:
        if scope.expired() and timeout_s is not None:
            raise too_long(timeout_s) from None
        raise


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=_CANCEL_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _function_of(callback: Any) -> Any:
    """What runs when it is called: behind partials, and an object's `__call__`."""
    while isinstance(callback, functools.partial):
        callback = callback.func
    if inspect.isroutine(callback) or inspect.isclass(callback):
        return callback
    return _function_of(callback.__call__)


def _name(callback: object) -> str:
    return getattr(callback, "__qualname__", repr(callback))
