"""What a command that is not there may have meant: what it begins with, or is nearly."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Final

import typer.core

#: Words that people try, and the commands that they mean.
_MEANT: Final = {
    "mail": "messages",
    "mails": "messages",
    "status": "overview",
    "state": "overview",
    "health": "overview",
    "logs": "audit",
    "users": "people",
    "remove": "delete",
    "new": "add",
    "create": "add",
    "add": "upload",
    "search": "list",
    "find": "list",
    "get": "show",
    "update": "edit",
    "change": "edit",
    "retry": "deliver-again",
    "redrive": "deliver-again",
    "replay": "deliver-again",
    "requeue": "deliver-again",
}
#: Characters of the sentence about a command in help: all of it.
_WHOLE: Final = 10_000
#: How alike two words are for one to be a slip of the other.
_ALIKE: Final = 0.75


class Commands(typer.core.TyperGroup):
    """Commands; a word that is none of them is answered with the one that it was most likely, and
    never with one that merely shares some letters: `delete` is no advice to who looks for
    `dead-letters`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        word = args[0] if args else "-"
        if not ctx.resilient_parsing and word[:1] != "-" and word not in self.commands:
            names = " or ".join(f"'{one}'" for one in likely(word, list(self.commands)))
            ctx.fail(f"No such command '{word}'." + (f" Did you mean {names}?" if names else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Each with its whole sentence, in help that is not drawn for a terminal."""
        kept = [(name, one) for name, one in self.commands.items() if not one.hidden]
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(_WHOLE)) for name, one in kept])


def likely(word: str, commands: list[str]) -> list[str]:
    """The commands that `word` may stand for, the likeliest first; at most three."""
    begun = [one for one in commands if one.startswith(word)]
    if begun:
        return begun[:3]
    if (meant := _MEANT.get(word)) in commands:
        return [str(meant)]
    return get_close_matches(word, commands, n=1, cutoff=_ALIKE)
