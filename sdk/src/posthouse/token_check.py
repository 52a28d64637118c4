"""Whether a handler's token opens that handler's mails, asked before the first one comes."""

from __future__ import annotations

import json
import logging
import os
from urllib.parse import urljoin

from posthouse.raw import TOKEN_VARIABLE, URL_VARIABLE, RawUnavailable, open_url
from posthouse.source import AccessRefused

_log = logging.getLogger("posthouse")
_TIMEOUT_S = 10.0
#: Answered to a handler's token alone: `{"id": …, "name": …}`.
PATH = "/api/v1/handler"


def check_token(
    handler: str, *, token: str | None = None, posthouse_url: str | None = None
) -> None:
    """Asks Posthouse whose token it is. Default: the environment's POSTHOUSE_HANDLER_TOKEN and
    POSTHOUSE_URL.

    Raises AccessRefused where it is nobody's or another handler's. Where there is none, or
    Posthouse is away, that is logged: most mails are in their event and need no token.
    """
    base = posthouse_url or os.environ.get(URL_VARIABLE, "")
    if not (token or os.environ.get(TOKEN_VARIABLE)) or not base:
        _log.info(
            "%s and %s are not both set: mails and parts that are not in their event cannot "
            "be opened",
            URL_VARIABLE,
            TOKEN_VARIABLE,
        )
        return
    try:
        with open_url(
            urljoin(base, PATH), token=token, timeout_s=_TIMEOUT_S, posthouse_url=base
        ) as answer:
            name = json.loads(answer.read(10_000))["name"]
    except RawUnavailable as error:
        if error.status in {401, 403, 404}:
            raise AccessRefused(
                f"Posthouse at {base} does not take the token for that of the handler {handler!r} "
                f"({TOKEN_VARIABLE}). Its page in Posthouse makes another"
            ) from error
        _log.warning("the handler's token was not checked: %s", error)
    except (OSError, ValueError, LookupError, TypeError) as error:
        _log.warning("the handler's token was not checked: %s answers %r", base, error)
    else:
        if name != handler:
            raise AccessRefused(
                f"the token in {TOKEN_VARIABLE} is that of the handler {name!r}, not of {handler!r}"
            )
