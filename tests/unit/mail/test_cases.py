"""Mails that other products read wrongly, each with what every good reader makes of it."""

import json
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.mail.findings import FindingKind
from shared.mail.summary import read_headers
from tests.rig.time_bound import within_a_second

CASES = Path(__file__).parents[2] / "data" / "mail" / "headers"
EXPECTED: dict[str, dict[str, Any]] = json.loads((CASES / "expected.json").read_text())


@pytest.mark.promise("F1")
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_case(name: str) -> None:
    read = read_headers((CASES / f"{name}.eml").read_bytes())
    expected = EXPECTED[name]
    assert expected
    for field, value in expected.items():
        if field == "subject":
            assert read.subject == value
        elif field == "subject_starts":
            assert read.subject.startswith(value)
        elif field == "to":
            assert list(read.to) == value
        elif field == "date":
            instant, _, may_be_none = value.partition(" or ")
            at = datetime.fromisoformat(instant).replace(tzinfo=UTC)
            assert read.date == at or (may_be_none and read.date is None)
        elif name.startswith("h7") and name != "h7d-two-from":
            # No address in From: none is invented, and it is said.
            assert read.sender == ""
            assert FindingKind.MISSING_AUTHOR in {one.kind for one in read.findings}
        else:
            assert read.sender == value


def test_every_case_is_tried() -> None:
    assert {path.stem for path in CASES.glob("*.eml")} == set(EXPECTED)


@settings(deadline=None, max_examples=150)
@given(name=st.sampled_from(sorted(EXPECTED)), random=st.randoms(use_true_random=False))
def test_no_mutilated_case_raises_or_takes_long(name: str, random: Random) -> None:
    mail = bytearray((CASES / f"{name}.eml").read_bytes())
    for _ in range(random.randrange(1, 12)):
        at = random.randrange(len(mail))
        piece = mail[at : at + random.randrange(1, 12)]
        mail[at : at + random.randrange(3)] = random.choice(
            [
                b"",
                bytes((random.randrange(256),)),
                piece * random.choice((2, 2000)),
                b"=?",
                b'"',
                b"<",
            ]
        )
    with within_a_second():
        read = read_headers(bytes(mail))
    (read.subject + read.sender + read.sender_name).encode("utf-8")
