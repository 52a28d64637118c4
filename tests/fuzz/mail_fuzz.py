"""Feeds the reader of mails with hostile ones, guided by coverage.

    make fuzz-reader MINUTES=10

The first argument is a folder for the corpus; the header cases of tests/data are put there when it
is empty. An exception ends the run, and so does an input that takes more than a second of processor
time (by our own count: a busy machine makes any input slow on the clock) or more memory than the
limit.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["shared.mail", "posthouse.tnef", "services.admin.pages.mail_content"]
):
    from services.admin.pages.mail_content import read
    from shared.mail.addresses import read_addresses
    from shared.mail.dates import read_date
    from shared.mail.encoded_words import read_text
    from shared.mail.facts import read_facts
    from shared.mail.region import region
    from shared.mail.summary import findings_from_json, findings_to_json, read_headers

CASES = Path(__file__).parents[1] / "data" / "mail" / "headers"
MAX_SECONDS = 1.0


def one_input(data: bytes) -> None:
    if not data:
        return
    began = time.thread_time()
    headers = read_headers(data)
    read([data])
    json.dumps(read_facts(region(data), trusted=("mx.example",), text_limit=10_000).to_json())
    field = data[1:]
    if data[0] % 3 == 0:
        for one in read_addresses(field).addresses:
            assert "@" in one.address and "\0" not in one.name + one.address
            (one.name + one.address).encode("utf-8")
    elif data[0] % 3 == 1:
        read_text(field, "iso-2022-jp").text.encode("utf-8")
    else:
        read_date(field)
    assert findings_from_json(findings_to_json(headers.findings)) == headers.findings
    (headers.subject + headers.sender + headers.sender_name).encode("utf-8")
    assert time.thread_time() - began < MAX_SECONDS, "too slow"


def main() -> None:
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    if not any(corpus.iterdir()):
        for case in CASES.glob("*.eml"):
            shutil.copy(case, corpus)
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
