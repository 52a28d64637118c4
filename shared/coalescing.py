"""One piece of work for several threads at once: what comes while it runs joins the next one.

Nobody waits for others to come: the first begins at once, alone. Those that come meanwhile wait for
its end, and one of them does the work for all of them. There is no thread and no timer.
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import structlog

_log = structlog.get_logger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Caller(Generic[Item, Result]):
    """One thread's part. `turn` is held until it is done, or is its to do."""

    __slots__ = ("alone", "done", "error", "item", "result", "turn")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.turn = threading.Lock()
        self.turn.acquire()
        self.done = False
        self.alone = False
        self.result: Result
        self.error: Exception | None = None


class Combiner(Generic[Item, Result]):
    """Call it with an item; the answer is what `work` made of that one. Thread-safe.

    `work` takes some items and gives a result for each, in their order. Where it raises for several
    of them, each is done alone, in the thread it came from: one that fails fails for itself, with
    an error of its own. Where it raises one of `final` (it is not known what was done, or it would
    fail for all), nothing is repeated, and each gets a copy of it.

    `most` items at most are done at once, and `largest` of what `size` says of them, except for one
    alone. With `leaders`, so many threads do such work at the same time.

    `afterwards` is called with the items that were done and their results, in the thread that did
    them: nobody but that one waits for its end. What it raises is raised there.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        final: tuple[type[Exception], ...] = (),
        most: int = 64,
        largest: int = 1 << 62,
        size: Callable[[Item], int] = lambda _: 1,
        leaders: int = 1,
        afterwards: Callable[[Sequence[Item], Sequence[Result]], None] = lambda _items, _: None,
    ) -> None:
        self._work = work
        self._afterwards = afterwards
        self._final = final
        self._most = most
        self._largest = largest
        self._size = size
        self._lock = threading.Lock()
        self._leaders = leaders
        self._leading = 0
        self._waiting: deque[_Caller[Item, Result]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for the end of what runs."""
        return len(self._waiting)

    def __call__(self, item: Item) -> Result:
        """Raises what `work` raised for this item."""
        member: _Caller[Item, Result] = _Caller(item)
        with self._lock:
            waits = self._leading == self._leaders
            if waits:
                self._waiting.append(member)
            else:
                self._leading += 1
        if waits:
            member.turn.acquire()
        if not member.done and not member.alone:
            self._lead(member)
        if member.alone:
            (result,) = self._work([item])
            self._afterwards([item], [result])
            return result
        if member.error is not None:
            raise member.error
        return member.result

    def _lead(self, first: _Caller[Item, Result]) -> None:
        """Does the work for all that wait, then lets the next one do it for who came meanwhile."""
        members = self._gather(first)
        try:
            results = self._work([member.item for member in members])
            for member, result in zip(members, results, strict=True):
                member.result = result
                member.done = True
        except self._final as error:
            for member in members:
                member.error = error if member is first else _copied(error)
                member.done = True
        except Exception as error:  # one item may be the cause: each is tried alone
            alone = len(members) == 1
            if not alone:
                _log.warning("batch split after a failure", exc_info=error)
            for member in members:
                member.error, member.done, member.alone = error, alone, not alone
        except BaseException:
            for member in members:
                member.alone = True
            raise
        finally:
            self._pass_on()
            for member in members:
                member.turn.release()
        if first.done and first.error is None:
            self._afterwards([one.item for one in members], [one.result for one in members])

    def _gather(self, first: _Caller[Item, Result]) -> list[_Caller[Item, Result]]:
        members, total = [first], self._size(first.item)
        with self._lock:
            while self._waiting and len(members) < self._most:
                total += self._size(self._waiting[0].item)
                if total > self._largest:
                    break
                members.append(self._waiting.popleft())
        return members

    def _pass_on(self) -> None:
        with self._lock:
            successor = self._waiting.popleft() if self._waiting else None
            if successor is None:
                self._leading -= 1
        if successor is not None:
            successor.turn.release()


def _copied(error: Exception) -> Exception:
    """For another mailbox's run: what that adds to it (its protocol) is not told of this one."""
    return copy.copy(error)
