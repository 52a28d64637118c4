"""The API as the commands use it: where it is, its token, its problems as errors of ours."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, cast

from shared.errors import InvalidInput, NotFound, PosthouseError, TryAgain

if TYPE_CHECKING:
    import httpx


#: Seconds for the connection, and for the answer: nothing is waited for where something is read.
_CONNECT_S: Final = 5.0
_READ_S: Final = 15.0
#: Where something is changed; and below these paths, where a mail server or an endpoint is asked.
_CHANGE_S: Final = 60.0
_ASK_S: Final = 150.0
_ASKING: Final = re.compile(r"connections\b|handlers/\d+/forward/test")
#: After which somebody at a terminal is told what is waited for.
_SILENT_S: Final = 4.0


class ApiRefused(PosthouseError):
    """The API said no; `problem` is its answer (RFC 9457)."""

    code = "api-refused"

    def __init__(self, problem: dict[str, Any], status: int) -> None:
        text = str(problem.get("detail") or f"The API answered {status}.")
        super().__init__(
            text, hint=str(problem.get("hint") or ""), code=str(problem.get("code", self.code))
        )
        self.problem = problem
        self.status = status


class ApiInvalid(InvalidInput, ApiRefused):
    """What was given is not acceptable: the command was misused."""

    def __init__(self, problem: dict[str, Any], status: int) -> None:
        ApiRefused.__init__(self, problem, status)
        self.field = str(problem.get("field") or "")
        self.more = tuple(
            InvalidInput(str(one["detail"]), field=str(one["field"]), hint=one.get("hint") or "")
            for one in problem.get("errors", ())[1:]
        )


def _local_admin() -> tuple[str, str] | None:
    """Address and token of the admin service that has this environment; None where none has."""
    token = os.environ.get("POSTHOUSE_ADMIN_TOKEN")
    path = os.environ.get("POSTHOUSE_ADMIN_TOKEN_FILE")
    if not token and path:
        try:
            token = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InvalidInput(
                f"POSTHOUSE_ADMIN_TOKEN_FILE names {path}, which cannot be read: {error.strerror}.",
                field="POSTHOUSE_ADMIN_TOKEN_FILE",
            ) from error
    if not token:
        return None
    return f"http://127.0.0.1:{os.environ.get('POSTHOUSE_PORT') or 8025}", token


def _local_at(url: str) -> tuple[str, str] | None:
    """The local `posthouse up`, where `url` is its address: whoever writes a handler has that in
    the environment, as the handler needs it, and no token of the API."""
    from cli.local.data_folder import local_api

    try:
        address, token = local_api()
    except PosthouseError:
        return None
    same = address.rstrip("/") == url.replace("//localhost:", "//127.0.0.1:").rstrip("/")
    return (address, token) if same else None


class Api:
    """The API of the `up` that `--data-dir` names, of `POSTHOUSE_URL` with `POSTHOUSE_TOKEN`, of
    the admin service in whose container this is, or of the local `posthouse up`.

    A context manager. Every method gives decoded JSON, or raises ApiRefused (its subclass for
    status 422), TryAgain where nobody answers in time, NotFound where no address is known.
    `timeout`: the most seconds that any answer may take, where whoever asks can do without.
    """

    def __init__(self, url: str, token: str, *, timeout: float | None = None) -> None:
        import httpx

        self._http = httpx.Client(
            base_url=url.rstrip("/") + "/api/v1/",
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(_CHANGE_S, connect=_CONNECT_S),
        )
        self.url = url
        self._most = timeout

    @classmethod
    def from_environment(cls, *, timeout: float | None = None) -> Api:
        from cli.local.data_folder import chosen_folder, local_api

        if (folder := chosen_folder()) is not None:
            return cls(*local_api(folder), timeout=timeout)
        url, token = os.environ.get("POSTHOUSE_URL"), os.environ.get("POSTHOUSE_TOKEN")
        path = os.environ.get("POSTHOUSE_TOKEN_FILE")
        if not token and path:
            token = Path(path).read_text(encoding="utf-8").strip()
        if url and token:
            return cls(url, token, timeout=timeout)
        if url and (here := _local_at(url)):
            return cls(*here, timeout=timeout)
        if url or token:
            missing = "POSTHOUSE_TOKEN" if url else "POSTHOUSE_URL"
            raise InvalidInput(
                f"{missing} is not set.",
                field=missing,
                hint="Both are needed to reach a Posthouse; neither for the local `posthouse up`.",
            )
        if beside := _local_admin():
            return cls(*beside, timeout=timeout)
        return cls(*local_api(), timeout=timeout)

    def __enter__(self) -> Api:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        """Parameters that are None are left out."""
        return self._call("GET", path, params=_without_none(params))

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        if body is not None:
            options["json"] = body
        return self._call("POST", path, **options)

    def put(self, path: str, **options: Any) -> Any:
        return self._call("PUT", path, **options)

    def patch(self, path: str, body: Any) -> Any:
        return self._call("PATCH", path, json=body)

    def delete(self, path: str, **params: Any) -> Any:
        return self._call("DELETE", path, params=_without_none(params))

    def every(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """The items of every page of a list."""
        page = 1
        while True:
            found = self.get(path, **params, page=page, per_page=200)
            yield from found["items"]
            if page * found["per_page"] >= found["total"] or not found["items"]:
                return
            page += 1

    def download(self, path: str, **params: Any) -> Iterator[bytes]:
        """The octets of an answer, chunk by chunk."""
        import httpx

        try:
            with self._http.stream("GET", path, params=_without_none(params)) as answer:
                if answer.is_error:
                    answer.read()
                    raise _refused(answer)
                yield from answer.iter_bytes()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def named(self, kind: str, name_or_id: str) -> dict[str, Any]:
        """The object of that id or name. Raises NotFound."""
        if name_or_id.isascii() and name_or_id.isdigit():
            return cast(dict[str, Any], self.get(f"{kind}/{int(name_or_id)}"))
        for item in self.get(kind, q=name_or_id, **_paged(kind))["items"]:
            if item["name"].casefold() == name_or_id.casefold():
                return cast(dict[str, Any], self.get(f"{kind}/{item['id']}"))
        raise NotFound(
            f"There is no {kind.removesuffix('s')} named {name_or_id!r}.",
            hint=f"`posthouse {kind} list` shows what there is.",
        )

    def _call(self, method: str, path: str, **options: Any) -> Any:
        import httpx

        seconds = self._seconds(method, path)
        try:
            with _told_meanwhile(f"Waiting for the API at {self.url}, {seconds:g} s at most …"):
                answer = self._http.request(
                    method, path, **options, timeout=httpx.Timeout(seconds, connect=_CONNECT_S)
                )
        except httpx.ReadTimeout as error:
            raise self._unanswered(method, seconds) from error
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if answer.is_error:
            raise _refused(answer)
        return answer.json() if answer.content else None

    def _seconds(self, method: str, path: str) -> float:
        asks = _ASKING.match(path) and (method != "GET" or path.endswith("/folders"))
        seconds = _ASK_S if asks else _READ_S if method == "GET" else _CHANGE_S
        return min(seconds, self._most or seconds)

    def _unanswered(self, method: str, seconds: float) -> TryAgain:
        known = (
            "" if method == "GET" else " Whether it was done is not known: look, then repeat it."
        )
        return TryAgain(
            f"The API at {self.url} took the request and did not answer within {seconds:g} s."
            f"{known}",
            hint="The admin service hangs, or what it needs does: see its log, and what /readyz at "
            "its health port says. With the service restarted, repeat the command.",
        )

    def _unreachable(self, error: Exception) -> TryAgain:
        return TryAgain(
            f"The API at {self.url} does not answer: {error}",
            hint="Is `posthouse up` (or the admin service) running? POSTHOUSE_URL says where.",
        )


@contextmanager
def _told_meanwhile(text: str) -> Iterator[None]:
    """Says `text` on a terminal where the work takes long."""

    def say() -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    timer = threading.Timer(_SILENT_S, say)
    timer.daemon = True
    if sys.stderr.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _refused(answer: httpx.Response) -> PosthouseError:
    try:
        problem = json.loads(answer.content)
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    return refused(problem, answer.status_code)


def refused(problem: dict[str, Any], status: int) -> PosthouseError:
    """The error that a problem of the API says (RFC 9457)."""
    return ApiInvalid(problem, status) if status == 422 else ApiRefused(problem, status)


def _without_none(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _paged(kind: str) -> dict[str, Any]:
    return {"per_page": 500} if kind in ("connections", "certificates") else {}
