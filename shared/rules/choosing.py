"""Which handlers get a mail: those whose rules take it, in a group the first one only.

A decision stands: a handler that was chosen keeps the mail, one whose rules left it out does not
get it, whatever the rules say at a later attempt. Only a place in a group is given anew, where the
handler that got it is gone (disabled, deleted, or for other connections by now) and has no mail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Final

from shared.rules.facts import RuleFacts
from shared.rules.ruleset import Rules

#: What stands for the rule that left a mail out, where its group did.
BY_GROUP: Final = "group"
BY_RULES: Final = "rules"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A handler that takes the mail's connection. `group` is empty outside of groups."""

    handler_id: int
    name: str
    rules: Rules = field(default_factory=Rules)
    group: str = ""
    position: int = 0


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A handler that does not get the mail; `by`: BY_RULES or BY_GROUP. `holder`: the handler of
    its group that gets it; None where rules decided, or where that was not noted."""

    handler_id: int
    by: str
    reason: str
    holder: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """`standing`: of those that were chosen before, who stays so, though it may be gone now;
    `unsure`: why a chosen handler gets a mail that its rules could not be asked about."""

    chosen: frozenset[int]
    left_out: tuple[LeftOut, ...]
    unsure: dict[int, str]
    standing: frozenset[int] = frozenset()


def choose(
    candidates: Iterable[Candidate],
    facts: Callable[[], RuleFacts],
    *,
    asked: Set[int],
    delivered: Set[int] = frozenset(),
    chosen: Set[int] = frozenset(),
    left_out: Mapping[int, LeftOut] | None = None,
    gone: Iterable[Candidate] = (),
) -> Choice:
    """Decides about one mail.

    `candidates`: all that take its connection, of whom `asked` are decided about; `gone`: all
    others that there are; `delivered`: who has it already; `chosen` and `left_out` (by handler) are
    what was decided before, and stand. `facts` is asked only where a rule is.
    """
    given: set[int] = set()
    out: list[LeftOut] = []
    unsure: dict[int, str] = {}
    given_anew: set[str] = set()
    ordered = sorted(candidates, key=lambda one: (one.position, one.handler_id))
    others = list(gone)
    to_have = delivered | (chosen & {one.handler_id for one in ordered})
    # Who was left out for another one stays so as long as that one has the mail or gets it, also
    # where it was deleted or is in another group by now.
    before = {
        handler: one
        for handler, one in (left_out or {}).items()
        if one.by == BY_RULES or one.holder in to_have
    }
    holders = _holders(ordered, others, delivered, chosen)
    for one in ordered:
        if one.handler_id not in asked or one.handler_id in delivered:
            continue
        if one.handler_id in before:
            continue
        if one.handler_id in chosen:
            given.add(one.handler_id)
            continue
        verdict = one.rules.judge(facts()) if one.rules else None
        if verdict is not None and verdict.takes is False:
            out.append(LeftOut(one.handler_id, BY_RULES, verdict.reason))
        elif one.group and (holder := holders.get(one.group)):
            reason = f"{holder.name} of the group {one.group} has it"
            out.append(LeftOut(one.handler_id, BY_GROUP, reason, holder.handler_id))
        else:
            given.add(one.handler_id)
            if one.group:
                holders[one.group] = one
                given_anew.add(one.group)
            if verdict is not None and verdict.takes is None:
                unsure[one.handler_id] = verdict.reason
    # Whoever had a place that is given anew does not have it when it comes back.
    former = {one.handler_id for one in others if one.group in given_anew}
    return Choice(frozenset(given), tuple(out), unsure, frozenset(chosen - former))


def _holders(
    candidates: Iterable[Candidate],
    gone: Iterable[Candidate],
    delivered: Set[int],
    chosen: Set[int],
) -> dict[str, Candidate]:
    """By group, the handler that has the mail, or is to have it."""
    found: dict[str, Candidate] = {}
    for one in candidates:
        if one.group and one.handler_id in delivered | chosen:
            found.setdefault(one.group, one)
    for one in gone:
        if one.group and one.handler_id in delivered:
            found.setdefault(one.group, one)
    return found
