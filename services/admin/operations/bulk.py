"""One change to many connections, an outcome for each: what fails keeps no other from being done.

A call takes `MOST` at a time, so that whoever asks shows progress between calls and can stop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from services.admin.context import Context
from services.admin.operations import connection_tests
from services.admin.operations import connections as one_by_one
from services.admin.operations.connection_views import get_connection
from services.admin.operations.enabling import AcknowledgementNeeded
from services.admin.operations.start_from import Start
from services.admin.operations.tag_rights import visible
from shared import input_fields as typed
from shared.connection_editing import FIELDS
from shared.errors import InvalidInput, NotFound, PosthouseError
from shared.storage import connections

MOST: Final = 100
#: Mail servers that one call asks at the same time.
_TOGETHER: Final = 8


class Action(StrEnum):
    CHANGE = "change"
    ENABLE = "enable"
    DISABLE = "disable"
    TEST = "test"
    FETCH = "fetch"


class Status(StrEnum):
    DONE = "done"
    UNCHANGED = "unchanged"  # it was so before
    ASKS = "asks"  # enabling would download mails: acknowledge it, or choose another start
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk:
    """What is done to each. The fields from `interval_minutes` on belong to `change`, the last two
    to `enable`; what is added is not taken away again."""

    action: Action
    interval_minutes: int | None = None
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    add_certificates: tuple[int, ...] = ()
    remove_certificates: tuple[int, ...] = ()
    acknowledged: bool = False
    start_from: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkOutcome:
    """What became of one connection; `new` is how many mails enabling would download."""

    id: int
    name: str
    status: Status
    text: str = ""
    hint: str = ""
    new: int | None = None


@dataclass(frozen=True, slots=True)
class _Work:
    ctx: Context
    bulk: Bulk
    names: Mapping[int, str] = field(default_factory=dict)

    def outcome(self, connection_id: int) -> BulkOutcome:
        name = self.names.get(connection_id, str(connection_id))
        try:
            if connection_id not in self.names:  # or none of who asks
                raise NotFound(f"There is no connection {connection_id}.")
            status, text = self._do(connection_id)
        except AcknowledgementNeeded as needed:
            return BulkOutcome(
                id=connection_id,
                name=name,
                status=Status.ASKS,
                text=str(needed),
                new=needed.estimate.new,
            )
        except PosthouseError as error:
            return BulkOutcome(
                id=connection_id, name=name, status=Status.FAILED, text=str(error), hint=error.hint
            )
        return BulkOutcome(id=connection_id, name=name, status=status, text=text)

    def _do(self, connection_id: int) -> tuple[Status, str]:
        ctx, bulk = self.ctx, self.bulk
        match bulk.action:
            case Action.CHANGE:
                return self._change(connection_id)
            case Action.FETCH:
                one_by_one.fetch_connection(ctx, connection_id)
                return Status.DONE, "It is due now."
            case Action.TEST:
                report = connection_tests.test(ctx, None, connection_id)
                if report.ok:
                    return Status.DONE, "The mailbox opens."
                failed = next(step for step in report.steps if step.status == "failed")
                raise PosthouseError(f"{failed.title}: {failed.text}", hint=failed.hint)
        enabled = get_connection(ctx, connection_id).connection.enabled
        if enabled is (bulk.action is Action.ENABLE):
            return Status.UNCHANGED, "It was so before."
        if bulk.action is Action.DISABLE:
            one_by_one.disable_connection(ctx, connection_id)
            return Status.DONE, "No mail is fetched."
        saved = one_by_one.enable_connection(
            ctx, connection_id, acknowledged=bulk.acknowledged, start_from=bulk.start_from
        )
        return Status.DONE, saved.notice

    def _change(self, connection_id: int) -> tuple[Status, str]:
        bulk = self.bulk
        now = get_connection(self.ctx, connection_id).connection
        wanted: dict[str, Any] = {
            "tags": sorted({*now.tags, *bulk.add_tags} - {*bulk.remove_tags}),
            "certificate_ids": sorted(
                {*now.certificate_ids, *bulk.add_certificates} - {*bulk.remove_certificates}
            ),
        }
        if bulk.interval_minutes is not None:
            wanted["interval_minutes"] = bulk.interval_minutes
        changes = {
            name: value
            for name, value in wanted.items()
            if value != (list(old) if isinstance(old := getattr(now, name), tuple) else old)
        }
        if not changes:
            return Status.UNCHANGED, "It was so before."
        one_by_one.update_connection(self.ctx, connection_id, changes)
        labels = ", ".join(FIELDS[name].about.label for name in changes)
        return Status.DONE, f"Changed: {labels}."


def bulk_of(given: Mapping[str, Any]) -> Bulk:
    """What somebody gave, checked. Raises InvalidInput that names the field."""
    action = typed.choice(Action, given.get("action"), "action")
    allowed = {
        Action.CHANGE: {
            "interval_minutes",
            "add_tags",
            "remove_tags",
            "add_certificates",
            "remove_certificates",
        },
        Action.ENABLE: {"acknowledged", "start_from"},
    }.get(action, set())
    used = {name for name, value in given.items() if value not in (None, [], False, "")}
    odd = sorted(used - allowed - {"action", "ids"})
    if odd:
        raise InvalidInput(f"{str(action)!r} has no use for {odd[0]!r}.", field=odd[0])
    if action is Action.CHANGE and not used & allowed:
        raise InvalidInput("Say what to change.", field="action")
    interval = given.get("interval_minutes")
    start_from = given.get("start_from")
    if start_from:
        Start.parse(start_from)
    return Bulk(
        action=action,
        interval_minutes=None if interval is None else FIELDS["interval_minutes"].parse(interval),
        add_tags=_tags(given, "add_tags"),
        remove_tags=_tags(given, "remove_tags"),
        add_certificates=typed.ids("add_certificates", given.get("add_certificates") or []),
        remove_certificates=typed.ids(
            "remove_certificates", given.get("remove_certificates") or []
        ),
        acknowledged=typed.truth("acknowledged", given.get("acknowledged", False)),
        start_from=start_from or None,
    )


def change_many(ctx: Context, ids: Sequence[int], bulk: Bulk) -> list[BulkOutcome]:
    """Does it to each of these, at most `MOST`; in the order given."""
    with ctx.transaction() as session:
        names = {one.id: one.name for one in visible(ctx, connections.get_many(session, ids))}
    work = _Work(ctx, bulk, names)
    if bulk.action not in (Action.TEST, Action.ENABLE):
        return [work.outcome(one) for one in ids]
    with ThreadPoolExecutor(min(_TOGETHER, max(1, len(ids)))) as threads:
        return list(threads.map(work.outcome, ids))


def _tags(given: Mapping[str, Any], name: str) -> tuple[str, ...]:
    try:
        found: tuple[str, ...] = FIELDS["tags"].parse(given.get(name) or [])
    except InvalidInput as error:
        raise InvalidInput(str(error).replace("'tags'", repr(name)), field=name) from error
    return found
