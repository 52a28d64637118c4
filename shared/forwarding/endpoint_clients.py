"""The client of each kind of endpoint, opened by that kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from shared.allowed_hosts import HostRules
from shared.errors import PosthouseError
from shared.forward_kinds import KINDS, ForwardProtocol
from shared.forwarding.outcome import ForwardOutcome
from shared.forwards import Endpoint


class EndpointClient(Protocol):
    """Sends to one endpoint. Thread-safe. Close it."""

    def send(self, key: str, event: bytes) -> ForwardOutcome:
        """One attempt with an event (CloudEvents JSON), which a receiver knows by `key`; it is
        delivered once the endpoint has confirmed. Raises nothing: all is an outcome."""

    def close(self) -> None:
        """What is on its way may be dropped."""


def open_endpoint_client(endpoint: Endpoint, hosts: HostRules | None) -> EndpointClient:
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


def _http(endpoint: Endpoint, hosts: HostRules | None) -> EndpointClient:
    from shared.forwarding.http_client import HttpClient

    return HttpClient(endpoint, hosts)


def _nats(endpoint: Endpoint, hosts: HostRules | None) -> EndpointClient:
    from shared.forwarding.nats_client import NatsClient

    return NatsClient(endpoint, hosts)


def _kafka(endpoint: Endpoint, hosts: HostRules | None) -> EndpointClient:
    from shared.forwarding.kafka_client import KafkaClient

    return KafkaClient(endpoint, hosts)


_Opener = Callable[[Endpoint, HostRules | None], EndpointClient]
_OPENERS: Final[Mapping[ForwardProtocol, _Opener]] = {
    ForwardProtocol.HTTP: _http,
    ForwardProtocol.NATS: _nats,
    ForwardProtocol.KAFKA: _kafka,
}
