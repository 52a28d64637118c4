"""The kinds of endpoints that a handler's events are forwarded to: one `ForwardKind` each.

A new kind is an entry here, a sender in `shared/forwarding` (named in its `senders`), and a word in
the CHECK of the schema: forms, API, files of `posthouse apply` and the command line ask this
registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class ForwardProtocol(StrEnum):
    HTTP = "http"
    NATS = "nats"
    KAFKA = "kafka"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardKind:
    """What a kind is.

    `ports`: the schemes of its addresses with the port where none is named; `tls`: those inside
    TLS. `several`: an address may name several servers. `options`: what it has beside those that
    every kind has; `needed`: which of them has to be given. `credentials`: names of the secrets
    that a login may consist of, each set of names one way. `signs`: what is sent is signed with a
    secret; `has_headers`: header fields of one's own are sent with it.
    """

    kind: ForwardProtocol
    title: str
    example: str
    ports: Mapping[str, int]
    tls: str
    several: bool = False
    options: tuple[str, ...] = ()
    needed: str = ""
    credentials: tuple[frozenset[str], ...] = ()
    signs: bool = False
    has_headers: bool = False

    @property
    def credential_names(self) -> tuple[str, ...]:
        """In a fixed order."""
        return tuple(name for name in _CREDENTIALS if any(name in one for one in self.credentials))


_CREDENTIALS: Final = ("username", "password", "token", "nkey", "creds")
_LOGIN: Final = frozenset({"username", "password"})

KINDS: Final[Mapping[ForwardProtocol, ForwardKind]] = {
    ForwardProtocol.HTTP: ForwardKind(
        kind=ForwardProtocol.HTTP,
        title="HTTP endpoint",
        example="https://crm.example.org/hooks/mail",
        ports={"https": 443, "http": 80},
        tls="https",
        signs=True,
        has_headers=True,
    ),
    ForwardProtocol.NATS: ForwardKind(
        kind=ForwardProtocol.NATS,
        title="NATS JetStream",
        example="tls://nats.example.org:4222",
        ports={"tls": 4222, "nats": 4222},
        tls="tls",
        several=True,
        options=("subject",),
        needed="subject",
        credentials=(
            _LOGIN,
            frozenset({"token"}),
            frozenset({"nkey"}),
            frozenset({"creds"}),
        ),
    ),
    ForwardProtocol.KAFKA: ForwardKind(
        kind=ForwardProtocol.KAFKA,
        title="Kafka",
        example="kafka+ssl://broker1.example.org:9093,broker2.example.org:9093",
        ports={"kafka+ssl": 9093, "kafka": 9092},
        tls="kafka+ssl",
        several=True,
        options=("topic", "key", "sasl_mechanism"),
        needed="topic",
        credentials=(_LOGIN,),
    ),
}
#: Every name that a secret of a login may have.
CREDENTIAL_NAMES: Final = _CREDENTIALS


def kind_of_scheme(scheme: str) -> ForwardKind | None:
    """The kind whose addresses begin with `scheme`."""
    return next((one for one in KINDS.values() if scheme in one.ports), None)
