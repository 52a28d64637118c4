"""What every mailbox must do, over every kind of it (tests/contract/mailbox_kinds.py).

Settling and listing have files of their own: test_settling.py, test_listing.py.
"""

from __future__ import annotations

import pytest

from shared.mailbox.failures import FolderMissing
from tests.contract.mailbox_kinds import MailboxKind, mail, subject_of
from tests.contract.recorders import Collector, KnownKeys
from tests.contract.sessions import (
    ALL,
    LIMIT,
    MARK_READ,
    UNREAD,
    fetched,
    new_subjects,
    read,
    session,
)


@pytest.mark.promise("M9")
def test_new_mails_come_oldest_first_and_octet_for_octet(kind: MailboxKind) -> None:
    sent = [mail(f"number {n}", b"line\r\n" * (n * 50)) for n in range(25)]
    kind.deliver(*sent)
    with session(kind) as mailbox:
        listing = mailbox.list_new(KnownKeys(), UNREAD)
        sink = Collector()
        mailbox.download(listing.new, sink, limit=LIMIT)
    got = [sink.mails[ref.key] for ref in listing.new]
    assert got == sent if kind.arrival_order else sorted(got) == sorted(sent)
    if kind.exact_sizes:
        assert [ref.size for ref in listing.new] == [len(raw) for raw in got]
    assert (listing.new_count, listing.known, listing.total) == (25, 0, 25)
    assert listing.unread in (25, None)
    assert listing.complete


@pytest.mark.promise("M14", "I8")
def test_looking_and_downloading_change_nothing(kind: MailboxKind) -> None:
    kind.deliver(mail("one"), mail("two"))
    with session(kind) as mailbox:
        mailbox.folders()
        listing = mailbox.list_new(KnownKeys(), UNREAD, count_known=True)
        list(mailbox.headers(listing.new))
        read(mailbox, listing.new)
        mailbox.changed_since("", listing.cursor)
    if kind.read_flag:  # behind POP3 some servers keep one, and set it by themselves
        assert not kind.is_read("one")
        assert not kind.is_read("two")
    assert new_subjects(kind, KnownKeys()) == {"one", "two"}


@pytest.mark.promise("M9")
def test_what_a_person_read_first_is_left_alone_until_unread_again(kind: MailboxKind) -> None:
    kind.deliver(mail("read by somebody"), seen=True)
    kind.deliver(mail("not read"))
    if not kind.read_flag:
        assert new_subjects(kind, KnownKeys()) == {"read by somebody", "not read"}
        return
    assert new_subjects(kind, KnownKeys()) == {"not read"}
    assert new_subjects(kind, KnownKeys(), ALL) == {"read by somebody", "not read"}
    kind.set_read("read by somebody", False)
    assert new_subjects(kind, KnownKeys()) == {"read by somebody", "not read"}


@pytest.mark.promise("M9")
def test_what_a_person_flagged_deleted_is_left_alone_where_unread_is_asked(
    kind: MailboxKind,
) -> None:
    if not kind.deleted_flag:
        pytest.skip("this kind has no deleted flag")
    kind.deliver(mail("thrown away"), mail("kept"))
    kind.flag_deleted("thrown away")
    assert new_subjects(kind, KnownKeys()) == {"kept"}
    assert new_subjects(kind, KnownKeys(), ALL) == {"thrown away", "kept"}


@pytest.mark.promise("M10")
def test_a_mail_set_unread_again_is_counted_and_not_new(kind: MailboxKind) -> None:
    if not kind.read_flag:
        pytest.skip("this kind has no read flag")
    known = KnownKeys()
    kind.deliver(mail("had"), mail("had too"))
    fetched(kind, known)
    kind.set_read("had", False)
    with session(kind) as mailbox:
        for selection in (UNREAD, ALL):
            listing = mailbox.list_new(known, selection, count_known=True)
            assert (listing.new_count, listing.reset, listing.known) == (0, 1, 2)


