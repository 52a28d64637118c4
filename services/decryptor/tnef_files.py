"""Files in a winmail.dat (MS-OXTNEF) that may be encrypted or signed messages.

Outlook packs such a message, too, where it writes to somebody of whom it believes that they have
Exchange.
"""

from __future__ import annotations

from collections.abc import Iterator

from posthouse import tnef
from shared.mail.fields import HeaderBlock
from shared.mail.parts import PlacedPart, entity_file_name, unpacked
from shared.mail.region import made, region
from shared.mail.structure import Entity, Part

#: Types of an entity that is such a container.
TNEF_TYPES = ("application/ms-tnef", "application/vnd.ms-tnef")
_ENDINGS = (".p7m", ".pgp", ".gpg", ".asc")
#: Files that are looked at, each of which is one more way through the stream; and their octets,
#: without which a name has to do.
_MOST = 4
_LONGEST = 1 << 24


def is_tnef(part: Entity) -> bool:
    """Whether a part is a winmail.dat."""
    return part.media_type in TNEF_TYPES or tnef.is_packed(part.media_type, entity_file_name(part))


def messages_in(part: Entity) -> Iterator[Entity]:
    """Those of its files that are named like messages of S/MIME or OpenPGP, each as if it were a
    part."""
    left = _MOST
    for file in unpacked(_placed(part)):
        if not file.name.lower().endswith(_ENDINGS):
            continue
        content = b"".join(file.content()) if file.size <= _LONGEST else b""
        names = {"name": file.name}
        octets = "application/octet-stream"
        yield made(Entity, (HeaderBlock(b""), region(content), octets, names, "binary"))
        left -= 1
        if not left:
            return


def _placed(part: Entity) -> PlacedPart:
    return PlacedPart("1", made(Part, (part.body, part, None, (), ())))
