"""What a program needs to take a handler's mails: commands and code to copy."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from services.admin.operations.handlers import HandlerSeen
from services.admin.settings import AdminSettings


@dataclass(frozen=True, slots=True)
class Snippet:
    title: str
    text: str


def snippets(seen: HandlerSeen, settings: AdminSettings) -> list[Snippet]:
    """Without secrets: the broker's address is shown without its login."""
    handler = seen.handler
    parts = urlsplit(settings.effective_output_url)
    rabbitmq = parts.scheme.startswith("amqp")
    address = f"{parts.scheme}://{parts.hostname or ''}" + (f":{parts.port}" if parts.port else "")
    address += parts.path if len(parts.path) > 1 else ""
    queue = handler.rabbitmq_queue if rabbitmq else handler.redis_stream
    found = [
        Snippet("Follow the queue on the command line", f"posthouse tail {handler.name}"),
        Snippet(
            "What the program needs to know",
            f"POSTHOUSE_URL={settings.public_url}\n"
            "POSTHOUSE_HANDLER_TOKEN=<the token>\n"
            "POSTHOUSE_SIGNING_KEY=<the signing key>",
        ),
        Snippet(
            "Python, with the package posthouse",
            "\n".join(
                (
                    "from posthouse import Consumer",
                    "",
                    "def handle(mail):",
                    "    print(mail.headers.sender, mail.headers.subject)",
                    "",
                    f'Consumer("{address}", "{handler.name}").run(handle)',
                )
            ),
        ),
    ]
    if rabbitmq:
        found.append(Snippet("Any other language: the RabbitMQ queue", queue))
    else:
        found.append(
            Snippet(
                "Any other language: the Redis stream, consumer group posthouse",
                f"XREADGROUP GROUP posthouse my-program COUNT 10 BLOCK 5000 STREAMS {queue} >\n"
                f"XACK {queue} posthouse <id>",
            )
        )
    return found
