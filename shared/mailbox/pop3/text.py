"""Multi-line answers of POP3 as a stream: dots unstuffed on the way, lines of any length.

RFC 1939 section 3: a line that begins with a dot gets another one in front; the text ends with a
line of a dot alone. Both are found by searching the buffer for CRLF-dot, never line by line.
"""

from __future__ import annotations

from collections.abc import Callable

from shared.mailbox.net.stream import Wire

DOT = ord(".")


def read_text(wire: Wire, give: Callable[[memoryview], None]) -> None:
    """Reads up to behind the final dot and hands the text to `give` piece by piece."""
    line_start = True
    while True:
        if line_start:
            if _ends(wire):
                return
            line_start = False
        at = wire.buffer.find(b"\r\n.", wire.pos, wire.end)
        if at >= 0:
            _give(wire, at + 2, give)
            line_start = True
            continue
        # A CRLF at the very end may have its dot in what comes next: it is kept back.
        kept = 0
        if wire.buffer.endswith(b"\r\n", wire.pos, wire.end):
            kept = 2
        elif wire.buffer.endswith(b"\r", wire.pos, wire.end):
            kept = 1
        _give(wire, wire.end - kept, give)
        wire.fill()


def _ends(wire: Wire) -> bool:
    """At the start of a line: whether it is the final dot. Takes that dot, or a stuffed one."""
    while wire.end - wire.pos < 3 and (wire.end == wire.pos or wire.buffer[wire.pos] == DOT):
        wire.fill()
    if wire.buffer[wire.pos] != DOT:
        return False
    if wire.buffer.startswith(b".\r\n", wire.pos):
        wire.pos += 3
        return True
    wire.pos += 1
    return False


def _give(wire: Wire, upto: int, give: Callable[[memoryview], None]) -> None:
    if upto > wire.pos:
        start, wire.pos = wire.pos, upto
        give(wire.view[start:upto])
