"""The body of an OpenPGP packet, read from its beginning to its end."""

from __future__ import annotations

from services.decryptor.cms.errors import NotOpened


class PacketBody:
    """A forward reader of a packet's body. Raises NotOpened at its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        found = self._data[self.position : self.position + count]
        if len(found) != count:
            raise NotOpened
        self.position += count
        return found

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count))

    def mpi(self) -> bytes:
        return self.take((self.number(2) + 7) // 8)

    def rest(self) -> bytes:
        return self._data[self.position :]
