"""Places in groups at a later attempt: who holds one, and when it is given anew."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import pytest

from shared.rules.choosing import BY_GROUP, Candidate, Choice, choose
from shared.rules.facts import RuleFacts

FIRST = Candidate(1, "first", group="desk", position=1)
SECOND = Candidate(2, "second", group="desk", position=2)
ALONE = Candidate(3, "alone")
OTHER = Candidate(4, "other", group="shop")
EVERYBODY = (FIRST, SECOND, ALONE, OTHER)
#: What was decided when all of them were there.
CHOSEN = frozenset({1, 3, 4})
LEFT_OUT = {2: BY_GROUP}


def again(
    gone: Iterable[Candidate],
    *,
    deleted: Iterable[Candidate] = (),
    delivered: Iterable[int] = (),
    chosen: frozenset[int] = CHOSEN,
) -> Choice:
    """A later attempt for a mail, when some are disabled, or deleted."""
    away = {one.handler_id for one in (*gone, *deleted)}
    there = [one for one in EVERYBODY if one.handler_id not in away]
    asked = {one.handler_id for one in there}
    had = set(delivered)
    return choose(
        there, RuleFacts, asked=asked, delivered=had, chosen=chosen, left_out=LEFT_OUT, gone=gone
    )


@pytest.mark.promise("R1", "I3")
def test_the_place_of_who_is_gone_is_given_anew_only_where_it_does_not_have_the_mail() -> None:
    assert again([FIRST]).chosen == {2, 3, 4}
    assert again([FIRST], delivered=[1]).chosen == {3, 4}
    assert again([FIRST], delivered=[1, 4]).chosen == {3}
    # Nor where it lost its connection or was deleted: of which group it was nobody knows any more.
    assert again([], deleted=[FIRST], delivered=[1]).chosen == {3, 4}
    assert again([], deleted=[FIRST], delivered=[3]).chosen == {2, 4}
    # The place may have been of one that is gone without the mail: not to nobody.
    assert again([FIRST], deleted=[ALONE], delivered=[3]).chosen == {2, 4}


def test_who_lost_its_place_does_not_get_the_mail_when_it_comes_back() -> None:
    anew = again([FIRST])
    assert choose(
        EVERYBODY, RuleFacts, asked={1, 2, 3, 4}, chosen=anew.chosen | anew.standing
    ).chosen == {2, 3, 4}


def test_a_place_that_is_given_anew_takes_no_decision_from_others_that_are_away() -> None:
    assert again([FIRST, ALONE, OTHER]).standing == {3, 4}
    assert again([ALONE]).standing == CHOSEN  # nothing is given anew


@pytest.mark.promise("R1", "I3")
def test_whoever_is_away_and_has_the_mail_no_group_has_it_twice_or_not_at_all() -> None:
    """Of each group, of what has it and what gets it there is one, if one of it is there."""
    for count in range(len(EVERYBODY)):
        for away in combinations(EVERYBODY, count):
            for had in ({1}, {3}, {1, 3}, {1, 4}, {1, 3, 4}, set[int]()):
                found = again(away, delivered=had).chosen
                left = {1, 2, 3, 4} - {one.handler_id for one in away}
                desk = len(found & {1, 2}) + len(had & {1, 2})
                assert desk == 1 or (desk == 0 and not left & {1, 2}), (away, had)
                assert (3 in found) == (3 in left - had), (away, had)
