"""Multi-line answers of POP3 as a stream: dots unstuffed on the way, lines of any length.

RFC 1939 section 3: a line that begins with a dot gets another one in front; the text ends with a
line of a dot alone. Both are found by searching the buffer for CRLF-dot, never line by line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shared.mailbox.net.stream import Stream

DOT = ord(".")


@dataclass(slots=True)
class Dots:
    """What was seen of a text's lines that begin with a dot: `removed` so many dots, `single`:
    one had no second dot, so whoever sent it does not stuff them."""

    removed: int = 0
    single: bool = False


def read_text(stream: Stream, give: Callable[[memoryview], None]) -> Dots:
    """Reads up to behind the final dot and hands the text to `give` piece by piece."""
    dots = Dots()
    line_start = True
    while True:
        if line_start:
            if _ends(stream, dots):
                return dots
            line_start = False
        at = stream.buffer.find(b"\r\n.", stream.pos, stream.end)
        if at >= 0:
            _give(stream, at + 2, give)
            line_start = True
            continue
        # A CRLF at the very end may have its dot in what comes next: it is kept back.
        kept = 0
        if stream.buffer.endswith(b"\r\n", stream.pos, stream.end):
            kept = 2
        elif stream.buffer.endswith(b"\r", stream.pos, stream.end):
            kept = 1
        _give(stream, stream.end - kept, give)
        stream.fill()


def _ends(stream: Stream, dots: Dots) -> bool:
    """At the start of a line: whether it is the final dot. Takes that dot, or a stuffed one."""
    while stream.end - stream.pos < 3 and (
        stream.end == stream.pos or stream.buffer[stream.pos] == DOT
    ):
        stream.fill()
    if stream.buffer[stream.pos] != DOT:
        return False
    if stream.buffer.startswith(b".\r\n", stream.pos):
        stream.pos += 3
        return True
    dots.removed += 1
    dots.single = dots.single or stream.buffer[stream.pos + 1] != DOT
    stream.pos += 1
    return False


def _give(stream: Stream, upto: int, give: Callable[[memoryview], None]) -> None:
    if upto > stream.pos:
        start, stream.pos = stream.pos, upto
        give(stream.view[start:upto])
