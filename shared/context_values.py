"""Values that go with a piece of work, whatever functions it passes through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

T = TypeVar("T")


class ContextValue(Generic[T]):
    """One of them: none outside of every `bound` block. Threads have it where the work was started
    in a copy of the context (`contextvars.copy_context`)."""

    def __init__(self, name: str) -> None:
        self._value: ContextVar[T | None] = ContextVar(name, default=None)

    def get(self) -> T | None:
        return self._value.get()

    @contextmanager
    def bound(self, value: T) -> Iterator[T]:
        """The block has `value`; what was there before is there again behind it."""
        token = self._value.set(value)
        try:
            yield value
        finally:
            self._value.reset(token)
