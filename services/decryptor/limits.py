"""How much work and memory one mail can ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MailLimits:
    """Bounds of opening one mail."""

    #: How many layers (encrypted, signed, compressed) lie around the content. Triple-wrapped mail
    #: has three; gateways add one or two.
    nesting: int = 8
    #: What compressed content may unpack to, in octets. The default is the largest mail.
    decompressed_bytes: int = 157_286_400
    #: Up to this size, in octets, each form of the mail is kept in memory, above it in a file.
    memory_bytes: int = 1 << 24
    #: How many octets one octet of compressed content may unpack to; a free megabyte is for
    #: small ones. Texts reach 20, tables 100, an attack 1000.
    ratio: int = 100

    def unpacked(self, size: int) -> int:
        """What a compressed content of `size` octets may unpack to, in octets."""
        return min(self.decompressed_bytes, max(1 << 20, size * self.ratio))
