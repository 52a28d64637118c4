"""Commands that ask the API of an installation: each takes `--data-dir`, as `up` itself does, for
the folder of the `up` that is meant."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer.core

from cli.local.data_folder import choose_folder
from cli.suggesting import Commands


class ApiCommand(typer.core.TyperCommand):
    """A command of its own that asks the API."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.params.append(_data_dir())


class ApiCommands(Commands):
    """A group of which every command asks the API."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for command in self.commands.values():
            if not isinstance(command, typer.core.TyperGroup):
                command.params.append(_data_dir())


@cache
def _data_dir() -> Any:
    """The option, as typer makes it of a function that has it."""
    described = typer.Typer(add_completion=False)

    @described.command()
    def _any(
        data_dir: Annotated[
            Path | None,
            typer.Option(
                help="The folder of the `up` that is asked, where it is not the usual one. "
                "POSTHOUSE_DATA_DIR says the same.",
                callback=_choose,
                expose_value=False,
                show_default=False,
            ),
        ] = None,
    ) -> None: ...

    return typer.main.get_command(described).params[0]


def _choose(data_dir: Path | None) -> None:
    if data_dir is not None:
        choose_folder(data_dir)
