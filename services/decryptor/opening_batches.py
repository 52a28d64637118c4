"""Encrypted and signed mails of a batch: opened, and what came out written to the store."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from services.decryptor.keyring import Keyring
from services.decryptor.opening import (
    MARK_LENGTH,
    MailLimits,
    Opened,
    may_be_secured,
    open_mail,
    open_mails,
)
from services.decryptor.private_folder import PrivateFolder
from services.decryptor.settings import DecryptorSettings
from shared.certificates import IdentityIndex
from shared.connections import Connection
from shared.mail.structure import Entity
from shared.mail.summary import findings_to_json
from shared.mail_security import Security
from shared.messages import DecryptOutcome, RawRef
from shared.storage.outbox_claims import Claimed
from shared.store import Pack, Store
from shared.untrusted_text import storable_json

#: Small mails that are opened together.
_TOGETHER = 64
#: The step of a large mail that others do not come by.
SPOOLED: Final = "spooled"


@dataclass(frozen=True, slots=True)
class SecuredMails:
    """Opens them with what is attached to their connections, and keeps the opened forms.

    Large ones go through files in `folder`. `observe` is told the facts of each mail and the
    seconds that it took.
    """

    store: Store
    keyring: Keyring
    settings: DecryptorSettings
    folder: PrivateFolder
    observe: Callable[[Security, float], None]

    def open_small(
        self, mails: Sequence[tuple[Claimed, bytes]], connection: Connection | None, pack: Pack
    ) -> list[tuple[DecryptOutcome, bytes | None]]:
        """Mails of one connection that are in memory already; with each, what handlers read of it
        where that is small too."""
        outcomes: list[tuple[DecryptOutcome, bytes | None]] = []
        for start in range(0, len(mails), _TOGETHER):
            outcomes += self._together(mails[start : start + _TOGETHER], connection, pack)
        return outcomes

    def _together(
        self, mails: Sequence[tuple[Claimed, bytes]], connection: Connection | None, pack: Pack
    ) -> list[tuple[DecryptOutcome, bytes | None]]:
        started = time.monotonic()
        trust = self.keyring.trust()
        with ExitStack() as stack:
            found = open_mails(
                [whole for _, whole in mails],
                self._identities(connection),
                trust,
                limits=self._limits,
                spool_dir=self.folder.path,
            )
            for opened in found:
                stack.enter_context(opened)
            outcomes = [
                (_kept(mail, opened, pack), self._small(opened, whole))
                for (mail, whole), opened in zip(mails, found, strict=True)
            ]
        # Opened together, so each is told its share of the time.
        seconds = (time.monotonic() - started) / len(mails)
        for opened in found:
            self.observe(opened.security, seconds)
        self.keyring.note_signers(trust)
        return outcomes

    def _small(self, opened: Opened, whole: bytes) -> bytes | None:
        """What handlers read of a mail, unless it is more than is put into an event."""
        content = whole if opened.content is None else opened.content
        if isinstance(content, bytes) and len(content) <= self.settings.inline_max_bytes:
            return content
        return None

    def search(self, mail: Claimed, read: Entity) -> bool:
        """Whether something encrypted or signed may lie anywhere in a very large mail, whose
        header says what was `read`."""
        carry = b""
        for chunk in self.store.stream(mail.raw):
            piece = carry + chunk
            if may_be_secured(read, piece):
                return True
            carry = piece[-MARK_LENGTH:]
        return False

    def open_large(
        self,
        mail: Claimed,
        connection: Connection | None,
        pack: Pack,
        reached: Callable[[str], None],
    ) -> DecryptOutcome:
        """A large mail, by way of a file; `reached` is told when that lies there (`SPOOLED`)."""
        started = time.monotonic()
        trust = self.keyring.trust()
        # Without a name: nothing of it is left by a kill, and nothing is in the next one's way.
        with tempfile.TemporaryFile(dir=self.folder.path) as copy:
            for chunk in self.store.stream(mail.raw):
                copy.write(chunk)
            copy.flush()
            reached(SPOOLED)
            with open_mail(
                copy,
                self._identities(connection),
                trust,
                limits=self._limits,
                spool_dir=self.folder.path,
            ) as opened:
                outcome = _kept(mail, opened, pack)
        self.observe(opened.security, time.monotonic() - started)
        self.keyring.note_signers(trust)
        return outcome

    def _identities(self, connection: Connection | None) -> IdentityIndex:
        return self.keyring.identities(connection.certificate_ids if connection else ())

    @property
    def _limits(self) -> MailLimits:
        return MailLimits(decompressed_bytes=self.settings.max_message_bytes)


def _kept(mail: Claimed, opened: Opened, pack: Pack) -> DecryptOutcome:
    """Writes the opened form beside the others of this batch."""
    security = storable_json(opened.security.to_json())
    if opened.headers is not None:
        security["headers"] = opened.headers.to_json()
        security["findings"] = findings_to_json(opened.headers.findings)
    if opened.content is None:
        return DecryptOutcome(id=mail.id, security=security)
    offset, digest = pack.size, sha256()
    for chunk in _chunks(opened.content):
        digest.update(chunk)
        pack.write(chunk)
    return DecryptOutcome(
        id=mail.id,
        security=security,
        opened=RawRef(pack.key, offset, pack.size - offset),
        opened_sha256=digest.digest(),
    )


def _chunks(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk
