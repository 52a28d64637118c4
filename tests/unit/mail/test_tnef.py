"""What is in a winmail.dat, beside what tnefparse finds in the same octets."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tnefparse import TNEF

from posthouse import NoSuchPart
from posthouse.testing import make_event
from posthouse.tnef import MOST_FILES, content, packed_files
from shared.mail.facts import read_facts
from shared.mail.parts import find_part
from shared.mail.region import region
from shared.mail.structure import read_structure
from tests.rig.tnef_writer import file, message, stream

pytestmark = pytest.mark.promise("F4")

NAMES = st.text("abc-_öß日.", min_size=1, max_size=40).map(lambda name: name.strip(".") or "a")


def mail_with(octets: bytes, kind: str = "ms-tnef") -> bytes:
    mail = EmailMessage()
    mail["From"], mail["Subject"] = "ann@example.org", "from Outlook"
    mail.set_content("text\n")
    mail.add_attachment(octets, maintype="application", subtype=kind, filename="winmail.dat")
    return mail.as_bytes()


def in_pieces(octets: bytes, size: int) -> Iterator[bytes]:
    return (octets[at : at + size] for at in range(0, len(octets), size))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(NAMES, st.binary(max_size=300)), max_size=5), st.integers(1, 64))
def test_the_files_that_another_reader_finds(files: list[tuple[str, bytes]], size: int) -> None:
    octets = stream(*(file(b"SHORT~1.TXT", data, name) for name, data in files))
    found = packed_files(in_pieces(octets, size))
    ours = [
        (one.name, b"".join(content((p for p in in_pieces(octets, size)), one))) for one in found
    ]
    theirs = [(one.long_filename(), bytes(one.data)) for one in TNEF(octets).attachments]
    assert ours == theirs == files


def test_they_are_parts_of_the_mail_with_paths() -> None:
    inner = stream(file(b"IN.PDF", b"%PDF inner", "inner.pdf"))
    octets = stream(
        file(b"REPORT~1.PDF", b"%PDF 1", "Größe.pdf", "application/pdf", "<a@b>"),
        message(b"forwarded", inner),
        file("Übung.txt".encode("cp1252"), b"short name alone"),
        file(b"x", b"", "../../etc/passwd"),
    )
    raw = mail_with(octets)
    facts = read_facts(region(raw), trusted=(), text_limit=1000)
    told = [(one.path, one.content_type, one.name, one.size) for one in facts.parts]
    assert told == [
        ("1", "text/plain", "", 5),
        ("2", "application/ms-tnef", "winmail.dat", len(octets)),
        ("2.1", "application/pdf", "Größe.pdf", 6),
        ("2.2", "application/vnd.ms-tnef", "forwarded", len(inner)),
        ("2.2.1", "application/pdf", "inner.pdf", 10),
        ("2.3", "text/plain", "Übung.txt", 16),
        ("2.4", "application/octet-stream", "_.._etc_passwd", 0),
    ]
    assert facts.parts[2].content_id == "a@b"
    root = read_structure(region(raw))
    read = {}
    for path in ("2.1", "2.2", "2.2.1", "2.3"):
        one = find_part(root, path)
        assert one is not None
        read[path] = b"".join(one.content())
    assert read == {
        "2.1": b"%PDF 1",
        "2.2": inner,
        "2.2.1": b"%PDF inner",
        "2.3": b"short name alone",
    }
    event = make_event(raw=raw)
    for path, octets in read.items():
        with event.open_part(path) as opened:
            assert opened.read() == octets
    with pytest.raises(NoSuchPart):
        event.open_part("2.5")
    assert find_part(root, "2.5") is None
    assert find_part(root, "1.1") is None


def test_a_winmail_dat_is_known_by_its_name_too() -> None:
    raw = mail_with(stream(file(b"A.TXT", b"abc")), "octet-stream")
    facts = read_facts(region(raw), trusted=(), text_limit=0)
    assert [one.path for one in facts.parts] == ["1", "2", "2.1"]


def test_a_large_file_is_never_held() -> None:
    piece = random.Random(3).randbytes(1 << 16)
    head = stream(file(b"BIG.BIN", b"", "big.bin"))
    at = head.index(b"BIG.BIN\0") + 8 + 2 + 5
    size = 64 << 20

    def pieces() -> Iterator[bytes]:
        yield head[:at] + size.to_bytes(4, "little")
        for _ in range(size // len(piece)):
            yield piece
        yield head[at + 4 :]

    tracemalloc.start()
    found = packed_files(pieces())
    length = sum(len(one) for one in content((one for one in pieces()), found[0]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(one.name, one.size) for one in found] == [("big.bin", size)]
    assert length == size
    assert peak < 4 << 20


def test_what_is_cut_off_or_broken_keeps_what_came_before() -> None:
    octets = stream(file(b"A.TXT", b"first", "a.txt"), file(b"B.TXT", b"second", "b.txt"))
    whole = packed_files([octets])
    seen = set()
    for end in range(len(octets)):
        names = [(one.start, one.size) for one in packed_files([octets[:end]])]
        assert names == [(one.start, one.size) for one in whole][: len(names)]
        seen.add(len(names))
    assert seen == {0, 1, 2}
    chance = random.Random(17)
    for _ in range(2000):
        broken = bytearray(octets)
        for _ in range(chance.randrange(1, 6)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        for one in packed_files([bytes(broken)]):
            assert one.start + one.size <= len(broken)
    assert packed_files([b"no TNEF at all"]) == packed_files([]) == []


def test_no_more_files_than_are_told_of_and_no_endless_depth() -> None:
    many = stream(*(file(b"A", b"x") for _ in range(MOST_FILES + 50)))
    assert len(packed_files([many])) == MOST_FILES
    deep = stream(file(b"A", b"x"))
    for _ in range(30):
        deep = stream(message(b"m", deep), message(b"n", deep[:200]))
        if len(deep) > 1 << 20:
            break
    facts = read_facts(region(mail_with(deep)), trusted=(), text_limit=0)
    assert max(one.path.count(".") for one in facts.parts) <= 5
