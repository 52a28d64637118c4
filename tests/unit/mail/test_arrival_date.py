"""When a mail arrived, by the first field of its header that tells."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from shared.mail.arrival_date import arrival_date

pytestmark = pytest.mark.promise("F1")

EARLY, LATE = b"Fri, 27 Nov 2026 09:00:00 +0000", b"Sat, 28 Nov 2026 10:00:00 +0100"
TOP = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "block",
    [
        b"Received: from a by b; " + LATE + b"\r\nReceived: from c; " + EARLY + b"\r\n",
        b"Received: from a\r\n\tby b;\r\n\t" + LATE + b"\r\nDate: " + EARLY + b"\r\n\r\n",
        b"X: y\nreceived: from a by b;" + LATE + b" (CET)\n",
        b"Received: from a (TLS; 256 bits) by b; " + LATE + b"\r\n",
        b"Received: from a by b\r\nReceived: from c; " + LATE + b"\r\n",
        b"Received: from a by b\r\nX: y; " + EARLY + b"\r\nDate: " + LATE + b"\r\n",
        b"Date: " + LATE + b"\r\nReceived: from c; " + EARLY + b"\r\n",
        b"Date:" + LATE,
    ],
)
def test_the_first_field_that_tells(block: bytes) -> None:
    assert arrival_date(block) == TOP


@pytest.mark.parametrize(
    "block", [b"", b"Received: from a by b\r\n", b"X: y\r\n\r\nDate: " + LATE, b"Date: soon\r\n"]
)
def test_a_header_that_does_not_tell(block: bytes) -> None:
    assert arrival_date(block) is None


@pytest.mark.parametrize("line", ["Received: a\\r\\n", "Received: a\\r\\n b\\r\\n", "\\r\\n b"])
def test_a_header_of_such_fields_takes_no_square_of_its_length(line: str) -> None:
    """26 kB took two seconds, a whole header minutes: the system ends this process after five."""
    program = f"""
import resource
from shared.mail.arrival_date import arrival_date
resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
line = "{line}".encode()
assert arrival_date(b"Received: a" + line * (250_000 // len(line))) is None
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
