"""A mail that is one plain text and nothing else: its part, its text and its findings at once.

They are those of `structure`, `parts` and `bodies`, which are asked for every other mail. Most of
the time of a small mail goes into the number of steps, not into its octets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from posthouse.flowed import is_flowed
from shared.mail.bodies import UTF_8, WIDEST, Body, cleaned
from shared.mail.findings import Finding, FindingKind
from shared.mail.parameters import read_parameters
from shared.mail.parts import PartFacts
from shared.mail.region import made
from shared.mail.structure import Entity, has_bare_cr

#: Its part, its text, and what of it others may read differently.
PlainText = tuple[PartFacts, Body, tuple[Finding, ...]]

#: Octets of a value that is looked at: what is longer is not remembered.
_LONGEST: Final = 200
_SEVEN_BIT: Final = (b"7bit",)
_AS_IT_IS: Final = (b"7bit", b"8bit")


def read_plain_text(
    read: Entity, fields: Mapping[str, Sequence[bytes]], limit: int
) -> PlainText | None:
    """None where the mail is more than that, or another reader has to look at it.

    `fields`: values of its header, by name, the Content-* fields among them; `limit`: octets of
    text.
    """
    kind = fields.get("content-type")
    if kind is None or "content-disposition" in fields or "content-id" in fields:
        return None
    label = _label_of(kind[0], fields.get("content-transfer-encoding", _SEVEN_BIT)[0])
    buffer, start, end = read.body
    if not label or end - start > limit * WIDEST:
        return None
    bare_cr = has_bare_cr(read.body)
    try:
        text, _, cut = cleaned(buffer[start:end], limit, bare_cr=bare_cr)
    except UnicodeDecodeError:
        return None
    shown = "" if text.isspace() else text.strip("\n")
    return (
        made(PartFacts, ("1", "text/plain", "", "", "", end - start, label)),
        made(Body, (shown, cut, False)),
        (Finding(FindingKind.BARE_CR, start),) if bare_cr else (),
    )


def _label_of(kind: bytes, encoding: bytes) -> str:
    if len(kind) > _LONGEST or len(encoding) > _LONGEST:
        return ""
    return _label_again(kind, encoding)


@lru_cache(maxsize=512)
def _label_again(kind: bytes, encoding: bytes) -> str:
    """The charset of a text/plain whose octets are its characters; empty for all else."""
    value, parameters, findings = read_parameters(kind)
    label = parameters.get("charset", "").lower()
    if (
        findings
        or value != "text/plain"
        or parameters.get("name")
        or is_flowed(parameters)
        or label not in UTF_8
        or encoding.strip(b" \t\r").lower() not in _AS_IT_IS
    ):
        return ""
    return label
