"""What a shell completes: words of the product, and names that the API knows.

A shell asks while somebody types, so that an API that is away, or slow, completes nothing and says
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from cli.client import Api
from shared.connections import Health
from shared.kinds import KINDS
from shared.people import Role

_TIMEOUT_S: Final = 2.0


def healths() -> list[str]:
    return list(Health)


def modes() -> list[str]:
    return [str(mode) for mode in KINDS]


def roles() -> list[str]:
    return list(Role)


def tags(incomplete: str) -> list[str]:
    return _starting(incomplete, lambda api: api.get("connections/tags"))


def handlers(incomplete: str) -> list[str]:
    return named("handlers")(incomplete)


def named(kind: str) -> Callable[[str], list[str]]:
    """Completes the names of one kind of objects; `kind` is its path in the API."""

    def complete(incomplete: str) -> list[str]:
        return _starting(
            incomplete, lambda api: (one["name"] for one in api.get(kind, q=incomplete)["items"])
        )

    return complete


def _starting(incomplete: str, ask: Callable[[Any], Iterable[str]]) -> list[str]:
    try:
        with Api.from_environment(timeout=_TIMEOUT_S) as api:
            found = list(ask(api))
    except Exception:  # a shell that completes shows nothing then, and never a traceback
        return []
    return [one for one in found if one.casefold().startswith(incomplete.casefold())]