@pytest.mark.promise("M10")
def test_a_mail_that_comes_again_is_new(kind: MailboxKind) -> None:
    known = KnownKeys()
    kind.deliver(mail("wanderer"))
    fetched(kind, known)
    kind.remove("wanderer")
    kind.deliver(mail("wanderer"))
    assert new_subjects(kind, known) == {"wanderer"}


@pytest.mark.promise("M5")
def test_the_inbox_is_the_default_whatever_its_case(kind: MailboxKind) -> None:
    kind.deliver(mail("in the inbox"))
    for name in ("", "INBOX", "Inbox", "inbox"):
        with session(kind, name) as mailbox:
            assert mailbox.list_new(KnownKeys(), UNREAD).total == 1


@pytest.mark.promise("M5")
def test_folders_by_the_names_that_people_use(kind: MailboxKind) -> None:
    with session(kind, None) as mailbox:
        if not kind.folders:
            assert [folder.name for folder in mailbox.folders()] == ["INBOX"]
            return
    for name in kind.odd_folders:
        kind.create_folder(name)
        kind.deliver(mail(f"in {name}"), folder=name)
    with session(kind, None) as mailbox:
        offered = {folder.name for folder in mailbox.folders() if folder.selectable}
        assert {"INBOX", *kind.odd_folders} <= offered
        for name in kind.odd_folders:
            mailbox.open(name)
            listing = mailbox.list_new(KnownKeys(), UNREAD)
            (raw,) = read(mailbox, listing.new).values()
            assert subject_of(raw) == f"in {name}"
            mailbox.settle(listing.new, MARK_READ)
            if kind.settling_is_news:
                assert mailbox.changed_since(name, listing.cursor) is not None
            assert kind.is_read(f"in {name}", name)


@pytest.mark.promise("M5")
def test_a_folder_that_does_not_exist_names_near_matches(kind: MailboxKind) -> None:
    if kind.folders:
        kind.create_folder("Support")
    with session(kind, None) as mailbox:
        for attempt in (mailbox.open, lambda name: mailbox.changed_since(name, None)):
            with pytest.raises(FolderMissing) as caught:
                attempt("Suport")
            assert (caught.value.code, caught.value.step) == ("folder-missing", "folder")
            assert caught.value.near == (("Support",) if kind.folders else ("INBOX",))
        mailbox.open("")  # the session goes on


def test_header_blocks_come_octet_for_octet(kind: MailboxKind) -> None:
    heads = {f"head {n}": mail(f"head {n}", b"") for n in range(3)}
    kind.deliver(*(head + b"body\r\n.\r\n..\r\n" for head in heads.values()))
    with session(kind) as mailbox:
        refs = mailbox.list_new(KnownKeys(), UNREAD).new
        found = dict(mailbox.headers(refs))
        assert [found[ref] for ref in refs] == list(heads.values())


ODD_MAILS = {
    "dots": b".\r\n..\r\n...\r\n.x\r\n\r\n.\r\n",
    "empty body": b"",
    "endless line": b"z" * 300_000 + b"\r\n",
    "8 bit": bytes(range(128, 256)) + b"\r\n",
    "looks like IMAP": b"* 1 FETCH (UID 1 BODY[] {5}\r\nhello)\r\n)\r\nP1 OK done\r\n",
    "looks like POP3": b"+OK\r\n-ERR\r\n. \r\n",
    "empty lines": b"\r\n" * 500,
    "ends in a carriage return": b"a\rb\r\r\n",
    "longer than a buffer": b"0123456789abcdef\r\n.\r\n" * 20_000,
}


def test_odd_mails_arrive_as_the_server_has_them(kind: MailboxKind) -> None:
    kind.deliver(*(mail(subject, body) for subject, body in ODD_MAILS.items()))
    with session(kind) as mailbox:
        found = read(mailbox, mailbox.list_new(KnownKeys(), UNREAD).new)
    assert found == kind.stored()
    assert set(found) == set(ODD_MAILS)


