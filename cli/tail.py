"""`posthouse tail`: watch what a handler's queue gets, without taking anything from it."""

from __future__ import annotations

from typing import Annotated

import typer


def tail(
    handler: Annotated[str, typer.Argument(help="The handler's name.")],
) -> None:
    """Follows a handler's queue: every event as it is published, nothing is consumed."""
    raise NotImplementedError
