"""UIDs as runs: what is packed comes out as it went in, and takes little."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.storage.header_digests import _all_in, _runs, _uids

UIDS = st.sets(st.integers(1, 2**32 - 1) | st.integers(1, 300), min_size=1)


@given(UIDS)
def test_runs_hold_the_uids(uids: set[int]) -> None:
    assert _uids(_runs(sorted(uids))) == sorted(uids)


def test_uids_in_a_row_cost_some_octets_whatever_their_number() -> None:
    assert len(_runs(range(4_000_000_000, 4_001_000_000))) <= 8


@given(UIDS, UIDS)
def test_whether_all_are_there(some: set[int], there: set[int]) -> None:
    assert _all_in(sorted(some), sorted(there)) == (some <= there)
