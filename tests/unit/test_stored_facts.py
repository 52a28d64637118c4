"""The facts of large mails, which are read out of the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from services.decryptor.mail_facts import MailFactsReader
from services.decryptor.private_folder import PrivateFolder

_MAIL = b"Subject: x\r\nContent-Type: text/plain\r\n\r\n" + b"Hello\r\n" * 1000


class _Store:
    def __init__(self) -> None:
        self.read = 0

    def stream(self) -> Iterator[bytes]:
        self.read += 1
        yield _MAIL[:100]
        yield _MAIL[100:]


def test_a_large_mail_whose_event_was_not_taken_is_not_read_again(tmp_path: Path) -> None:
    store = _Store()
    reader = MailFactsReader(64, PrivateFolder(tmp_path))
    first = reader.of_stored(b"1", store.stream, None)
    assert reader.of_stored(b"1", store.stream, None) == first == reader.of_bytes(_MAIL, None)
    assert store.read == 1
    reader.of_stored(b"2", store.stream, None)
    assert store.read == 2


def test_facts_of_many_large_mails_are_not_kept_for_good(tmp_path: Path) -> None:
    store = _Store()
    reader = MailFactsReader(64, PrivateFolder(tmp_path))
    for number in range(1000):
        reader.of_stored(str(number).encode(), store.stream, None)
    reader.of_stored(b"0", store.stream, None)
    assert store.read == 1001