def test_mails_with_nul_octets_and_without_headers(kind: MailboxKind) -> None:
    if not kind.takes_malformed:
        pytest.skip("this kind of server has no such mails")
    with_nul = mail("nul", b"a\0b\0\0\r\n")
    kind.deliver(with_nul, b"\r\nno headers at all\r\n", b"just a line\r\n")
    with session(kind) as mailbox:
        listing = mailbox.list_new(KnownKeys(), UNREAD)
        sink = Collector()
        mailbox.download(listing.new, sink, limit=LIMIT)
        headers = dict(mailbox.headers(listing.new))
    nul, bare, line = (sink.mails[ref.key] for ref in listing.new)
    # IMAP cannot carry NUL (RFC 3501 section 4.3.1): the server puts something in its place.
    assert nul in (with_nul, kind.stored()["nul"])
    assert b"no headers at all\r\n" in bare
    assert line.rstrip() == b"just a line"
    assert set(headers) == set(listing.new)


@pytest.mark.promise("M7")
def test_ending_a_session_removes_nothing(kind: MailboxKind) -> None:
    kind.deliver(mail("one"), mail("flagged"))
    if kind.deleted_flag:
        kind.flag_deleted("flagged")
    for folder in (None, ""):
        with session(kind, folder) as mailbox:
            if folder is not None:
                refs = mailbox.list_new(KnownKeys(), UNREAD).new
                mailbox.settle(refs, MARK_READ)
                mailbox.changed_since("", None)
        mailbox.close()  # again: never raises
    assert set(kind.stored()) == {"one", "flagged"}


def test_whether_a_session_lives(kind: MailboxKind) -> None:
    with session(kind) as mailbox:
        assert mailbox.is_alive()
    assert not mailbox.is_alive()


@pytest.mark.promise("M17")
def test_the_keys_of_everything_that_is_there(kind: MailboxKind) -> None:
    kind.deliver(mail("read"), seen=True)
    kind.deliver(mail("unread"), mail("unread too"))
    with session(kind) as mailbox:
        keys = list(mailbox.keys())
        new = mailbox.list_new(KnownKeys(), ALL).new
        assert keys == [ref.key for ref in new]
        assert mailbox.list_new(KnownKeys(keys), ALL).new == ()


@pytest.mark.promise("M16")
def test_mails_that_vanish_are_told_and_later_ones_found(kind: MailboxKind) -> None:
    """What POP3 needs most: the list shrinks below what is known, and grows elsewhere."""
    known = KnownKeys()
    kind.deliver(*(mail(f"kept {n}") for n in range(12)))
    fetched(kind, known)
    for n in (2, 5, 7):
        kind.remove(f"kept {n}")
    kind.deliver(*(mail(f"new {n}") for n in range(3)))
    with session(kind) as mailbox:
        listing = mailbox.list_new(known, UNREAD)
        assert set(read(mailbox, listing.new)) == {"new 0", "new 1", "new 2"}
        if listing.listed is not None:
            assert len(known.keys - set(listing.listed)) == 3
            known.keys &= set(listing.listed)
        known.add(listing.new)
    kind.deliver(mail("one more"))
    with session(kind) as mailbox:
        listing = mailbox.list_new(known, UNREAD)
        assert set(read(mailbox, listing.new)) == {"one more"}


@pytest.mark.promise("M19", "I7")
def test_the_protocol_log_holds_no_secret_and_no_body(kind: MailboxKind) -> None:
    kind.deliver(mail("told", b"confidential words\r\n"))
    with session(kind) as mailbox:
        read(mailbox, mailbox.list_new(KnownKeys(), UNREAD).new)
        log = "\n".join(mailbox.transcript)
    assert log
    assert len(log.splitlines()) <= 100
    assert "secret" not in log
    assert "confidential" not in log
