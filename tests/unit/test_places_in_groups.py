"""Places in groups at a later attempt: who holds one, and when it is given anew."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import pytest

from shared.rules.choosing import BY_GROUP, Candidate, Choice, LeftOut, choose
from shared.rules.facts import RuleFacts

FIRST = Candidate(1, "first", group="desk", position=1)
SECOND = Candidate(2, "second", group="desk", position=2)
ALONE = Candidate(3, "alone")
OTHER = Candidate(4, "other", group="shop")
LAST = Candidate(5, "last", group="shop", position=9)
EVERYBODY = (FIRST, SECOND, ALONE, OTHER, LAST)
#: What was decided when all of them were there.
CHOSEN = frozenset({1, 3, 4})
LEFT_OUT = {2: LeftOut(2, BY_GROUP, "", 1), 5: LeftOut(5, BY_GROUP, "", 4)}


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
    # Nor where it was deleted.
    assert again([], deleted=[FIRST], delivered=[1]).chosen == {3, 4}
    assert again([], deleted=[FIRST], delivered=[3]).chosen == {2, 4}
    # Who else is gone, with the mail or without, changes nothing for a group.
    assert again([FIRST], deleted=[ALONE], delivered=[3]).chosen == {2, 4}
    assert again([FIRST], deleted=[OTHER], delivered=[4]).chosen == {2, 3}
    assert again([], deleted=[ALONE, OTHER], delivered=[4]).chosen == {1}


@pytest.mark.promise("R1", "I3")
def test_who_has_the_mail_keeps_its_place_when_it_is_moved_to_another_group() -> None:
    moved = Candidate(1, "first", group="shop", position=1)
    there = [moved, *EVERYBODY[1:]]
    asked = {one.handler_id for one in there}
    found = choose(there, RuleFacts, asked=asked, delivered={1}, chosen=CHOSEN, left_out=LEFT_OUT)
    assert found.chosen == {3, 4}


def test_who_is_left_out_for_another_one_anew_is_so_for_good() -> None:
    third = Candidate(6, "third", group="desk", position=3)
    there = [SECOND, third]
    before = {2: LeftOut(2, BY_GROUP, "", 1), 6: LeftOut(6, BY_GROUP, "", 1)}
    asked = {2, 6}
    anew = choose(there, RuleFacts, asked=asked, chosen={1}, left_out=before, gone=[FIRST])
    assert anew.chosen == {2}
    assert [(one.handler_id, one.holder) for one in anew.left_out] == [(6, 2)]
    kept = {one.handler_id: one for one in anew.left_out}
    later = choose(
        [third], RuleFacts, asked={6}, delivered={2}, chosen={2}, left_out=kept, gone=[FIRST]
    )
    assert (later.chosen, later.left_out) == (frozenset(), ())


def test_who_lost_its_place_does_not_get_the_mail_when_it_comes_back() -> None:
    anew = again([FIRST])
    assert choose(
        EVERYBODY, RuleFacts, asked={1, 2, 3, 4}, chosen=anew.chosen | anew.standing
    ).chosen == {2, 3, 4}


def test_a_place_that_is_given_anew_takes_no_decision_from_others_that_are_away() -> None:
    assert again([FIRST, ALONE]).standing == {3, 4}
    assert again([FIRST, ALONE, OTHER]).standing == {3}
    assert again([ALONE]).standing == CHOSEN  # nothing is given anew


@pytest.mark.promise("R1", "I3")
def test_whoever_is_away_and_has_the_mail_no_group_has_it_twice_or_not_at_all() -> None:
    """Of each group, of what has it and what gets it there is one, if one of it is there."""
    for states in product(("there", "disabled", "deleted"), repeat=len(EVERYBODY)):
        of = dict(zip(EVERYBODY, states, strict=True))
        disabled = [one for one in EVERYBODY if of[one] == "disabled"]
        deleted = [one for one in EVERYBODY if of[one] == "deleted"]
        left = {one.handler_id for one in EVERYBODY if of[one] == "there"}
        for had in ({1}, {3}, {1, 3}, {1, 4}, {1, 3, 4}, {4}, set[int]()):
            found = again(disabled, deleted=deleted, delivered=had).chosen
            for group in ({1, 2}, {4, 5}):
                have = len(found & group) + len(had & group)
                assert have == 1 or (have == 0 and not left & group), (states, had)
            assert (3 in found) == (3 in left - had), (states, had)
