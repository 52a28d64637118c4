"""requests, with answers counted as they unfold: for the libraries that speak by it."""

from __future__ import annotations

from typing import Any

import requests
from requests.adapters import HTTPAdapter

from shared.mailbox.net.https_transport import ANSWER_LIMIT, unfolded

_CHUNK = 65_536


class BoundedAdapter(HTTPAdapter):
    """Reads the whole answer itself, `ANSWER_LIMIT` octets at most. Raises TryAgain beyond."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> Any:
        request.headers["Accept-Encoding"] = "gzip"
        answer = super().send(request, *args, **(options | {"stream": True}))
        encoding = answer.headers.pop("Content-Encoding", "identity").strip().lower()
        try:
            chunks = answer.raw.stream(_CHUNK, decode_content=False)
            host = answer.url.partition("://")[2].partition("/")[0]
            content = b"".join(unfolded(chunks, encoding, ANSWER_LIMIT, host))
        finally:
            answer.raw.close()
        # What requests' own `content` does, without its unbounded decoder.
        answer._content = content
        return answer
