"""Requests that are made from the OpenAPI document, and what an answer to one has to be."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from jsonschema import Draft202012Validator
from schemathesis import Case

from services.admin.app import build_api
from services.admin.context import AppState
from shared.people import Role

# The document needs no running stack.
DOCUMENT = build_api(cast(AppState, None)).openapi()
_FOUND: list[Any] = list(schemathesis.openapi.from_dict(DOCUMENT).get_all_operations())
OPERATIONS = [found.ok() for found in _FOUND]

#: An operator with rights by tag.
BY_TAG = "operator by tag"
#: Who asks: the roles, one of them for some connections only, a handler by its token, and nobody.
CALLERS = (*(role.value for role in Role), BY_TAG, "handler", "nobody")

Ask = Callable[..., Any]


@cache
def _validator(method: str, path: str, status: str) -> Draft202012Validator | None:
    """For the JSON that the document shows for an answer; None where it shows none."""
    contents = DOCUMENT["paths"][path][method]["responses"][status].get("content", {})
    schema = next((c["schema"] for kind, c in contents.items() if "json" in kind), None)
    if schema is None:
        return None
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def check(case: Case[Any], answer: Any) -> None:
    """Fails where an answer is not one that the document names, in the form that it names."""
    named = case.operation.definition.raw["responses"]
    assert str(answer.status_code) in named, f"{answer.status_code} is not in the document"
    assert answer.status_code != 500, answer.text
    found = _validator(case.operation.method, case.operation.path, str(answer.status_code))
    kind = answer.headers.get("content-type", "")
    if answer.status_code >= 400:
        assert kind == "application/problem+json"
    if found is not None and answer.content:
        found.validate(answer.json())


@dataclass(frozen=True, slots=True)
class Asking:
    """Sends generated requests to a running service. `token` makes one for a caller whenever it is
    asked, as a request may just have ended the last."""

    url: str
    request: Ask
    token: Callable[[str], str]

    def ask(
        self, operation: Any, *, examples: int, start: int | None = None, caller: str = ""
    ) -> None:
        """Asks one operation, as `caller` or as all in turn. `start`: other requests than the
        ones that are the same every time."""
        callers = itertools.cycle([caller] if caller else CALLERS)
        counted = settings(
            max_examples=examples,
            deadline=None,
            derandomize=start is None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )

        def once(case: Case[Any]) -> None:
            who = next(callers)
            sent = case.as_transport_kwargs(base_url=self.url)
            headers = {
                name: value
                for name, value in (sent.pop("headers", None) or {}).items()
                if name not in {"Cookie", "Authorization"}
            }
            sent.pop("cookies", None)
            if who != "nobody":
                headers["Authorization"] = f"Bearer {self.token(who)}"
            answer = self.request(**sent, headers=headers, timeout=60)
            assert (answer.status_code == 401) is (who == "nobody"), f"{who}: {answer.status_code}"
            check(case, answer)

        run = given(case=operation.as_strategy())(once)
        counted(run if start is None else seed(start)(run))()
