"""The rules of a handler in a form: what was written, right or not, and the form anew with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from services.admin.pages.forms import PostedForm, whole_number
from shared.rules.conditions import FIELDS
from shared.rules.expression import VARIABLES
from shared.rules.ruleset import MOST_RULES, Rules

#: Facts of one rule in the form.
_MOST_FACTS: Final = 30


class _Fact(NamedTuple):
    """One line of the form: a fact, and its values, one on a line."""

    field: str = ""
    values: str = ""


class Written(NamedTuple):
    """The form as it was written, right or not. Each rule is a list of facts; `pressed` is the
    button that was, without the number of a rule: `more-accept`, `drop-reject`."""

    accept: list[list[_Fact]]
    reject: list[list[_Fact]]
    expression: str
    pressed: str = ""


#: No rule at all.
NOTHING: Final = Written([], [], "")


def is_of_rules(act: str) -> bool:
    """Whether a button of these fields was pressed: one rule more, or less."""
    return act.startswith(("more-", "drop-"))


def in_template(written: Written) -> dict[str, Any]:
    """What `handlers/_rule_fields.html` needs: each rule with room for one fact more."""
    return {
        "lists": {
            name: [[*(facts or [_Fact()]), _Fact()] for facts in (rules or [[]])]
            for name, rules in (("accept", written.accept), ("reject", written.reject))
        },
        "expression": written.expression,
        "pressed": written.pressed,
        "first": {"accept": 1, "reject": 1 + len(written.accept)},
        "facts": FIELDS,
        "names": list(VARIABLES),
    }


def of_rules(rules: Rules) -> Written:
    def facts(rule: Any) -> list[_Fact]:
        return [_Fact(one.field, "\n".join(one.values)) for one in rule.conditions]

    return Written(
        [facts(rule) for rule in rules.accept],
        [facts(rule) for rule in rules.reject],
        rules.expression,
    )


def of_form(form: PostedForm) -> Written:
    return Written(_rules_of(form, "accept"), _rules_of(form, "reject"), form.text("expression"))


def _rules_of(form: PostedForm, name: str, without: int | None = None) -> list[list[_Fact]]:
    """Rules in the order of the form; one without a fact is left out, as is the one of the number
    `without` there."""
    rules = []
    for rule in range(MOST_RULES + 1):
        facts = []
        for number in range(_MOST_FACTS):
            prefix = f"{name}-{rule}-{number}"
            fact = _Fact(form.text(f"{prefix}-fact"), form.text(f"{prefix}-values"))
            if fact.field or fact.values:
                facts.append(fact)
        if facts and rule != without:
            rules.append(facts)
    return rules


def changed(form: PostedForm, act: str) -> Written:
    """As it was written, with one rule more (`more-accept`), or without one (`drop-reject-2`)."""
    verb, _, rest = act.partition("-")
    name, _, number = rest.partition("-")
    rules = {
        one: _rules_of(form, one, whole_number(number) if verb == "drop" and one == name else None)
        for one in ("accept", "reject")
    }
    if verb == "more" and name in rules:
        rules[name].append([])
    return Written(**rules, expression=form.text("expression"), pressed=f"{verb}-{name}")


def to_rules(written: Written) -> dict[str, Any]:
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
