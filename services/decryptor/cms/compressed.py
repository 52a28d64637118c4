"""CompressedData (RFC 3274), up to a limit: a kilobyte can unpack to a megabyte."""

from __future__ import annotations

import zlib

from services.decryptor.cms.algorithms import algorithm
from services.decryptor.cms.ber import INTEGER, OID, SEQUENCE, Reader
from services.decryptor.cms.content import pieces
from services.decryptor.cms.errors import Malformed, Unsupported
from services.decryptor.cms.oids import ZLIB, dotted
from services.decryptor.spool import Spool, SpoolWriter
from shared.mail.region import WINDOW, Region


def decompress(body: Region, content: Reader, spool: Spool, limit: int) -> tuple[bytes, Region]:
    """(content type, unpacked content of at most `limit` octets).

    Raises Malformed (damaged, or over the limit) or Unsupported.
    """
    fields = content.enter(SEQUENCE)
    fields.take(INTEGER)
    method = algorithm(fields.element(SEQUENCE))
    if method.oid != ZLIB:
        raise Unsupported(f"The compression {dotted(method.oid)} is not supported.")
    encapsulated = fields.enter(SEQUENCE)
    content_type = encapsulated.value(OID)
    inner = encapsulated.enter(0xA0)
    sink = spool.sink()
    try:
        _inflate(inner, body, sink, limit)
    except zlib.error as error:
        sink.discard()
        raise Malformed("The compressed content is damaged.") from error
    except Malformed:
        sink.discard()
        raise
    return content_type, sink.finish()


def _inflate(source: Reader, body: Region, sink: SpoolWriter, limit: int) -> None:
    stream = zlib.decompressobj()
    for piece in pieces(source.octets(), body):
        waiting: bytes | memoryview = piece
        while waiting and not stream.eof:
            sink.write(stream.decompress(waiting, WINDOW))
            if len(sink) > limit:
                raise Malformed(f"The content unpacks to more than {limit} octets.")
            waiting = stream.unconsumed_tail
    if not stream.eof:
        raise Malformed("The compressed content is cut off.")
