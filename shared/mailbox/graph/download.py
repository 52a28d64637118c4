"""Mails out of Graph: their MIME form, up to three at a time, spooled, handed on one by one.

Source: "Get MIME content of a message" (GET …/messages/{id}/$value).
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from typing import IO, Final

from shared.errors import MailFailure, PosthouseError, TryAgain
from shared.mailbox.base import HEADER_LIMIT, MailRef, Sink
from shared.mailbox.errors.diagnoses import shortened
from shared.mailbox.errors.refused_mails import MailRefused, RefusedMails, gave_nothing
from shared.mailbox.failures import Unreachable, mail_vanished
from shared.mailbox.graph import items_without_mime
from shared.mailbox.graph.http import GraphError, GraphHttp, judged
from shared.mailbox.net import https
from shared.mailbox.net.request_limits import AT_ONCE
from shared.messages import Key

_IN_MEMORY: Final = 1 << 20
_CHUNK: Final = 1 << 18
#: Octets that show what an answer is.
_HEAD: Final = 64
#: Times that a mail is begun anew when its connection breaks in the middle.
_TRIES: Final = 3
#: Refusals that are not about what the item is.
_NOT_OF_ITEM: Final = frozenset({401, 429})
#: A mail that has no MIME form: Exchange could not convert it, or it is no mail.
_NO_MIME: Final = frozenset({400, 405, 406, 415, 422, 500, 501})

#: Errors by which Graph does not give a mail now.
_OF_GRAPH: Final = frozenset(
    {"throttled", "graph-unavailable", "mailbox-busy", "broken-off", "timeout", "unreachable"}
)


class Given:
    """What a session was given, for telling an item without MIME form from a server that gives none
    at the moment. A few threads count; one more or less changes nothing."""

    def __init__(self) -> None:
        self._count = 0
        self._refused: dict[Key, int] = {}

    def another(self) -> None:
        """A mail came in its MIME form."""
        self._count += 1

    def shows_cause(self, ref: MailRef) -> bool:
        """Whether one came since this item was refused first, so that the item is the cause."""
        return self._count > self._refused.get(ref.key, self._count)

    def refused(self, ref: MailRef) -> None:
        """The item was, in words that may be about the moment."""
        self._refused.setdefault(ref.key, self._count)


def download(
    graph: GraphHttp, refs: Sequence[MailRef], sink: Sink, limit: int, session: Given
) -> None:
    """Streams each mail into `sink`. Memory: a megabyte a mail under way, the rest on disk.

    A mail that Graph throttles, or whose answer breaks off each time, is abandoned as refused:
    requests are independent of each other, so the others may come. So is one that answers as in an
    outage, until another one came and it does so again: what is built of its properties is not what
    travelled, and its original may be deleted after that.
    """
    refusals = RefusedMails(sink)
    ahead: deque[tuple[MailRef, Future[IO[bytes] | PosthouseError]]] = deque()
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="graph") as pool:
        try:
            for ref in refs:
                if ref.size > limit and not _may_fit(ref, limit):
                    sink.abandon(ref, too_large(limit))
                    continue
                if refusals.enough:
                    refusals.not_asked([ref])
                    continue
                work = pool.submit(copy_context().run, _fetch, graph, ref, limit, session)
                ahead.append((ref, work))
                if len(ahead) > AT_ONCE:
                    _hand_on(*ahead.popleft(), sink, refusals)
            while ahead:
                _hand_on(*ahead.popleft(), sink, refusals)
        finally:
            for _, future in ahead:
                future.cancel()
            for _, future in ahead:
                if not future.cancelled() and future.exception() is None:
                    spool = future.result()
                    if not isinstance(spool, PosthouseError):
                        spool.close()


def headers(graph: GraphHttp, refs: Sequence[MailRef]) -> Iterator[tuple[MailRef, bytes]]:
    """The header block, with the empty line that ends it, of each mail that still exists and whose
    header Graph gives."""
    given, refused = False, None
    with judged("reading a header"):
        for ref in refs:
            try:
                block = _header_of(graph, ref)
            except GraphError as failure:
                if not failure.is_about_one_request:
                    raise
                refused = None if failure.is_item_gone else failure
                continue
            given = True
            yield ref, block
        if refused is not None and not given:
            raise refused  # all of them: that is about the mailbox


def _header_of(graph: GraphHttp, ref: MailRef) -> bytes:
    try:
        with _value(graph, ref) as chunks:
            return _header_block(chunks)
    except GraphError as failure:
        if failure.status not in _NO_MIME:
            raise
        with items_without_mime.rebuild(graph, ref, failure) as spool:
            return _header_block(_pieces(spool))


@contextmanager
def _value(
    graph: GraphHttp, ref: MailRef, session: Given | None = None
) -> Iterator[Iterator[bytes]]:
    """The octets of the MIME form; of an S/MIME item that has none, those of its attachment.

    A refusal that may pass is waited out only where it is not about such an item: Exchange answers
    for them with whatever status. Nor where `session` shows that the item is the cause.
    """
    stored: IO[bytes] | None = None

    def is_smime(failure: GraphError) -> bool:
        nonlocal stored
        if failure.status not in _NOT_OF_ITEM:
            stored = items_without_mime.of_smime(graph, ref, failure)
        is_cause = session is not None and session.shows_cause(ref)
        return stored is not None or (is_cause and failure.status in _NO_MIME)

    with ExitStack() as stack:
        try:
            path = graph.message(ref) + "/$value"
            chunks = stack.enter_context(graph.stream(path, unless=is_smime))
        except GraphError as failure:
            if stored is None and not failure.passes:
                is_smime(failure)
            if stored is None:
                raise
            yield _pieces(stack.enter_context(stored))
            return
        yield _mails_own(graph, chunks)
    if session is not None:
        session.another()


def _mails_own(graph: GraphHttp, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The octets of a mail. Raises Unreachable where a page for people came in its place: who took
    that for the mail would delete the mail after it."""
    first = next(chunks, b"")
    if https.begins_as_page(first):
        raise https.not_the_provider(graph.host)
    yield first
    yield from chunks


