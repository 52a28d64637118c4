"""Opens the output that an address names."""

from __future__ import annotations

from shared.queueing.connect import scheme_of
from shared.queueing.output.base import Output


def open_output(url: str, *, management_url: str = "") -> Output:
    """The output on any kind of broker (`posthouse.broker_address`); connects on first use.

    `management_url` (`http://user:password@host:15672`) lets RabbitMQ tell how much is being
    handled, so that the watermark follows closely. Raises InvalidInput on other addresses.
    """
    if scheme_of(url) == "redis":
        from shared.queueing.output.redis import RedisOutput

        return RedisOutput(url)
    from shared.queueing.output.rabbitmq import RabbitmqOutput

    return RabbitmqOutput(url, management_url=management_url)
