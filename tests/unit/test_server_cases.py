"""Each input of the collection of servers' answers is a line of the corpus, with its verdict."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from tests.corpus import lines

CASES = Path(__file__).parents[3] / "shared" / "cases" / "servers"
#: What an input is known by, where the corpus has the verbatim JSON or another form of it.
_KNOWN_BY = (
    *("BODY[]", "closed", "text/html", "expired or revoked", "short-lived", "rate_limit"),
    *("internal_failure", "disabled_client", "UnknownError", "Access to OData"),
    *("ResourceNotFound", "MailboxInfoStale", "ErrorInvalidIdMalformed", "Badly formed"),
    *("SyncStateNotFound", "MimeContentConversion", "Parsing OData"),
)


def inputs() -> list[dict[str, str]]:
    with (CASES / "words.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def known_by(words: str) -> str:
    number = re.search(r"AADSTS\d+", words)
    if number is not None:
        return number[0]
    if "Retry-After: 17" in words:
        return "Retry-After=17"
    if "(empty body)" in words:
        return "400"
    return next((part for part in _KNOWN_BY if part in words), words)


def test_the_collection_is_all_read() -> None:
    assert {file.name for file in CASES.iterdir()} == {"README.md", "words.tsv"}
    assert len(inputs()) >= 55


@pytest.mark.promise("M27")
@pytest.mark.parametrize("case", inputs(), ids=lambda case: f"{case['provider']} {case['words']}")
def test_each_input_is_a_line_of_the_corpus(case: dict[str, str]) -> None:
    part = known_by(case["words"])
    found = [line for line in lines() if line.protocol == case["protocol"] and part in line.words]
    assert found, f"no line of the corpus has {part!r}"
    verdicts = {line.expected.partition(",")[0] for line in found}
    wanted = case["expected"].replace("never send this form", "never asked so")
    if "after ID was sent" in wanted:
        # ID goes out before the first folder is opened; who says it all the same wants a person.
        wanted = "needs a person"
    assert any(verdict in wanted for verdict in verdicts), (verdicts, wanted)
