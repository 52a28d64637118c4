"""GMime as a reader of mail, in Debian's Python: a line of base64 in, a line of JSON out."""

import base64
import json
import sys
from collections.abc import Iterator
from typing import Any

import gi

gi.require_version("GMime", "3.0")
from gi.repository import GMime  # noqa: E402


def addresses(found: Any) -> Iterator[str]:
    for number in range(found.length()):
        one = found.get_address(number)
        if isinstance(one, GMime.InternetAddressMailbox):
            yield one.get_addr() or ""
        else:
            yield from addresses(one.get_members())


def texts(part: Any, kind: str) -> Iterator[str]:
    if isinstance(part, GMime.Multipart):
        for number in range(part.get_count()):
            yield from texts(part.get_part(number), kind)
    elif (
        isinstance(part, GMime.TextPart)
        and part.get_content_type().is_type("text", kind)
        and (part.get_disposition() or "inline").lower() == "inline"
    ):
        yield part.get_text() or ""


def read(raw: bytes) -> dict[str, Any]:
    stream = GMime.StreamMem.new_with_buffer(raw)
    message = GMime.Parser.new_with_stream(stream).construct_message(None)
    if message is None or message.get_mime_part() is None:
        return {"error": "no message"}
    body = message.get_mime_part()
    return {
        "authors": list(addresses(message.get_from())),
        "to": list(addresses(message.get_to())),
        "subject": message.get_subject() or "",
        "date": date.to_utc().format("%Y-%m-%dT%H:%M:%SZ") if (date := message.get_date()) else "",
        "text": "\n".join(texts(body, "plain")),
        "html": "\n".join(texts(body, "html")),
    }


GMime.init()
for line in sys.stdin:
    try:
        answer = read(base64.b64decode(line))
    except Exception as error:
        answer = {"error": repr(error)}
    print(json.dumps({"gmime": answer}), flush=True)
