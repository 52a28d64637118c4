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

from services.decryptor.facts import Facts
from services.decryptor.headers import (
    SHOWN,
    authors,
    compose,
    decoded,
    payload_of,
    protected_fields,
)
from services.decryptor.layers import Peeler, is_pkcs7
from services.decryptor.limits import Limits
from services.decryptor.spool import Spool, source
from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex
from shared.mail.region import region
from shared.mail.structure import Entity, entity
from shared.security import Security

__all__ = ["Limits", "Opened", "TrustStore", "may_be_secured", "open_mail", "open_mails"]

_log = logging.getLogger(__name__)
_MULTIPARTS = ("multipart/signed", "multipart/encrypted")
_NOTHING = Security()
_NOT_ANALYSED = Security(status="failed", reason="The mail could not be analysed.")
_LIMITS = Limits()


@dataclass(slots=True)
class Opened:
    """What became of one mail. Close it (or use `with`) when the content was taken over.

    `content` is the whole mail as a handler should read it (RFC 5322, decrypted, opaque signatures
    unwrapped), in memory or as the path of a temporary file; None where the mail as it came is
    that already. `headers` holds the protected fields that are preferred over the outer ones,
    decoded: `subject`, `from`, `to`, `cc`, `date`, `message_id`, where present.
    """

    security: Security
    content: bytes | Path | None = None
    headers: dict[str, str] = field(default_factory=dict)
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


def may_be_secured(header_block: bytes, beginning: bytes) -> bool:
    """Whether a mail can be encrypted or signed: if not, skip `open_mail`.

    Everything shows in the header but OpenPGP between the lines of a text, which is looked for in
    `beginning` (the mail's first octets, or all of it).
    """
    whole = entity(region(header_block))
    if whole.media_type == "text/plain":
        return b"-----BEGIN PGP " in beginning or whole.transfer_encoding == "base64"
    return _secured(whole)


def _secured(whole: Entity) -> bool:
    return whole.media_type in _MULTIPARTS or whole.media_type == "text/plain" or is_pkcs7(whole)


def open_mail(
    raw: BinaryIO | bytes | memoryview,
    identities: IdentityIndex,
    trust: TrustStore,
    *,
    limits: Limits | None = None,
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
    limits: Limits | None = None,
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

    __slots__ = ("_failed", "_outer", "_peeler", "_spool", "_trust")

    def __init__(
        self, identities: IdentityIndex, trust: TrustStore, limits: Limits, spool: Spool
    ) -> None:
        self._spool = spool
        self._trust = trust
        self._peeler = Peeler(identities, trust, limits, spool)
        self._outer: Entity | None = None
        self._failed = False

    def read(self, raw: BinaryIO | bytes | memoryview) -> None:
        try:
            outer = entity(source(raw, self._spool))
            if _secured(outer):
                self._outer = outer
                self._peeler.read(outer)
        except OSError:
            raise
        except Exception:
            self._fail()

    def unwrap(self) -> None:
        try:
            self._peeler.unwrap()
        except Exception:
            self._fail()

    def open(self) -> Opened:
        if self._outer is not None and not self._failed:
            try:
                return _opened(self._peeler, self._outer, self._trust, self._spool)
            except OSError:
                raise
            except Exception:
                self._fail()
        self.close()
        return Opened(_NOT_ANALYSED if self._failed else _NOTHING)

    def close(self) -> None:
        self._spool.close()

    def _fail(self) -> None:
        # Not foreseen, hence a bug of ours; but a mail must not be lost or retried for it.
        _log.exception("a mail could not be opened")
        self._failed = True


def _opened(peeler: Peeler, outer: Entity, trust: TrustStore, spool: Spool) -> Opened:
    inner = peeler.peel(outer)
    facts = peeler.facts
    payload = payload_of(peeler.payload, outer) if peeler.payload else None
    protected = protected_fields(payload) if payload else {}
    from_header = payload.header if payload and "from" in protected else outer.header
    security = facts.judged(authors(from_header) if facts.signatures else set(), trust)
    opened = Opened(security, _spool=spool)
    if protected and payload:
        _prefer(opened, facts, protected, payload, outer)
    if inner is not outer and security.status in ("none", "decrypted"):
        if payload is not None and inner.media_type == "message/rfc822" and payload is not inner:
            inner = payload
        opened.content = _composed(outer, protected, inner, spool)
    spool.release_mappings()
    return opened


def _prefer(
    opened: Opened, facts: Facts, protected: dict[str, bytes], payload: Entity, outer: Entity
) -> None:
    """Decides which protected fields are believed, and drops the others from `protected`.

    Anyone can encrypt a mail, whoever its inner From names; so without a valid signature an author
    is only taken from the inside where the outside (which the mail servers vouch for) agrees
    (RFC 9788 section 4.4).
    """
    signed = opened.security.signature in ("valid", "untrusted")
    if not signed and facts.status != "decrypted":
        protected.clear()
        return
    if opened.security.signature != "valid" and authors(payload.header) != authors(outer.header):
        protected.pop("from", None)
    opened.headers = {SHOWN[name]: decoded(payload.header.value(name)) for name in protected}


def _composed(
    outer: Entity, protected: dict[str, bytes], inner: Entity, spool: Spool
) -> bytes | Path:
    header = compose(outer, protected, inner)
    if len(inner.body) + len(header) <= spool.memory:
        with memoryview(inner.body.buffer) as whole:
            return b"".join((header, whole[inner.body.start : inner.body.end]))
    file, path = spool.named()
    with file:
        file.write(header)
        for window in inner.body.windows():
            file.write(window)
    return path
