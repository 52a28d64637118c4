"""Which refusals of a server say that it takes no more sessions."""

from __future__ import annotations

import pytest

from shared.mailbox.failures import Unreachable
from tests.unit.test_kept_sessions import Opened, connection, pool, use


@pytest.mark.promise("M27")
@pytest.mark.parametrize(
    ("code", "alive", "is_limit"),
    [
        ("connection-refused", True, True),
        ("connection-refused", False, False),
        ("connection-lost", False, False),
        ("unreachable", True, False),
    ],
)
def test_a_refusal_tells_of_a_limit_where_our_other_sessions_live(
    code: str, alive: bool, is_limit: bool
) -> None:
    """Those of a server that started anew are lost; one that cannot be reached refused nothing."""
    opened = Opened()
    sessions = pool(opened)
    for number in range(2):
        use(sessions, connection(number))
    for kept in sessions._waiting.values():
        kept.mailbox.is_alive = lambda: alive  # type: ignore[method-assign]
    opened.refusals = [Unreachable("The server is not there.", step="tcp", code=code)]
    use(sessions, connection(2))
    assert sessions.shares.knows(connection(0).host) is is_limit