def _pieces(spool: IO[bytes]) -> Iterator[bytes]:
    while chunk := spool.read(_CHUNK):
        yield chunk


def too_large(limit: int) -> MailFailure:
    return MailFailure(f"The mail is larger than {limit:,} octets.", code="too-large")


def _may_fit(ref: MailRef, limit: int) -> bool:
    # PidTagMessageSize counts what Exchange stores (two octets a character), not the MIME form,
    # which is smaller at most by about half.
    return ref.size <= limit * 2


def _hand_on(
    ref: MailRef,
    future: Future[IO[bytes] | PosthouseError],
    sink: Sink,
    refusals: RefusedMails,
) -> None:
    spool = future.result()
    if isinstance(spool, MailRefused):
        refusals.refused(ref, spool)
        return
    if isinstance(spool, PosthouseError):
        sink.abandon(ref, spool)
        return
    with spool:
        sink.begin(ref)
        while chunk := spool.read(_CHUNK):
            sink.write(chunk)
        sink.end()
    refusals.mail_came()


def _fetch(
    graph: GraphHttp, ref: MailRef, limit: int, session: Given
) -> IO[bytes] | PosthouseError:
    """The whole mail in a spool, or why it cannot be downloaded."""
    try:
        return _streamed(graph, ref, limit, session)
    except TryAgain as error:
        if error.code not in _OF_GRAPH:
            raise  # our own servers, or the one that gives tokens
        throttled = error.code in ("throttled", "mailbox-busy")
        return MailRefused(str(error), throttled=throttled, passing=True, because=error)


def _streamed(
    graph: GraphHttp, ref: MailRef, limit: int, session: Given
) -> IO[bytes] | PosthouseError:
    for attempt in range(_TRIES):
        spool: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (handed on)
        try:
            with _value(graph, ref, session) as chunks:
                for chunk in chunks:
                    spool.write(chunk)
                    if spool.tell() > limit:
                        spool.close()
                        return too_large(limit)
            if not spool.tell():  # Exchange's MIME form has a header at least
                spool.close()
                return gave_nothing()
            spool.seek(0)
            if spool.read(_HEAD).lstrip()[:1] == b"{":  # no field name of Exchange's
                spool.close()
                return MailRefused("it gives JSON in place of the mail, with status 200")
            spool.seek(0)
            return spool
        except GraphError as failure:
            spool.close()
            return _without_mime(graph, ref, limit, failure, session)
        except TryAgain as error:
            spool.close()
            if attempt + 1 == _TRIES or error.code != "broken-off":
                raise
        except BaseException:
            spool.close()
            raise
    raise AssertionError("unreachable")


def _without_mime(
    graph: GraphHttp, ref: MailRef, limit: int, failure: GraphError, session: Given
) -> IO[bytes] | PosthouseError:
    if failure.is_item_gone:
        return mail_vanished()
    is_cause = not failure.passes or session.shows_cause(ref)
    session.refused(ref)
    if failure.status not in _NO_MIME or not is_cause:
        return _refused(failure, "downloading")
    try:
        spool = items_without_mime.rebuild(graph, ref, failure)
    except GraphError as refusal:
        return _refused(refusal, "reading the properties of a mail without MIME form")
    if spool.seek(0, 2) > limit:
        spool.close()
        return too_large(limit)
    spool.seek(0)
    return spool


def _refused(failure: GraphError, doing: str) -> MailRefused:
    """The reason to abandon a mail that Graph refuses in words that are not about the moment.

    Whether they are about this item, or about all, shows beside others that are asked for, whatever
    the status: an item that its own rights protect answers as a mailbox without any does. Raises
    what says that it passes, and what is about the token.
    """
    error = failure.error(doing)
    if not failure.is_about_one_request:
        raise error from failure
    return MailRefused(
        f"Graph answered {failure.code or failure.status} while {doing}: "
        f"{shortened(failure.words) or 'no words'}",
        because=Unreachable(str(error), step="download", code=error.code, hint=error.hint),
    )


def _header_block(chunks: Iterator[bytes]) -> bytes:
    text = b""
    for chunk in chunks:
        text += chunk
        for ending in (b"\r\n\r\n", b"\n\n"):
            if ending in text:
                return text[: text.index(ending) + len(ending)]
        if len(text) >= HEADER_LIMIT:
            break
    return text[:HEADER_LIMIT]
