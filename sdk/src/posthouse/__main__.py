"""`python -m posthouse run MODULE:CALLBACK`: a consumer for a callback, without a line of its own.

Where the broker, Posthouse and the keys are comes from the environment, as in a container:
POSTHOUSE_BROKER_URL, POSTHOUSE_HANDLER, POSTHOUSE_SIGNING_KEY, POSTHOUSE_URL,
POSTHOUSE_HANDLER_TOKEN. Ends with 0 after SIGTERM or SIGINT, with 2 where it cannot begin.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from posthouse.broker_address import SCHEMES
from posthouse.callbacks import refuse_unusable
from posthouse.consumer import Consumer
from posthouse.source import AccessRefused

BROKER_VARIABLE = "POSTHOUSE_BROKER_URL"
HANDLER_VARIABLE = "POSTHOUSE_HANDLER"


class _CannotBegin(Exception):
    """Why, and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        callback = _named(options.callback)
        refuse_unusable(callback)
        hook = _named(options.on_outcome) if options.on_outcome else None
        _consumer(options, hook).run(callback)
    except (_CannotBegin, AccessRefused, ImportError, TypeError, ValueError) as error:
        sys.stderr.write(f"posthouse: {error}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m posthouse", description="Handles mail events.")
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="call a function for every event of a handler's queue")
    run.add_argument("callback", metavar="MODULE:CALLBACK", help="such as tickets:handle")
    run.add_argument("--handler", default=os.environ.get(HANDLER_VARIABLE), help=HANDLER_VARIABLE)
    run.add_argument(
        "--url",
        default=os.environ.get(BROKER_VARIABLE),
        help=f"{SCHEMES} ({BROKER_VARIABLE}, where no other user sees its password)",
    )
    run.add_argument("--concurrency", type=int, default=1, help="callbacks at a time")
    run.add_argument("--timeout", type=float, metavar="SECONDS", help="that a callback may take")
    run.add_argument("--max-deliveries", type=int, default=10)
    run.add_argument(
        "--on-outcome", metavar="MODULE:FUNCTION", help="called with an Outcome after every call"
    )
    run.add_argument(
        "--ordered", action="store_true", help="the mails of one connection one after another"
    )
    return parser


def _consumer(options: argparse.Namespace, on_outcome: Any) -> Consumer:
    for value, option, variable in (
        (options.url, "--url", BROKER_VARIABLE),
        (options.handler, "--handler", HANDLER_VARIABLE),
    ):
        if not value:
            raise _CannotBegin(f"set {variable}, or give {option}")
    return Consumer(
        options.url,
        options.handler,
        concurrency=options.concurrency,
        timeout_s=options.timeout,
        max_deliveries=options.max_deliveries,
        on_outcome=on_outcome,
        order_by=(lambda event: event.connection.id) if options.ordered else None,
    )


def _named(named: str) -> Any:
    """The object that MODULE:FUNCTION names; the module may lie in the current folder."""
    module, colon, path = named.partition(":")
    if not colon or not module or not path:
        raise _CannotBegin(f"{named!r} is no MODULE:CALLBACK, such as tickets:handle")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and what it imports is not
        raise _CannotBegin(f"there is no module {module!r} here or among the packages") from error
    try:
        return reduce(getattr, path.split("."), found)
    except AttributeError as error:
        raise _CannotBegin(f"the module {module!r} has no {path!r}") from error


if __name__ == "__main__":
    sys.exit(main())
