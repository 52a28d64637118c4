"""The rules of one handler: what it accepts, what it rejects, and what they make of a mail.

It takes a mail that a rule of `accept` fits (any mail where that list is empty), that no rule of
`reject` fits, and for which `expression` is true. Rules are numbered through, `accept` first.
Where a fact is not known the handler gets the mail: one too many can be looked at, one too few is
missed by nobody until it is too late.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

from shared.errors import InvalidInput, Refusals
from shared.input_fields import no_field
from shared.rules import expression as expressions
from shared.rules import expression_names
from shared.rules.conditions import FIELDS, Condition, Truth, all_of, read_condition
from shared.rules.facts import RuleFacts

MOST_RULES: Final = 50
_LONGEST_REASON: Final = 200
_LONGEST_SHOWN: Final = 60
_PARTS: Final = ("accept", "reject", "expression")


class RuleVerdict(NamedTuple):
    """Whether the handler takes the mail (None: cannot be said), and why not."""

    takes: Truth
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """Conditions that must all hold."""

    conditions: tuple[Condition, ...]

    def evaluate(self, facts: RuleFacts) -> Truth:
        return all_of(condition.evaluate(facts) for condition in self.conditions)

    @property
    def sentence(self) -> str:
        return ", ".join(condition.sentence for condition in self.conditions)

    @property
    def label(self) -> str:
        return ", ".join(condition.label for condition in self.conditions)

    def to_json(self) -> dict[str, Any]:
        return {condition.field: condition.to_json() for condition in self.conditions}


@dataclass(frozen=True, slots=True)
class Rules:
    """Without any rule a handler takes every mail of its connections."""

    accept: tuple[Rule, ...] = ()
    reject: tuple[Rule, ...] = ()
    expression: str = ""

    def __bool__(self) -> bool:
        return bool(self.accept or self.reject or self.expression)

    def __str__(self) -> str:
        return " ".join(self.sentences)

    @property
    def asks_headers(self) -> bool:
        """Whether header fields are needed, which the ledger does not keep."""
        asked = any(c.field == "header" for c in self._conditions())
        return asked or "headers" in self.expression

    @property
    def named_connections(self) -> Iterator[tuple[tuple[int | str, ...], str]]:
        """The names of connections that rules ask for, each with its location in the JSON form:
        `("accept", 0, "connection")`. Those at `("expression",)` are compared as they stand."""
        for part, rules in (("accept", self.accept), ("reject", self.reject)):
            for number, rule in enumerate(rules):
                for one in rule.conditions:
                    if one.field == "connection":
                        for name in one.values:
                            yield (part, number, "connection"), name
        for name in expression_names.named(self.expression):
            yield ("expression",), name

    @property
    def sentences(self) -> list[str]:
        """How the rules are read aloud, in the order of their numbers."""
        sentences = [f"Takes mails {rule.sentence}." for rule in self.accept]
        sentences += [f"Never takes mails {rule.sentence}." for rule in self.reject]
        return [*sentences, f"Only where {self.expression}"] if self.expression else sentences

    def judge(self, facts: RuleFacts) -> RuleVerdict:
        """What the rules make of a mail. No answer means that the handler gets it."""
        accepted = self._accepted(facts)
        if accepted is False:
            return RuleVerdict(False, "no rule accepts it")
        unsure = "" if accepted else "a rule that accepts could not be answered"
        for number, rule in enumerate(self.reject, len(self.accept) + 1):
            fits = rule.evaluate(facts)
            if fits:
                return RuleVerdict(False, f"rule {number}, {rule.label}"[:_LONGEST_REASON])
            if fits is None:
                unsure = unsure or f"rule {number} could not be answered"
        if self.expression:
            truth, problem = expressions.evaluate(self.expression, facts)
            if truth is False:
                return RuleVerdict(False, "the expression is not true")
            if truth is None:
                unsure = unsure or f"the expression has no answer: {problem}"
        return RuleVerdict(None, unsure[:_LONGEST_REASON]) if unsure else RuleVerdict(True)

    def to_json(self) -> dict[str, Any]:
        """As the API, the YAML file and the database have them."""
        return {
            "accept": [rule.to_json() for rule in self.accept],
            "reject": [rule.to_json() for rule in self.reject],
            "expression": self.expression,
        }

    def renamed(self, before: str, after: str) -> Rules:
        """The same where a connection has a new name."""

        def of(rule: Rule) -> Rule:
            return Rule(tuple(_renamed(one, before, after) for one in rule.conditions))

        expression = expression_names.renamed(self.expression, before, after)
        return Rules(tuple(map(of, self.accept)), tuple(map(of, self.reject)), expression)

    def not_followed(self, before: str, after: str) -> list[str]:
        """What `renamed` leaves as it is, and may answer otherwise where a connection has a new
        name: parts of the expression, as they are written."""
        return expression_names.not_followed(self.expression, before, after)

    def _accepted(self, facts: RuleFacts) -> Truth:
        if not self.accept:
            return True
        unknown = False
        for rule in self.accept:
            truth = rule.evaluate(facts)
            if truth:
                return True
            unknown = unknown or truth is None
        return None if unknown else False

    def _conditions(self) -> Iterator[Condition]:
        for rule in (*self.accept, *self.reject):
            yield from rule.conditions


def read_rules(value: Any, *, stored: bool = False) -> Rules:
    """Rules from their JSON form; None: no rule. Raises InvalidInput with all that is wrong.

    `stored`: they were checked when they were saved; what would be refused today stays as it was.
    """
    if value is None:
        return Rules()
    if not isinstance(value, Mapping):
        raise InvalidInput("Rules are: accept, reject, expression.", field="rules")
    refusals = Refusals()
    for name in sorted(map(str, value)):
        if name not in _PARTS:
            refusals.add(no_field(name, _PARTS, "handler's rules"))
    accept = _list(value.get("accept"), "accept", 1, refusals, stored=stored)
    reject = _list(value.get("reject"), "reject", 1 + len(accept), refusals, stored=stored)
    given = value.get("expression") or ""
    expression = refusals.read(lambda: _expression(given, stored=stored), "")
    refusals.finish()
    return Rules(accept, reject, expression)


@lru_cache(maxsize=1024)
def stored_rules(text: str) -> Rules:
    """Rules as the database gives them, read once for each version."""
    return read_rules(json.loads(text), stored=True)


def _expression(value: Any, *, stored: bool) -> str:
    if not isinstance(value, str):
        raise InvalidInput("The expression is a text.", field="expression")
    text = value.replace("\r\n", "\n").strip()
    if text and not stored:
        expressions.check(text)
    return text


def _list(
    value: Any, name: str, first: int, refusals: Refusals, *, stored: bool
) -> tuple[Rule, ...]:
    given = [] if value is None else value
    if not isinstance(given, (list, tuple)) or len(given) > MOST_RULES:
        sentence, hint = f"{name!r} is a list of at most {MOST_RULES} rules.", ""
        if isinstance(given, Mapping):
            sentence = f"{name!r} is a list of rules; this is one rule without a list."
            hint = f"In YAML a dash stands before each: {name}: [{{kind: person}}]."
        elif not isinstance(given, (list, tuple)):
            sentence = f"{name!r} is a list of rules; this is {_shown(given)}."
            hint = f"A rule holds facts, each with a colon: {name}: [{{kind: person}}]."
        refusals.add(InvalidInput(sentence, field=name, hint=hint))
        return ()
    return tuple(
        _rule(one, f"{name}[{place}]", first + place, refusals, stored=stored)
        for place, one in enumerate(given)
    )


def _rule(value: Any, field: str, number: int, refusals: Refusals, *, stored: bool) -> Rule:
    """The rule with this number; `field` is what it is called in errors."""
    if not isinstance(value, Mapping) or not value:
        sentence, hint = f"Rule {number} holds no fact.", f"One of: {', '.join(FIELDS)}."
        if value and not isinstance(value, Mapping):
            sentence = f"Rule {number} is {_shown(value)}, and no fact with its value."
            hint = f"A fact stands with a colon, such as kind: person. {hint}"
        refusals.add(InvalidInput(sentence, field=field, hint=hint))
        return Rule(())
    found: list[Condition] = []
    for name, one in value.items():
        try:
            found.append(read_condition(str(name), one, stored=stored))
        except InvalidInput as error:
            sentence = f"Rule {number}, {error}"
            refusals.add(InvalidInput(sentence, field=f"{field}.{name}", hint=error.hint))
    order = list(FIELDS)
    return Rule(tuple(sorted(found, key=lambda one: order.index(one.field))))


def _shown(value: Any) -> str:
    """What stands where something else belongs, for a sentence."""
    if isinstance(value, str):
        return f"the text {value[:_LONGEST_SHOWN]!r}"
    return "a list" if isinstance(value, (list, tuple)) else repr(value)[:_LONGEST_SHOWN]


def _renamed(condition: Condition, before: str, after: str) -> Condition:
    if condition.field != "connection":
        return condition
    values = [after if v.casefold() == before.casefold() else v for v in condition.values]
    return Condition(condition.field, tuple(dict.fromkeys(values)))
