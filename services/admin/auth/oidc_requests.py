"""The HTTP of the OIDC library (`requests`), sent by the one HTTPS client of Posthouse.

So that what a provider's description names is held to the same as everything else: checked
addresses, verified TLS, bounded answers, no redirects, nothing of the environment (proxies, netrc).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from shared.mailbox.net import https

_TIMEOUT: Final = 10.0  # seconds


class ProviderAdapter(BaseAdapter):
    """Sends what is asked over https. Mount it for `https://`; nothing answers for `http://`.

    Raises TryAgain for what does not answer in time or with too much, and Refused for an address
    that may not be connected to.
    """

    def __init__(self, ca_certificate: str, reach: https.Reach | None) -> None:
        super().__init__()
        self._client = https.client(ca_certificate, connect=_TIMEOUT, read=_TIMEOUT, reach=reach)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        url = str(request.url)
        fields = {k: v for k, v in request.headers.items() if k.lower() != "accept-encoding"}
        with https.translated(url.partition("://")[2].partition("/")[0]):
            answer = self._client.request(
                str(request.method), url, headers=fields, content=request.body
            )
        if answer.is_redirect:
            raise requests.TooManyRedirects(f"{answer.url.host} points elsewhere.")
        response = requests.Response()
        response.request, response.url = request, url
        response.status_code, response.reason = answer.status_code, answer.reason_phrase
        response.headers = CaseInsensitiveDict(answer.headers)
        response.encoding = answer.encoding
        # As requests' own adapters leave it once the content was read.
        response._content = answer.content
        return response

    def close(self) -> None:
        self._client.close()


def session_over(session: requests.Session, ca_certificate: str, reach: https.Reach | None) -> None:
    """Has `session` speak over nothing else."""
    session.trust_env = False
    session.adapters.clear()
    session.mount("https://", ProviderAdapter(ca_certificate, reach))
