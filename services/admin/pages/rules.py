"""The rules of a handler: changed fact by fact, tried on past mails before they are saved.

Everything is a form that the server writes anew, so that it works without JavaScript, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.auth.route_permissions import OPERATE
from services.admin.operations import handlers as handler_operations
from services.admin.operations import rules as operations
from services.admin.operations.handlers import HandlerView
from services.admin.operations.rules import DryRun
from services.admin.pages.formatting import counted
from services.admin.pages.forms import Form, PostedForm, list_start, whole_number
from services.admin.pages.rendering import redirect, render
from services.admin.pages.request_context import context_of
from shared.errors import InvalidInput
from shared.input_fields import instant
from shared.rules.conditions import FIELDS
from shared.rules.expression import VARIABLES
from shared.rules.ruleset import MOST_RULES, Rules

router = APIRouter(prefix="/handlers")
#: Facts of one rule in the form.
_MOST_FACTS: Final = 30
#: Where a dragged handler was dropped.
_PLACE: Final = re.compile("[0-9]{1,4}")


class _Fact(NamedTuple):
    """One line of the form: a fact, and its values, one on a line."""

    field: str = ""
    values: str = ""


class _Written(NamedTuple):
    """The form as it was written, right or not. Each rule is a list of facts."""

    accept: list[list[_Fact]]
    reject: list[list[_Fact]]
    expression: str


@router.get("/{handler_id:int}/rules", dependencies=[OPERATE])
def edit(request: Request, handler_id: int) -> Response:
    view = handler_operations.get_handler(context_of(request), handler_id)
    return _form(request, view, _of_rules(view.handler.rules))


@router.post("/{handler_id:int}/rules", dependencies=[OPERATE])
def change(request: Request, handler_id: int, form: Form) -> Response:
    """Tries, saves, or writes the form anew with a rule more or less."""
    ctx = context_of(request)
    view = handler_operations.get_handler(ctx, handler_id)
    written = _of_form(form)
    act = form.text("do")
    if act.startswith(("more-", "drop-")):
        return _form(request, view, _changed(written, act))
    changes = {"rules": _to_rules(written)}
    try:
        if act == "try":
            return _form(request, view, written, tried=operations.dry_run(ctx, handler_id, changes))
        handler_operations.update_handler(ctx, handler_id, changes)
    except InvalidInput as error:
        return _form(request, view, written, error=error)
    return redirect(
        f"/handlers/{handler_id}",
        "The rules are saved. They hold for mails from now on; nothing is delivered by that.",
    )


@router.post("/{handler_id:int}/deliver-since", dependencies=[OPERATE])
def deliver_since(request: Request, handler_id: int, form: Form) -> Response:
    back = f"/handlers/{handler_id}"
    try:
        since = instant("since", form.text("since"))
        before = list_start(form.text("before"))
        done = operations.deliver_since(context_of(request), handler_id, since, before=before)
    except InvalidInput as error:
        return redirect(back, f"{error} {error.hint}".strip(), "bad")
    text = f"{counted(done.count, 'mail is', 'mails are')} looked at once more."
    if done.next:
        rest = urlencode({"since": form.text("since"), "before": done.next})
        return redirect(f"{back}?{rest}#past-mails", f"{text} There are older ones.", "warn")
    return redirect(back, text)


@router.post("/{handler_id:int}/move", dependencies=[OPERATE])
def move(request: Request, handler_id: int, form: Form) -> Response:
    """One place up or down in its group, or to a place; goes back to the handler that was looked
    at."""
    back, to = form.ids("back"), form.text("to")
    try:
        moved = operations.move_handler(
            context_of(request),
            handler_id,
            int(to) if _PLACE.fullmatch(to) else "down" if to == "down" else "up",
        )
    except InvalidInput as error:
        return redirect(f"/handlers/{handler_id}", str(error), "bad")
    return redirect(f"/handlers/{back[0] if back else handler_id}", f"{moved.name} was moved.")


def _form(
    request: Request,
    view: HandlerView,
    written: _Written,
    *,
    tried: DryRun | None = None,
    error: InvalidInput | None = None,
) -> Response:
    with_blank = {
        name: [[*facts, _Fact()] for facts in (rules or [[_Fact()]])]
        for name, rules in (("accept", written.accept), ("reject", written.reject))
    }
    return render(
        request,
        "handlers/rules.html",
        422 if error else 200,
        view=view,
        lists=with_blank,
        expression=written.expression,
        first={"accept": 1, "reject": 1 + len(written.accept)},
        tried=tried,
        error=error,
        facts=FIELDS,
        names=list(VARIABLES),
    )


def _of_rules(rules: Rules) -> _Written:
    def facts(rule: Any) -> list[_Fact]:
        return [_Fact(one.field, "\n".join(one.values)) for one in rule.conditions]

    return _Written(
        [facts(rule) for rule in rules.accept],
        [facts(rule) for rule in rules.reject],
        rules.expression,
    )


def _of_form(form: PostedForm) -> _Written:
    return _Written(_rules_of(form, "accept"), _rules_of(form, "reject"), form.text("expression"))


def _rules_of(form: PostedForm, name: str) -> list[list[_Fact]]:
    """Rules in the order of the form; one without a fact is left out."""
    rules = []
    for rule in range(MOST_RULES + 1):
        facts = []
        for number in range(_MOST_FACTS):
            prefix = f"{name}-{rule}-{number}"
            fact = _Fact(form.text(f"{prefix}-fact"), form.text(f"{prefix}-values"))
            if fact.field or fact.values:
                facts.append(fact)
        if facts:
            rules.append(facts)
    return rules


def _changed(written: _Written, act: str) -> _Written:
    """With one rule more (`more-accept`), or without one (`drop-reject-2`)."""
    verb, _, rest = act.partition("-")
    name, _, number = rest.partition("-")
    rules: list[list[_Fact]] = {"accept": written.accept, "reject": written.reject}.get(name, [])
    if verb == "more":
        rules.append([])
    elif (index := whole_number(number)) is not None and index < len(rules):
        del rules[index]
    return written


def _to_rules(written: _Written) -> dict[str, Any]:
    """As the operations take rules. Raises nothing: what is not right is theirs to say."""
    return {
        "accept": _json(written.accept),
        "reject": _json(written.reject),
        "expression": written.expression,
    }


def _json(rules: Sequence[Sequence[_Fact]]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for facts in rules:
        rule: dict[str, list[str]] = {}
        for fact in facts:
            lines = [line.strip() for line in fact.values.splitlines() if line.strip()]
            rule.setdefault(fact.field or "(none chosen)", []).extend(lines)
        found.append(rule)
    return found
