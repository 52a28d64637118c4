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

    Coroutines run on one event loop in a thread of its own, made for the first one and kept until
    `close`: clients and pools that belong to a loop last as long as the consumer.
    """

    def __init__(self, callback: Callback) -> None:
        refuse_unusable(callback)
        self._callback = callback
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __call__(self, event: MailEvent) -> None:
        """Returns when the event is handled, whatever the callback is; raises what it raises."""
        result = self._callback(event)
        if inspect.isawaitable(result):
            asyncio.run_coroutine_threadsafe(_awaited(result), self._running_loop()).result()
        elif isinstance(result, Future):
            result.result()
        elif inspect.isgenerator(result) or inspect.isasyncgen(result):
            raise TypeError(
                f"the callback {_name(self._callback)} returned a generator, of which nothing ran"
            )

    def close(self) -> None:
        """Cancels what is left running, and ends the loop."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run, args=(self._loop,), name="posthouse-loop", daemon=True
                )
                self._thread.start()
            return self._loop


async def _awaited(result: Any) -> None:
    await result


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
