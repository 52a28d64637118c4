"""The brokers of a Kafka cluster: how they are spoken to, and whether that is allowed.

librdkafka resolves names and connects by itself, also to brokers that others advertise. So the
servers of the address, and what they advertise, are checked before the producer is opened and every
minute after that. What a name leads to in between cannot be guarded here: in plain text the
addresses that were checked are used for the first contact; inside TLS a wrong server has no
certificate for the name.
"""

from __future__ import annotations

import time
from typing import Any, Final

from confluent_kafka.admin import AdminClient

from shared.allowed_hosts import HostRules
from shared.forwards import Endpoint, servers_of
from shared.mailbox.net.connect import Deadline, resolve

_CONNECT_S: Final = 5.0
_EVERY_S: Final = 60.0


class Brokers:
    """Not thread-safe: its owner calls under a lock."""

    def __init__(self, endpoint: Endpoint, hosts: HostRules | None) -> None:
        self._endpoint = endpoint
        self._hosts = hosts
        self._connect_s = min(_CONNECT_S, float(endpoint.options.timeout_seconds))
        self._is_tls = endpoint.address.startswith("kafka+ssl:")
        self._checked_at: float | None = None
        self._servers: list[str] = []

    def check(self) -> None:
        """Raises PosthouseError where a broker may not be connected to, or has no address;
        KafkaException where none tells which brokers there are."""
        now = time.monotonic()
        if self._checked_at is not None and now - self._checked_at < _EVERY_S:
            return
        self._servers = []
        for host, port in servers_of(self._endpoint.address):
            self._servers += self._allowed(host, port)
        if self._hosts is not None:
            found = AdminClient(self.settings()).list_topics(
                self._endpoint.options.topic, timeout=self._connect_s
            )
            for broker in found.brokers.values():
                self._allowed(broker.host or "", broker.port)
        self._checked_at = now

    def forget(self) -> None:
        """The next `check` looks again."""
        self._checked_at = None

    def settings(self) -> dict[str, Any]:
        """What every client of this cluster is given; after `check` has looked at the address."""
        endpoint = self._endpoint
        login, sasl = endpoint.credentials, ""
        found: dict[str, Any] = {
            "bootstrap.servers": ",".join(self._servers),
            "client.id": "posthouse",
            "log_level": 0,
            "socket.connection.setup.timeout.ms": max(1000, int(self._connect_s * 1000)),
        }
        if login:
            sasl = "SASL_"
            found |= {
                "sasl.mechanism": endpoint.options.sasl_mechanism.value,
                "sasl.username": login["username"],
                "sasl.password": login["password"],
            }
        if self._is_tls and endpoint.options.ca_certificate:
            found["ssl.ca.pem"] = endpoint.options.ca_certificate
        elif self._is_tls:
            found["ssl.ca.location"] = "probe"
        if endpoint.client_certificate:
            found |= {
                "ssl.certificate.pem": endpoint.client_certificate,
                "ssl.key.pem": endpoint.client_certificate,
            }
        return found | {"security.protocol": sasl + ("SSL" if self._is_tls else "PLAINTEXT")}

    def _allowed(self, host: str, port: int) -> list[str]:
        allow = self._hosts.at(host) if self._hosts is not None else None
        addresses = resolve(host, port, Deadline(self._connect_s), allow)
        if self._is_tls:
            return [f"{host}:{port}"]
        return [f"[{one}]:{port}" if one.version == 6 else f"{one}:{port}" for one in addresses]
