"""An event as a message of HTTP, NATS or Kafka: CloudEvents 1.0.2, structured and binary mode."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote

from shared.forwards import Format

#: HTTP binding, section 3.1.3.2: what is not printable ASCII, and blank, quote and percent, is
#: percent-encoded.
_SAFE: Final = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')


def fields_and_body(
    event: bytes, form: Format, *, structured: str, prefix: str, quoted: bool = True
) -> tuple[dict[str, str], bytes]:
    """Header fields and body (sections 3.1 and 3.2 of the bindings). `event`: CloudEvents JSON.

    `structured`: the content type where the event goes as it is; `prefix`: of the fields that hold
    its attributes where only its data are the body, percent-encoded where `quoted`.
    """
    if form is Format.STRUCTURED:
        return {"content-type": structured}, event
    attributes: dict[str, Any] = json.loads(event)
    data = attributes.pop("data")
    fields = {"content-type": str(attributes.pop("datacontenttype", "application/json"))}
    for name, value in attributes.items():
        if value is not None and value != "":
            text = str(value).lower() if isinstance(value, bool) else str(value)
            fields[f"{prefix}{name}"] = quote(text, safe=_SAFE) if quoted else text
    return fields, json.dumps(data, separators=(",", ":")).encode()
