"""Facts of well-formed mails beside those of mailparser and postal-mime.

`FACTS_EXAMPLES=2000` in the environment makes it a long run. Where readers differ, the reason
stands here:

- A name with what no file may be called is made safe here alone: none is generated.
- postal-mime and mailparser give In-Reply-To as one text: its ids are compared.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from email import policy
from email.message import EmailMessage

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posthouse.mail import is_attachment
from shared.mail.facts import read_facts
from shared.mail.parts import find_part
from shared.mail.region import region
from shared.mail.structure import read_structure
from tests.servers.readers import ForeignReaders

pytestmark = pytest.mark.promise("F4")
NAMES = st.text("abcXYZ019_-öß日", min_size=1, max_size=30).map(lambda name: f"{name}.pdf")
IDS = st.text("abc019.-", min_size=1, max_size=20).map(lambda one: f"<{one}@example.org>")


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
    mail.set_content("Hello\n")
    if draw(st.booleans()):
        mail.add_alternative("<p>Hello</p>", subtype="html")
    for name, content in draw(st.lists(st.tuples(NAMES, st.binary(max_size=300)), max_size=4)):
        mail.add_attachment(content, maintype="application", subtype="pdf", filename=name)
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
def test_threads_and_files_are_those_that_others_find(readers: ForeignReaders, raw: bytes) -> None:
    facts = read_facts(region(raw), trusted=(), text_limit=1000)
    root = read_structure(region(raw))
    files = []
    for one in facts.parts:
        if not is_attachment(one.disposition, one.name, one.content_type):
            continue
        placed = find_part(root, one.path)
        assert placed is not None
        digest = hashlib.sha256(b"".join(placed.content())).hexdigest()
        files.append((one.name, digest))
    seen = readers.read(raw)
    for name in ("mailparser", "postal-mime"):
        assert seen[name].references == facts.references, name
        assert seen[name].in_reply_to == facts.in_reply_to, name
        assert list(seen[name].files) == files, name
