"""What a program needs to take a handler's mails: commands and code to copy."""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote
from urllib.parse import urlsplit

from posthouse.broker_address import split_sentinels
from services.admin.operations.handlers import HandlerView
from services.admin.settings import AdminSettings


@dataclass(frozen=True, slots=True)
class Snippet:
    title: str
    text: str


def snippets(view: HandlerView, settings: AdminSettings) -> list[Snippet]:
    """Each runs when it is pasted behind the first one, in which the secrets are put."""
    handler = view.handler
    url = settings.effective_output_url
    rabbitmq = url.startswith("amqp")
    known = {
        "POSTHOUSE_BROKER_URL": _without_login(url),
        "POSTHOUSE_HANDLER": handler.name,
        "POSTHOUSE_URL": settings.public_url,
        "POSTHOUSE_HANDLER_TOKEN": "<the token>",
        "POSTHOUSE_SIGNING_KEY": "<the signing key>",
    }
    extra = "rabbitmq" if rabbitmq else "redis"
    python = f"""pip install 'posthouse[{extra}]'
cat > my_handler.py <<'END'
def handle(event):
    print(event.headers.sender, event.headers.subject, flush=True)
END
python3 -m posthouse run my_handler:handle"""
    found = [
        Snippet("Follow the queue on the command line", f"posthouse tail {handler.name}"),
        Snippet(
            "User and password of the broker, which open this queue alone",
            f"posthouse handlers broker-account {handler.name}",
        ),
        Snippet(
            "What every program needs to know: put in this user and password, token and key",
            "\n".join(f"export {name}={quote(value)}" for name, value in known.items()),
        ),
        Snippet(
            "Python, with the package posthouse (on no index yet: from Posthouse's source it is "
            f"pip install './sdk[{extra}]')",
            python,
        ),
    ]
    if rabbitmq:
        found.append(Snippet("Any other language: the RabbitMQ queue", handler.rabbitmq_queue))
    else:
        # redis-cli does not ask Sentinels: whoever copies it puts in where the primary is.
        where = '"$POSTHOUSE_BROKER_URL"'
        if split_sentinels(url):
            where = "redis://<user>:<password>@<the primary>"
        found.append(
            Snippet(
                "Any other language: the Redis stream, consumer group posthouse. One event, taken "
                "and not acknowledged",
                f"redis-cli -u {where} XREADGROUP GROUP posthouse my-program "
                f"COUNT 1 BLOCK 5000 STREAMS {handler.redis_stream} '>'",
            )
        )
    return found


def _without_login(url: str) -> str:
    """Its own login is Posthouse's; each handler can have one of its own."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    path = parts.path if len(parts.path) > 1 else ""
    return f"{parts.scheme}://<user>:<password>@{host}{path}"
