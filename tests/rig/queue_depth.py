"""How many jobs wait, as a scaler sees it."""

from __future__ import annotations

import pika
import pika.exceptions
import redis

from shared.queueing.connect import rabbitmq_parameters, redis_client, scheme_of, translated


def queue_depth(url: str, queue: str) -> int:
    """Jobs that wait on a queue or are held by a worker (RabbitMQ: that wait); 0 where it is not.

    On Redis this is the length of the hash `dramatiq:<queue>.msgs`: what autoscaling reads too.
    """
    if scheme_of(url) == "redis":
        try:
            with redis_client(url) as client:
                return int(client.hlen(f"dramatiq:{queue}.msgs"))
        except (redis.RedisError, OSError) as error:
            raise translated(error, url) from error
    try:
        connection = pika.BlockingConnection(rabbitmq_parameters(url))
        try:
            declared = connection.channel().queue_declare(queue, passive=True)
            return int(declared.method.message_count)
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code == 404:
                return 0
            raise
        finally:
            if connection.is_open:
                connection.close()
    except (pika.exceptions.AMQPError, OSError) as error:
        raise translated(error, url) from error
