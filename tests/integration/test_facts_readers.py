"""Facts of mails beside those of Python's `email`, mailparser, postal-mime and GMime.

Generated well-formed mails, of which nobody may differ, and published ones (`tests/data/mail/
published`), whose differences stand in `JUSTIFIED` with the reason. `make fuzz-facts` makes it a
long run.

- A name with what no file may be called is made safe here alone: none is generated.
- mailparser and postal-mime give In-Reply-To as one text: its ids are compared.
- GMime is asked for the text alone.
- Messages in a mail are compared by name and type: each reader gives their octets otherwise.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posthouse.mail import is_attachment
from shared.mail.facts import read_facts
from shared.mail.parts import find_part
from shared.mail.region import region
from shared.mail.structure import read_structure
from tests.servers.readers import ForeignReaders, words

pytestmark = pytest.mark.promise("F4")
PUBLISHED = Path(__file__).parents[1] / "data" / "mail" / "published"
NAMES = st.text("abcXYZ019_-öß日", min_size=1, max_size=30).map(lambda name: f"{name}.pdf")
IDS = st.text("abc019.-", min_size=1, max_size=20).map(lambda one: f"<{one}@example.org>")
TEXTS = st.text("abc öß日,.>-=\n", min_size=1, max_size=300).map(lambda text: f"{text}\n")

#: Why a reader shows other facts of a published mail: {reason: {(mail, reader): facts}}.
JUSTIFIED: dict[str, dict[tuple[str, str], str]] = {
    "mailparser alone reads the messages of a digest as text (RFC 2046 section 5.1.5)": {
        (number, "mailparser"): "files text" for number in ("02", "30", "34")
    },
    "a text with a name, inline, is a file here and to Python; the others show it": {
        (number, reader): "files"
        for number in ("04", "44")
        for reader in ("mailparser", "postal-mime")
    },
    "a Content-Type without a subtype is a text to Python alone": {("14", "email"): "files text"},
    "one boundary at two levels: these two look for the inner one first": {
        (number, reader): "files"
        for number in ("15", "39")
        for reader in ("mailparser", "postal-mime")
    },
    "mailparser shows the status of a delivery as text": {
        (number, "mailparser"): "files text" for number in ("16", "43")
    },
    "the header ends at the first line that is no field, to Python alone": {
        ("19", "email"): "text",
        ("35", "email"): "text",
    },
    "GMime finds no message in it": {("19", "gmime"): "text"},
    "postal-mime changes line ends of files that are text": {
        (number, "postal-mime"): "files" for number in ("37", "43", "45")
    },
    "a delimiter of an outer multipart in a text is text to Python alone": {
        ("38", "email"): "text"
    },
}


@pytest.fixture(scope="module")
def readers() -> Iterator[ForeignReaders]:
    with ForeignReaders() as running:
        yield running


@st.composite
def mails(draw: st.DrawFn) -> bytes:
    mail = EmailMessage(policy=policy.SMTP)
    mail["From"], mail["Subject"] = "ann@example.org", "x"
    references = draw(st.lists(IDS, max_size=5, unique=True))
    if references:
        mail["References"], mail["In-Reply-To"] = " ".join(references), references[-1]
    encoding = draw(st.sampled_from(("base64", "quoted-printable", "8bit")))
    mail.set_content(draw(TEXTS), cte=encoding)
    if draw(st.booleans()):
        mail.add_alternative("<p>Hello</p>", subtype="html")
    for name, content in draw(st.lists(st.tuples(NAMES, st.binary(max_size=300)), max_size=4)):
        maintype, subtype = draw(st.sampled_from((("application", "pdf"), ("image", "png"))))
        mail.add_attachment(content, maintype=maintype, subtype=subtype, filename=name)
    for number, part in enumerate(mail.walk()):
        if part.is_multipart():
            part.set_boundary(f"part-{number}")
    return mail.as_bytes()


@settings(
    deadline=None,
    max_examples=int(os.environ.get("FACTS_EXAMPLES", "100")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(raw=mails())
def test_threads_texts_and_files_are_those_that_others_find(
    readers: ForeignReaders, raw: bytes
) -> None:
    assert differences(readers, raw) == {}


@pytest.mark.promise("F1")
def test_of_published_mails_each_difference_has_its_reason(readers: ForeignReaders) -> None:
    files = sorted(PUBLISHED.glob("*.txt"))
    assert len(files) > 40
    found = {
        (file.stem.removeprefix("msg_"), reader): " ".join(sorted(facts))
        for file in files
        for reader, facts in differences(readers, file.read_bytes()).items()
    }
    justified: dict[tuple[str, str], str] = {}
    for those in JUSTIFIED.values():
        for key, facts in those.items():
            justified[key] = " ".join(sorted({*justified.get(key, "").split(), *facts.split()}))
    if not readers.has_gmime:
        justified = {key: facts for key, facts in justified.items() if key[1] != "gmime"}
    assert found == justified


def differences(readers: ForeignReaders, raw: bytes) -> dict[str, dict[str, Any]]:
    """{reader: {fact: (ours, theirs)}} where they differ."""
    facts = read_facts(region(raw), trusted=(), text_limit=1 << 20)
    root = read_structure(region(raw))
    files = []
    for one in facts.parts:
        if is_attachment(one.disposition, one.name, one.content_type):
            placed = find_part(root, one.path)
            assert placed is not None
            digest = hashlib.sha256(b"".join(placed.content())).hexdigest()
            files.append((one.name, one.content_type, digest))
    ours: dict[str, Any] = {
        "references": facts.references,
        "in_reply_to": facts.in_reply_to,
        "files": comparable(tuple(files)),
        # What becomes of HTML is each reader's own.
        "text": "" if facts.body.is_from_html else words(facts.body.text),
    }
    found: dict[str, dict[str, Any]] = {}
    for name, seen in readers.read(raw).items():
        theirs: dict[str, Any] = {
            "text": "" if facts.body.is_from_html and not seen.error else words(seen.text)
        }
        if seen.error:
            theirs["text"] = seen.error
        elif name != "gmime":
            theirs["references"], theirs["in_reply_to"] = seen.references, seen.in_reply_to
            theirs["files"] = comparable(seen.files)
        differing = {one: (ours[one], value) for one, value in theirs.items() if ours[one] != value}
        if differing:
            found[name] = differing
    return found


def comparable(files: tuple[tuple[str, str, str], ...]) -> list[tuple[str, str, str]]:
    return [
        (name, kind, "" if kind.startswith(("message/", "multipart/")) else digest)
        for name, kind, digest in files
    ]
