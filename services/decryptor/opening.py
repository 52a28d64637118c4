"""Opening a mail: what is encrypted is decrypted, what is signed is verified.

`open_mail` never raises for what a mail can contain: whatever does not open is a fact of its
`Security`, and the mail goes on as it came.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from services.decryptor.author import Author, read_author
from services.decryptor.cms_layers import is_pkcs7
from services.decryptor.coverage import content_doubt
from services.decryptor.layers import LayerReader
from services.decryptor.limits import MailLimits
from services.decryptor.marks import MARK_LENGTH, has_armour, has_first_line, has_marks
from services.decryptor.opened_headers import SHOWN, compose, inner_fields
from services.decryptor.openpgp.recognising import (
    is_other_text,
    may_be_armoured,
    may_be_binary,
)
from services.decryptor.signature_verdicts import judged
from services.decryptor.spool import Spool, source
from services.decryptor.tnef_files import TNEF_TYPES
from services.decryptor.trust import TrustStore
from services.decryptor.wide_texts import is_wide
from shared.certificates import IdentityIndex
from shared.mail.structure import MESSAGE_TYPES, Entity, entity
from shared.mail.summary import MailHeaders, read_headers
from shared.mail_security import Security

__all__ = [
    "MARK_LENGTH",
    "MailLimits",
    "Opened",
    "TrustStore",
    "may_be_secured",
    "open_mail",
    "open_mails",
]

_log = logging.getLogger(__name__)
_MULTIPARTS = ("multipart/signed", "multipart/encrypted")
_NOTHING = Security()
_NOT_ANALYSED = Security(status="failed", reason="The mail could not be analysed.")
_LIMITS = MailLimits()
#: A mail that is nothing but another one, or what Outlook packs.
_ENCLOSING = (*MESSAGE_TYPES, *TNEF_TYPES)
_OUTER_OPENED = "The encryption around it was opened: what that held is handed out."
#: Signatures whose octets are what somebody signed, and all that is handed out.
_RIGHT = ("valid", "mismatch", "untrusted", "revoked")


@dataclass(slots=True)
class Opened:
    """What became of one mail. Close it (or use `with`) when the content was taken over.

    `content` is the whole mail as a handler should read it (RFC 5322, decrypted, opaque signatures
    unwrapped), in memory or as a path that is good until it is closed; None where the mail as it
    came is that already. `headers` is what the header of `content` says, where protected fields
    stand in it in the place of outer ones.
    """

    security: Security
    content: bytes | Path | None = None
    headers: MailHeaders | None = None
    _spool: Spool | None = field(default=None, repr=False)

    def close(self) -> None:
        """Removes the temporary file."""
        if self._spool is not None:
            self._spool.close()

    def __enter__(self) -> Opened:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def may_be_secured(whole: Entity, beginning: bytes) -> bool:
    """Whether a mail can be encrypted or signed: if not, skip `open_mail`.

    `whole` is what its header says, and mostly this shows there. OpenPGP between the lines of a
    text, and what lies in the parts of a multipart, is looked for in `beginning` (the mail's first
    octets, or all of it): where that is not the whole mail, ask for the rest too (`is_searched`),
    in pieces that overlap by `MARK_LENGTH`.
    """
    if whole.media_type in _MULTIPARTS or is_pkcs7(whole):
        return True
    if is_other_text(whole):
        return has_armour(beginning) or is_wide(whole)
    if _may_enclose(whole):
        return has_marks(beginning)
    if whole.media_type == "text/plain":
        encoding = whole.transfer_encoding
        return encoding == "base64" or has_first_line(beginning) or is_wide(whole)
    return may_be_binary(whole)


def is_searched(whole: Entity) -> bool:
    """Whether something encrypted or signed may lie anywhere in the mail, not just at its start."""
    return _may_enclose(whole) or may_be_armoured(whole)


def _may_enclose(whole: Entity) -> bool:
    """Whether something may lie inside that is encrypted or signed for itself."""
    return (
        whole.media_type.startswith("multipart/")
        or whole.media_type in _ENCLOSING
        or is_other_text(whole)
    )


def _secured(whole: Entity) -> bool:
    return is_searched(whole) or is_pkcs7(whole)


def open_mail(
    raw: BinaryIO | bytes | memoryview,
    identities: IdentityIndex,
    trust: TrustStore,
    *,
    limits: MailLimits | None = None,
    spool_dir: Path,
) -> Opened:
    """Decrypts and verifies one mail.

    `raw` is the mail as it was downloaded; a real file is mapped, not read. Memory stays bounded
    by `limits`, not by the size of the mail. Raises OSError (disk full, unreadable file) only.
    """
    (opened,) = open_mails((raw,), identities, trust, limits=limits, spool_dir=spool_dir)
    return opened


def open_mails(
    raws: Sequence[BinaryIO | bytes | memoryview],
    identities: IdentityIndex,
    trust: TrustStore,
    *,
    limits: MailLimits | None = None,
    spool_dir: Path,
) -> list[Opened]:
    """Several small mails, each as `open_mail` does it, in less time than one after the other.

    A private key operation between two mails drives all else out of the processor's nearest
    caches: so all mails are read, then all content keys unwrapped, then all contents opened.
    """
    limits = limits or _LIMITS
    begun: list[_Mail] = []
    try:
        for raw in raws:
            begun.append(_Mail(identities, trust, limits, Spool(spool_dir, limits.memory_bytes)))
            begun[-1].read(raw)
        for mail in begun:
            mail.unwrap()
        return [mail.open() for mail in begun]
    except BaseException:
        for mail in begun:
            mail.close()
        raise


class _Mail:
    """One mail on its way through the steps, of which each may raise OSError only."""

    __slots__ = ("_failed", "_layers", "_outer", "_spool", "_trust")

    def __init__(
        self, identities: IdentityIndex, trust: TrustStore, limits: MailLimits, spool: Spool
    ) -> None:
        self._spool = spool
        self._trust = trust
        self._layers = LayerReader(identities, trust, limits, spool)
        self._outer: Entity | None = None
        self._failed = False

    def read(self, raw: BinaryIO | bytes | memoryview) -> None:
        try:
            outer = entity(source(raw, self._spool))
            if _secured(outer):
                self._outer = outer
                self._layers.read(outer)
        except OSError:
            raise
        except Exception:  # see `_fail`
            self._fail()

    def unwrap(self) -> None:
        try:
            self._layers.unwrap()
        except Exception:  # see `_fail`
            self._fail()

    def open(self) -> Opened:
        if self._outer is not None and not self._failed:
            try:
                return _opened(self._layers, self._outer, self._trust, self._spool)
            except OSError:
                raise
            except Exception:  # see `_fail`
                self._fail()
        self.close()
        return Opened(_NOT_ANALYSED if self._failed else _NOTHING)

    def close(self) -> None:
        self._spool.close()

    def _fail(self) -> None:
        # Not foreseen, hence a bug of ours; but a mail must not be lost or retried for it.
        _log.exception("mail not opened")
        self._failed = True


def _opened(layers: LayerReader, outer: Entity, trust: TrustStore, spool: Spool) -> Opened:
    facts = layers.facts
    inner = layers.open_layers(outer)
    is_open, was_decrypted = facts.is_open, facts.was_decrypted
    if was_decrypted and facts.status != "decrypted":
        facts.remark(_OUTER_OPENED)
    layers.report_other_parts(inner)
    payload = layers.payload
    author, doubt = Author(None), ""
    if facts.signed:
        author = read_author(outer.header, [one.header for one in layers.covered])
        doubt = content_doubt(inner, spool)
    opened = Opened(judged(facts, author, doubt, trust), _spool=spool)
    fields: dict[str, list[bytes]] = {}
    for one in (layers.wrapped, payload if payload is not layers.wrapped else None):
        if one is not None:
            fields |= _believed(opened.security, one, outer, was_decrypted=was_decrypted)
    if inner is not outer and is_open:
        header = compose(outer, fields, inner)
        opened.content = _composed(header, inner, spool)
        if not SHOWN.isdisjoint(fields):
            opened.headers = read_headers(header)
    spool.release_mappings()
    return opened


def _believed(
    security: Security, payload: Entity, outer: Entity, *, was_decrypted: bool
) -> dict[str, list[bytes]]:
    """The fields of the content that are handed on.

    Anyone can encrypt a mail, whoever its inner From names; so an author is only taken from the
    inside where the outside (which the mail servers vouch for) names the same (RFC 9788 section
    4.4).
    """
    fields = inner_fields(payload)
    if not fields:  # as of nearly all contents
        return fields
    if not was_decrypted and security.signature not in _RIGHT:
        return {name: lines for name, lines in fields.items() if name not in SHOWN}
    if "from" in fields:
        inside, outside = read_author(payload.header, ()), read_author(outer.header, ())
        if inside.address is None or inside.address != outside.address:
            del fields["from"]
    return {name: lines[:1] if name in SHOWN else lines for name, lines in fields.items()}


def _composed(header: bytes, inner: Entity, spool: Spool) -> bytes | Path:
    if len(inner.body) + len(header) <= spool.memory:
        with memoryview(inner.body.buffer) as whole:
            return b"".join((header, whole[inner.body.start : inner.body.end]))
    file, path = spool.named()
    with file:
        file.write(header)
        for window in inner.body.windows():
            file.write(window)
    return path
