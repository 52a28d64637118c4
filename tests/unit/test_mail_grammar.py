"""The grammar of IMAP and POP3 in small: names, sets, dates, dots, and what a log may show."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mailbox.base import Folder
from shared.mailbox.imap.folder_names import (
    ListedFolder,
    Naming,
    find_folder,
    listed_folders,
    near_matches,
)
from shared.mailbox.imap.message_attributes import parse_date, search_date
from shared.mailbox.imap.sequence_sets import read_set, uid_sets
from shared.mailbox.imap.session import Literal, Untagged, string
from shared.mailbox.net.transcript import Transcript

SLASH, COURIER, FLAT = Naming("/", ""), Naming(".", "INBOX."), Naming("", "")


@pytest.mark.promise("M5")
@pytest.mark.parametrize(
    ("folder", "slash", "courier"),
    [
        ("INBOX", b"INBOX", b"INBOX"),
        ("INBOX", b"Inbox", b"inbox"),
        ("Main/Sub", b"Main/Sub", b"INBOX.Main.Sub"),
        ("Entwürfe", b"Entw&APw-rfe", b"INBOX.Entw&APw-rfe"),
        ("日本/R&D", b"&ZeVnLA-/R&-D", b"INBOX.&ZeVnLA-.R&-D"),
        (" both ends ", b" both ends ", b"INBOX. both ends "),
        ("Entwürfe", "Entwürfe".encode(), "INBOX.Entwürfe".encode()),  # UTF-8 on the stream
        ("R&D", b"R&D", b"INBOX.R&D"),  # neither of both encodings
    ],
)
def test_folder_names_are_shown_without_the_servers_ways(
    folder: str, slash: bytes, courier: bytes
) -> None:
    assert SLASH.for_people(slash) == folder
    assert COURIER.for_people(courier) == folder


@pytest.mark.promise("M5")
@pytest.mark.parametrize(
    ("raw", "folder"),
    [
        (b"INBOX", "INBOX"),
        (b"INBOX.Inbox", "INBOX/Inbox"),  # not the inbox
        (b"INBOX.Support", "Support"),
        (b"Support", "/Support"),  # of a shared namespace, and another folder
        (b"user.bob.Team", "/user/bob/Team"),
        (b"INBOX.and/or", "/INBOX.and/or"),
        (b"INBOX.and.or", "and/or"),
    ],
)
def test_no_two_folders_are_shown_alike(raw: bytes, folder: str) -> None:
    assert COURIER.for_people(raw) == folder


def test_names_that_no_folder_of_a_server_can_have() -> None:
    assert COURIER.likely("Version 1.0") is None  # the dot separates levels there
    assert FLAT.likely("Main/Sub") is None
    assert FLAT.likely("Main") == b"Main"


@given(st.lists(st.text(st.characters(exclude_characters="/.", exclude_categories=["C"]),
                        min_size=1, max_size=8), min_size=1, max_size=4))  # fmt: skip
def test_what_is_asked_for_is_what_would_be_shown(levels: list[str]) -> None:
    folder = "/".join(levels)
    for names in (SLASH, COURIER):
        for name in (folder, "/" + folder):
            raw = names.likely(name)
            assert raw is not None
            shown = names.for_people(raw)
            assert names.likely(shown) == raw or shown == "INBOX"


@given(st.lists(st.binary(max_size=12), max_size=20))
def test_listed_folders_all_have_names_of_their_own(names: list[bytes]) -> None:
    """Whatever bytes a server sends: each can be chosen, and what is chosen is found."""
    lines = [Untagged(None, b"LIST", ((b'() "." {%d}' % len(name), name), b"")) for name in names]
    for naming_ in (SLASH, COURIER, FLAT):
        listed = listed_folders(lines, naming_)
        assert len({item.folder.name for item in listed}) == len(listed)
        for item in listed:
            assert find_folder(item.folder.name, listed) == item


def test_characters_may_come_composed_and_decomposed() -> None:
    composed, decomposed = "Entw\u00fcrfe", "Entwu\u0308rfe"
    raw = {text: SLASH.likely(text) or b"" for text in (composed, decomposed)}
    assert raw[composed] != raw[decomposed]

    def listed(*names: bytes) -> list[ListedFolder]:
        lines = [Untagged(None, b"LIST", (b'() "/" "' + name + b'"',)) for name in names]
        return listed_folders(lines, SLASH)

    for asked in raw:
        for there in raw.values():  # the only one is meant, however it is typed
            found = find_folder(asked, listed(there))
            assert found is not None and found.name == there
        both = find_folder(asked, listed(*raw.values()))
        assert both is not None and both.name == raw[asked]


@pytest.mark.promise("M5")
def test_near_matches() -> None:
    folders = [Folder(name) for name in ("INBOX", "Support", "Main/Tickets", "Archive/2024")]
    assert near_matches("suport", folders) == ["Support"]
    assert near_matches("Tickets", folders)[0] == "Main/Tickets"
    assert near_matches("Main.Tickets", folders)[0] == "Main/Tickets"
    assert near_matches("zzz", folders) == []


@given(st.sets(st.integers(1, 0xFFFFFFFF), max_size=300), st.integers(30, 500))
def test_sets_hold_exactly_the_uids_and_keep_to_their_length(uids: set[int], longest: int) -> None:
    found: list[int] = []
    for octets, members in uid_sets(sorted(uids), longest):
        assert len(octets) <= longest
        assert read_set(octets) == members
        found += members
    assert found == sorted(uids)


@pytest.mark.parametrize("text", [b"0", b"x", b"1:*", b"1,,2", b"5:4294967296", b"1:9999999"])
def test_sets_that_are_none(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_set(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        (b"17-Jul-1996 02:44:25 -0700", datetime(1996, 7, 17, 9, 44, 25, tzinfo=UTC)),
        (b" 1-feb-2026 00:30:00 +0130", datetime(2026, 1, 31, 23, 0, tzinfo=UTC)),
        (b"1-Feb-2026 00:30:00 +0000", datetime(2026, 2, 1, 0, 30, tzinfo=UTC)),
        (b"31-Dec-2016 23:59:60 +0000", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (b"99-Foo-2026 00:30:00 +0000", None),
        (b"", None),
    ],
)
def test_arrival_dates(text: bytes, moment: datetime | None) -> None:
    assert parse_date(text) == moment


def test_search_dates() -> None:
    assert search_date(datetime(1994, 2, 1, tzinfo=UTC)) == b"1-Feb-1994"


@given(st.binary(max_size=60))
def test_strings_are_quoted_only_where_the_grammar_allows_it(octets: bytes) -> None:
    made = string(octets)
    if isinstance(made, Literal):
        assert made.octets == octets
        assert any(byte < 32 or byte > 126 for byte in octets)
    else:
        inside = made[1:-1]
        assert inside.replace(b"\\\\", b"\0").replace(b'\\"', b'"').replace(b"\0", b"\\") == octets


@pytest.mark.promise("M19")
def test_a_log_shows_no_secret_however_it_is_written() -> None:
    log = Transcript()
    secret = 'pass"wörd\\' + "x" * 600
    log.hide(secret)
    quoted = secret.replace("\\", "\\\\").replace('"', '\\"')
    for form in (secret, quoted, base64.b64encode(secret.encode()).decode()):
        log.sent(f"LOGIN alice {form}".encode())
        log.received(f"NO not {form}\r\n".encode())
        log.received(b"y" * 390 + form.encode())  # cut in the middle of it
        assert form[:20] not in log.clean(b"y" * 390 + form.encode())
    text = "\n".join(log.lines)
    assert "xxxx" not in text
    assert base64.b64encode(secret.encode()).decode()[:12] not in text
    assert "alice" in text
    for number in range(500):
        log.sent(b"NOOP %d" % number)
    assert len(log.lines) == 100
    log.received(b"bell \x07 and escape \x1b[31m")
    assert log.lines[-1].isprintable()
