"""Fields that a reader could go through once for each octet: of the largest size that is read they
would take minutes, and each is read in the fetcher, the decryptor and the pages."""

from __future__ import annotations

import subprocess
import sys

import pytest

from services.decryptor.coverage import doubt_about
from shared.mail.facts import read_facts
from shared.mail.fields import KnownNames, read_fields
from shared.mail.findings import FINDING_LIMIT, FindingKind
from shared.mail.parameters import MOST_SIGNS, read_parameters
from shared.mail.region import region
from shared.mail.summary import read_headers

_PROGRAM = """
import sys
from shared.mail.facts import read_facts
from shared.mail.region import region
from shared.mail.summary import read_headers
from shared.mail.summary import read_headers
name, before, unit, times, behind = sys.argv[1:]
value = before + unit * int(times) + behind
part = f"--b\\r\\n{name}: {value}\\r\\n\\r\\nx\\r\\n"
raw = f"{name}: {value}\\r\\n\\r\\n" if name != "Content-Type" else (
    "Content-Type: multipart/mixed; boundary=b\\r\\n\\r\\n" + part * 200 + "--b--\\r\\n"
)
read_headers(raw.encode())
read_facts(region(raw.encode()), trusted=("mx.google.com",), text_limit=100)
"""


@pytest.mark.parametrize(
    ("name", "before", "unit", "times", "behind"),
    [
        ("Content-Type", "a/b", ";x(", 2700, ""),
        ("Content-Type", "a/b", ";x=(", 2000, ""),
        ("To", "<", "(<)", 80_000, ""),
        ("Reply-To", "<(<)", "<(<)", 60_000, ">"),
        ("To", "<", '("', 100_000, ">"),
        ("Subject", "x\\r\\n y".replace("\\r\\n", "\r\n"), "\t", 240_000, "z"),
        ("From", "(a\r\n b", "\t", 240_000, ") <a@example.org>"),
        ("Authentication-Results", "mx.google.com; spf=pass ", "a", 240_000, ""),
        ("Authentication-Results", "mx.google.com; spf=pass ", "a.", 120_000, ""),
    ],
)
def test_a_long_field_is_read_in_the_end(
    name: str, before: str, unit: str, times: int, behind: str
) -> None:
    arguments = [name, before, unit, str(times), behind]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-500:]


def test_findings_of_one_value_are_bounded_and_those_that_tell_stay() -> None:
    harmless = b"".join(b";%03d=;%03d=" % (n, n) for n in range(48))
    read = read_parameters(b"multipart/mixed; boundary=a" + harmless + b"; boundary=b")
    assert len(read.findings) < 100
    assert str(FindingKind.DUPLICATE_PARAMETER) in doubt_about(read.findings)


@pytest.mark.parametrize("again", [";p%d=x", ";n*%d*=x", " (%d)", " (%d", ";", ";(%d"])
def test_a_value_is_read_up_to_a_number_of_parameters_and_comments(again: str) -> None:
    """Each costs a step, in each of a thousand parts."""
    many = "".join(again % n if "%" in again else again for n in range(MOST_SIGNS + 1))
    read = read_parameters(f"a/b;c=d{many};e=f".encode())
    assert read.parameters["c"] == "d"
    assert "e" not in read.parameters
    assert doubt_about(read.findings)
    sections = "".join(f";name*{n}*=x" for n in range(MOST_SIGNS - 2))
    read = read_parameters(f"a/b{sections};charset=utf-8".encode())
    assert read.parameters == {"name": "x" * (MOST_SIGNS - 2), "charset": "utf-8"}
    assert not read.findings


def test_what_is_told_of_a_mail_is_bounded() -> None:
    odd = b"".join(b";%03d=;%03d=" % (n, n) for n in range(100))
    part = b"--b\r\nContent-Type: text/" + b"x" * 700 + odd + b"\r\n\r\nx\r\n"
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part * 50 + b"--b--\r\n"
    facts = read_facts(region(raw), trusted=(), text_limit=100)
    assert len(facts.findings) == FINDING_LIMIT
    assert {len(one.content_type) for one in facts.parts} == {255}


def test_findings_that_a_sender_makes_up_hide_no_other() -> None:
    odd = b"".join(b";%03d=;%03d=" % (n, n) for n in range(100))
    first = b"--b\r\nContent-Type: text/plain" + odd + b"\r\n\r\nx\r\n"
    late = (
        b"--b\r\nContent-Type: text/plain; charset=utf-8; charset=x\r\n"
        b"Content-Type: text/html\r\nX: a\rb\r\n\r\nx\r\n"
    )
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + first + late + b"--b--\r\n"
    facts = read_facts(region(raw), trusted=(), text_limit=100)
    told = {(one.kind, one.detail) for one in facts.findings}
    kinds = [one.kind for one in facts.findings]
    assert {FindingKind.BARE_CR, FindingKind.DUPLICATE_CONTENT_TYPE} <= set(kinds)
    assert (FindingKind.DUPLICATE_PARAMETER, "charset") in told
    assert kinds.index(FindingKind.MORE_FINDINGS) == FINDING_LIMIT - 1 == len(kinds) - 1
    spaced = b"".join(b"X%d : y\r\n" % n for n in range(99))
    header = read_headers(spaced + b"From: a@x\r\nFrom: b@x\r\n\r\n")
    kinds = [one.kind for one in header.findings]
    assert len(kinds) == FINDING_LIMIT
    assert {FindingKind.DUPLICATE_FROM, FindingKind.MORE_FINDINGS} <= set(kinds)


def test_of_each_kind_one_is_told() -> None:
    assert len(FindingKind) < FINDING_LIMIT


def test_long_names_of_fields_are_not_remembered() -> None:
    wanted = KnownNames(["subject"])
    names = [b"X" * 70 + b"%d" % n for n in range(10)]
    block = read_fields(b"".join(b"%s: y\r\n" % one for one in names) + b"Subject: z\r\n\r\n")
    assert block.values(wanted) == {"subject": [b" z"]}
    assert not any(one in wanted for one in names)
