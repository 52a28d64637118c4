"""A sender for each kind of endpoint, opened by that kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from shared.allowed_hosts import HostRules
from shared.errors import PosthouseError
from shared.forward_kinds import KINDS, ForwardProtocol
from shared.forwarding.outcome import ForwardOutcome
from shared.forwards import Endpoint


class Sender(Protocol):
    """Sends to one endpoint. Thread-safe. Close it."""

    def send(self, key: str, event: bytes) -> ForwardOutcome:
        """One attempt with an event (CloudEvents JSON), which a receiver knows by `key`; it is
        delivered once the endpoint has confirmed. Raises nothing: all is an outcome."""

    def close(self) -> None:
        """What is on its way may be dropped."""


def open_sender(endpoint: Endpoint, hosts: HostRules | None) -> Sender:
    """Connects nothing yet. Raises Refused where certificates cannot be read, PosthouseError where
    the kind's library is not installed."""
    try:
        return _OPENERS[endpoint.kind](endpoint, hosts)
    except ModuleNotFoundError as error:
        kind = KINDS[endpoint.kind]
        raise PosthouseError(
            f"{kind.title} needs the package {error.name}: install posthouse-server[{kind.kind}]."
        ) from error


# Imported when the first of a kind is opened: librdkafka alone costs 20 MB.


def _http(endpoint: Endpoint, hosts: HostRules | None) -> Sender:
    from shared.forwarding.http_sender import HttpSender

    return HttpSender(endpoint, hosts)


def _nats(endpoint: Endpoint, hosts: HostRules | None) -> Sender:
    from shared.forwarding.nats_sender import NatsSender

    return NatsSender(endpoint, hosts)


def _kafka(endpoint: Endpoint, hosts: HostRules | None) -> Sender:
    from shared.forwarding.kafka_sender import KafkaSender

    return KafkaSender(endpoint, hosts)


_OPENERS: Final[Mapping[ForwardProtocol, Callable[[Endpoint, HostRules | None], Sender]]] = {
    ForwardProtocol.HTTP: _http,
    ForwardProtocol.NATS: _nats,
    ForwardProtocol.KAFKA: _kafka,
}
