"""`posthouse tail`: watch what a handler's queue gets, without taking anything from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.client import Api
from cli.completing import handlers
from shared.errors import InvalidInput, NotFound, PosthouseError, TryAgain
from shared.quantities import sized
from shared.untrusted_text import json_shown, shown

if TYPE_CHECKING:
    from posthouse import MailEvent

_TIMEOUT_S: Final = 5.0  # seconds that the API may take


def tail(
    handler: Annotated[str, typer.Argument(help="The handler's name.", autocompletion=handlers)],
    backlog: Annotated[
        bool, typer.Option("--backlog", help="Begin with what still waits (Redis).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON event a line.")] = False,
) -> None:
    """Follows a handler's queue: shows every event as it is published, takes none away.

    Signatures are not checked: it shows what is there, whoever put it there.

    Looks at POSTHOUSE_OUTPUT_URL or POSTHOUSE_BROKER_URL, else at the `up` of this machine.
    """
    _refuse_unknown(handler)
    for event in _events(_output_url(), handler, backlog):
        if as_json:
            # Written anew, so that every event is one line whatever its sender made of it.
            typer.echo(json_shown(json.loads(event.to_json())))
        else:
            line = f"{event.time:%H:%M:%S}  {event.headers.sender}  {event.headers.subject}"
            secured = "" if event.security.status == "none" else f"  [{event.security.status}]"
            typer.echo(shown(f"{line}{secured}  {sized(event.size)}  {event.id}"))


def _refuse_unknown(handler: str) -> None:
    """A queue that nobody has is silent for ever. Raises NotFound; where the API is not in reach,
    or may not be asked, the queue is followed all the same."""
    try:
        api = Api.from_environment(timeout=_TIMEOUT_S)
    except PosthouseError:
        return
    with api:
        try:
            api.named("handlers", handler)
        except NotFound:
            raise
        except PosthouseError:
            return


def _events(url: str, handler: str, backlog: bool) -> Iterator[MailEvent]:
    from posthouse import AccessRefused, InvalidEvent, SourceLost, follow

    try:
        yield from follow(url, handler, backlog=backlog, verify=False)
    except (ValueError, AccessRefused, InvalidEvent) as error:
        raise InvalidInput(f"The queue of {handler!r} cannot be followed: {error}") from error
    except SourceLost as error:
        raise TryAgain(
            f"The queue of {handler!r} is out of reach: {error}", hint="Is the broker running?"
        ) from error
    except ImportError as error:
        raise PosthouseError(str(error)) from error


def _output_url() -> str:
    from cli.local.data_folder import chosen_folder, local_output
    from shared.settings import OutputSettings, load

    if (folder := chosen_folder()) is not None:
        return local_output(folder)
    chosen = load(OutputSettings)
    url = chosen.output_url or chosen.broker_url
    return url.get_secret_value() if url else local_output()
