"""What somebody with rights by tag may do: see and change connections that have one of their tags.

Routes check what their parameters name; here is what bodies name, and how far a change may go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from services.admin.context import Context
from shared.connections import Connection
from shared.errors import InvalidInput

#: Whose mailbox a credential opens, and where.
_OPENED: Final = (
    "mode",
    "credential_id",
    "username",
    "shared_mailbox",
    "host",
    "port",
    "host_override",
)


def sees(ctx: Context, connection: Connection) -> bool:
    """Whether it is of the part of who asks."""
    return not ctx.principal.tags or bool({*ctx.principal.tags} & {*connection.tags})


def visible(ctx: Context, found: Sequence[Connection]) -> list[Connection]:
    """Those of `found` that who asks sees."""
    return [one for one in found if sees(ctx, one)]


def own_tags(ctx: Context, tags: Sequence[str]) -> list[str]:
    """Those of `tags` that who asks may give and take away."""
    return [tag for tag in tags if not ctx.principal.tags or tag in ctx.principal.tags]


def as_copied(ctx: Context, source: Connection) -> Connection:
    """`source` without the tags that who asks may not give to a copy."""
    return replace(source, tags=tuple(own_tags(ctx, source.tags)))


def refuse_beyond(ctx: Context, before: Connection | None, after: Connection) -> None:
    """Raises InvalidInput where a change would reach further than the rights of who asks: out of
    their part, into or out of that of others, to keys of others, or to a mailbox that a credential
    opens and nobody gave them.

    `before` is None for a new one.
    """
    tags = ctx.principal.tags
    if not tags:
        return
    if not sees(ctx, after):
        words = ", ".join(tags)
        raise InvalidInput(
            f"It has to have one of these tags: {words}.",
            field="tags",
            hint="Your rights are for connections with one of them.",
        )
    # A tag is a right to see, change and delete it: only who has it gives it, or takes it away.
    changed = {*after.tags} ^ {*(before.tags if before else ())}
    of_others = sorted(changed - {*tags})
    if of_others:
        raise InvalidInput(
            f"The tag {of_others[0]!r} is not one of yours: it is given and taken away by somebody "
            "who has it.",
            field="tags",
            hint=f"Yours: {', '.join(tags)}.",
        )
    if {*after.certificate_ids} - {*(before.certificate_ids if before else ())}:
        raise InvalidInput(
            "Your rights are for some connections only: certificates are given by somebody else.",
            field="certificate_ids",
        )
    if after.credential_id is not None and (
        before is None or any(getattr(before, n) != getattr(after, n) for n in _OPENED)
    ):
        raise InvalidInput(
            "Your rights are for some connections only: which mailbox a credential opens is said "
            "by somebody else.",
            field="credential_id",
        )
