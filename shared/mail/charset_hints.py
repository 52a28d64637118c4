"""In which character set octets are that nothing names: in one named beside them.

Programs that put raw octets into a header write their texts in the same set: they say it in
Content-Type, of the mail or of its first text, or in an encoded word of another field.
"""

from __future__ import annotations

import mmap
import re
from typing import Final

from shared.mail.charsets import codec_of

#: Octets behind a header that are looked at, and at the start of its mail: there is the first text
#: of a multipart.
_LOOKED_AT: Final = 8192
#: Octets of HTML that are looked at for a `meta` (WHATWG HTML section 13.2.3.2).
_PRESCANNED: Final = 1024

_LABELS: Final = (
    re.compile(rb"charset[ \t]*+=[ \t]*+[\"']?([A-Za-z0-9][A-Za-z0-9._:-]{0,40})", re.IGNORECASE),
    re.compile(rb"=\?([^?\s=<>*]{1,40})(?:\*[^?\s]{0,20})?\?[bBqQ]\?"),
)


def charset_hint(header: bytes, buffer: bytes | mmap.mmap, stop: int, end: int) -> str:
    """The label for what in a header is no UTF-8; "" where all is, or where none is found.

    `buffer`: its mail, or the start of it; `stop` and `end`: offsets there of what lies behind the
    header and belongs to it.
    """
    try:
        header.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        return ""
    behind = buffer[stop : min(end, stop + _LOOKED_AT)]
    return _first_label(header, behind, buffer[:_LOOKED_AT])


def text_hint(octets: bytes, buffer: bytes | mmap.mmap, *, is_html: bool) -> str:
    """The same for a text of which its part says nothing: what its HTML says of itself, or the mail
    that begins with `buffer`."""
    start = buffer[:_LOOKED_AT]
    return _first_label(octets[:_PRESCANNED], start) if is_html else _first_label(start)


def _first_label(*pieces: bytes) -> str:
    for octets in pieces:
        for pattern in _LABELS:
            for match in pattern.finditer(octets):
                label = match[1].decode("ascii", "replace")
                if codec_of(label) not in (None, "", "utf-8"):
                    return label
    return ""
