"""Pipelines two steps over a sequence: while one item is kept, the next one is read.

A mail server, the store's disk and Postgres otherwise wait for each other in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from contextvars import copy_context
from typing import Any, TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found", bound=AbstractContextManager[Any])
Kept = TypeVar("Kept")


def pipelined(
    items: Sequence[Item],
    read: Callable[[Item], Found],
    keep: Callable[[Found], Kept],
    ended: Callable[[], bool],
) -> Generator[Kept, None, None]:
    """What `keep` makes of what `read` finds, in order; asks once before each item whether it
    `ended`.

    `read` is called in the caller's thread and `keep` in another one, each for one item at a time;
    `keep` closes what it is given. Where one is not kept, none behind it is. Close the iterator
    (`contextlib.closing`): that waits for what is in hand.
    """
    if len(items) == 1:
        if not ended():
            yield keep(read(items[0]))
        return
    earlier: Future[Kept] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="keep") as behind:
        for item in items:
            if ended():
                break
            with ExitStack() as unless_kept:
                try:
                    found = unless_kept.enter_context(read(item))
                finally:
                    # A failure to keep is told before a failure to read: it is ours.
                    done = [earlier.result()] if earlier else []
                unless_kept.pop_all()
                earlier = behind.submit(copy_context().run, keep, found)
            yield from done
        if earlier:
            yield earlier.result()
