"""Takes mails as they stream in and makes a batch of them durable."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from shared.clock import new_id
from shared.errors import MailFailure, PosthouseError
from shared.mail.encoded_words import shortened
from shared.mail.fields import HEADER_LIMIT, HeaderBlock, read_fields
from shared.mail.summary import MESSAGE_ID_LIMIT, content_digest, summarise
from shared.mailbox.base import MailRef
from shared.mailbox.errors.refused_mails import MailRefused, gave_nothing, is_blank
from shared.mailbox.errors.unconverted_mails import ServerNote, is_server_note
from shared.messages import Key, NewMessage, RawRef
from shared.storage.ledger import LeftOnServer
from shared.store import Pack, Store
from shared.untrusted_text import storable

#: Octets of a batch that shares a pack with those of other mailboxes, at most.
SMALL_OCTETS: Final = 1 << 18
#: Octets of headers that are held until they are read.
_MOST_UNREAD: Final = 1 << 20


class _Unread(NamedTuple):
    """A mail that has ended and whose header is still to be summarised."""

    ref: MailRef
    header: HeaderBlock
    sha256: bytes
    raw: RawRef


class Intake:
    """A `Sink` that writes one pack. A context manager: what was not kept (`keep`) is removed.

    Memory is bounded: of each mail only the header block is held while it streams by.
    """

    def __init__(self, store: Store, correlation_id: uuid.UUID | None = None) -> None:
        self._correlation_id = correlation_id
        self._pack: Pack = store.pack()
        self._ref: MailRef | None = None
        self._offset = 0
        self._hash = sha256()
        #: What came first of the mail under way, and octets that are still wanted of it.
        self._beginning: list[bytes] = []
        self._beginning_left = 0
        self._messages: list[NewMessage] = []
        self._unread: list[_Unread] = []
        self._unread_octets = 0
        self.refs: list[MailRef] = []
        self.refused: list[LeftOnServer] = []
        #: Mails that could not be downloaded this time; the next run lists them again.
        self.postponed: list[tuple[MailRef, PosthouseError]] = []
        #: Mails that the server did not give, not yet judged (`downloading`).
        self.withheld: list[tuple[MailRef, MailRefused]] = []
        #: Refused beside others that were given, with words that promise to pass.
        self.suspected: list[tuple[MailRef, MailRefused]] = []

    def __enter__(self) -> Intake:
        return self

    def __exit__(self, *details: object) -> None:
        self._pack.__exit__(*details)

    @property
    def octets(self) -> int:
        return self._pack.size

    @property
    def octets_under_way(self) -> int:
        """Of the mail that was begun and has not ended."""
        return 0 if self._ref is None else self._pack.size - self._offset

    @property
    def under_way(self) -> MailRef | None:
        """The mail that was begun and has not ended."""
        return self._ref

    def begin(self, ref: MailRef) -> None:
        if self._ref is not None:
            self._pack.truncate(self._offset)
        self._ref = ref
        self._offset = self._pack.size
        self._hash = sha256()
        self._beginning.clear()
        self._beginning_left = HEADER_LIMIT + 1

    def write(self, chunk: bytes | memoryview) -> None:
        self._pack.write(chunk)
        self._hash.update(chunk)
        if self._beginning_left > 0:
            self._beginning.append(bytes(chunk[: self._beginning_left]))
            self._beginning_left -= len(chunk)

    def end(self) -> None:
        ref, self._ref = self._ref, None
        assert ref is not None, "a mail ends that never began"
        pieces = self._beginning
        head = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        block = read_fields(head)
        size = self._pack.size - self._offset
        if is_blank(head, size, ref.size):
            self._pack.truncate(self._offset)
            self.withheld.append((ref, gave_nothing(ref.size)))
            return
        if is_server_note(block.octets, head, size, ref.size):
            self._pack.truncate(self._offset)
            self.refuse(ref, ServerNote())
            return
        self.refs.append(ref)
        raw = RawRef(self._pack.key, self._offset, size)
        self._unread.append(_Unread(ref, block, self._hash.digest(), raw))
        self._unread_octets += len(block.octets)
        if self._unread_octets > _MOST_UNREAD:
            self._read_headers()

    @property
    def messages(self) -> list[NewMessage]:
        """The mails that have ended."""
        if self._unread:
            self._read_headers()
        return self._messages

    def _read_headers(self) -> None:
        """Of many mails together: what that needs stays in the processor's nearest caches, which
        saves a tenth of a small mail's time."""
        self._messages += [self._message(one) for one in self._unread]
        self._unread.clear()
        self._unread_octets = 0

    def _message(self, one: _Unread) -> NewMessage:
        ref, block, digest, raw = one
        detail = ref.detail
        headers = summarise(block)
        return NewMessage(
            id=new_id(),
            native_key=str(ref.key),
            size=raw.size,
            sha256=digest,
            raw=raw,
            headers=headers,
            header_digest=content_digest(block.octets, digest, telling=bool(headers.message_id)),
            arrived_at=ref.arrived,
            correlation_id=self._correlation_id,
            gmail_id=detail.get("gmail_id"),
            thread=shortened(storable(detail["thread"]), MESSAGE_ID_LIMIT)
            if "thread" in detail
            else "",
            labels=tuple(map(storable, detail["labels"])) if "labels" in detail else (),
        )

    def abandon(self, ref: MailRef, reason: PosthouseError) -> None:
        if self._ref is not None:
            self._pack.truncate(self._offset)
            self._ref = None
        if isinstance(reason, MailRefused):
            self.withheld.append((ref, reason))
        elif isinstance(reason, MailFailure):
            self.refuse(ref, reason)
        else:
            self.postponed.append((ref, reason))

    def refuse(self, ref: MailRef, reason: MailFailure) -> None:
        """This mail goes to quarantine, and stays on its server."""
        text = f"{reason} {reason.hint}".strip()
        self.refused.append(LeftOnServer(key=ref.key, code=reason.code, reason=text, size=ref.size))

    def take_withheld(self) -> list[tuple[MailRef, MailRefused]]:
        """What is to be judged, from now on in the hands of who judges it."""
        taken, self.withheld = self.withheld, []
        return taken

    def take_not_asked(self) -> MailRef | None:
        """The first of the mails left out as others were refused, to be tried after all."""
        for position, (ref, reason) in enumerate(self.postponed):
            if reason.code == "mail-not-asked":
                del self.postponed[position]
                return ref
        return None

    def take_back(self, is_one: Callable[[Key], bool]) -> None:
        """These mails may not be what was asked for: they count as not downloaded. Their octets
        stay where they lie, which nobody refers to."""
        kept = [
            (ref, message)
            for ref, message in zip(self.refs, self.messages, strict=True)
            if not is_one(ref.key)
        ]
        self.refs = [ref for ref, _ in kept]
        self._messages = [message for _, message in kept]

    @property
    def handled(self) -> set[Key]:
        """The mails that were downloaded or abandoned."""
        done = {ref.key for ref in self.refs} | {item.key for item in self.refused}
        return done | {ref.key for ref, _ in [*self.postponed, *self.withheld, *self.suspected]}

    def unhandled(self, refs: Sequence[MailRef]) -> list[MailRef]:
        """Those of `refs` that were neither downloaded nor abandoned, the one under way first."""
        done = self.handled
        under_way = self._ref
        left = [ref for ref in refs if ref.key not in done and ref is not under_way]
        return left if under_way is None else [under_way, *left]

    @property
    def is_small(self) -> bool:
        """Whether it lies in memory, and may share a pack with others."""
        return self._pack.is_small and self._pack.size <= SMALL_OCTETS

    def keep(self) -> Sequence[NewMessage]:
        """Makes the batch durable: after this its mails may be committed to the ledger."""
        self._drop_unfinished()
        if self.messages:
            self._pack.commit()
        return self.messages

    def keep_in(self, pack: Pack) -> Sequence[NewMessage]:
        """Puts a small batch into a pack that several share; its mails, as they lie there.

        They are durable once that pack is committed. This one stays as it is, for `keep`.
        """
        self._drop_unfinished()
        start = pack.append(self._pack)
        return [
            one._replace(raw=RawRef(pack.key, start + one.raw.offset, one.size))
            for one in self.messages
        ]

    def _drop_unfinished(self) -> None:
        if self._ref is not None:
            self._pack.truncate(self._offset)
            self._ref = None


def batches(refs: Sequence[MailRef], mails: int, octets: int) -> list[list[MailRef]]:
    """Cuts a listing into batches by count and by the sizes that the server claims."""
    cut: list[list[MailRef]] = []
    left = 0
    for ref in refs:
        if not cut or len(cut[-1]) >= mails or ref.size > left:
            cut.append([])
            left = octets
        cut[-1].append(ref)
        left -= ref.size
    return cut
