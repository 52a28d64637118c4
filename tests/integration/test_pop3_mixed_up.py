"""A POP3 server that gives one mail for another, once or always: none is lost, none comes twice.

For an administrator: a mail that always comes as another one is in quarantine (page,
`mail-quarantined` alert), with the reason; a refusal too many at each attempt fails the connection
(page, `connection-failing` alert). What came so once is fetched anew, and nobody is told.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.test_pop3_confirming import watch
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.pop3_rules import RuledPop3, Stored

#: Each has a size of its own.
MAILS = [mail(number, 500 + 90 * number, seed=91) for number in range(6)]
ALIKE = [b"Subject: %d\r\nMessage-ID: <%d@x>\r\n\r\ntext\r\n" % (n, n) for n in range(6)]


def once(answer: bytes, otherwise: Callable[[Stored], bytes]) -> Callable[[Stored], bytes]:
    """For the third mail, the first time that it is asked for."""
    answers = [answer]
    third = (MAILS[2], ALIKE[2])
    return lambda asked: answers.pop() if asked.raw in third and answers else otherwise(asked)


@pytest.mark.promise("I1", "M1")
@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(
    ("fault", "mails"),
    [("another mail", MAILS), ("a refusal too many", MAILS), ("a refusal too many", ALIKE)],
    ids=["another mail", "a refusal too many", "a refusal too many, equal sizes"],
)
def test_a_mail_given_for_another_once_is_fetched_anew(
    fault: str, mails: list[bytes], pipelining: bool, here: FetcherHere
) -> None:
    with RuledPop3(pipelining=pipelining) as server:
        if fault == "another mail":
            server.gives = once(MAILS[3], server.gives)
        else:
            server.says_before = once(b"-ERR what?\r\n", server.says_before)
        server.deliver("alice", mails)
        here.run_until_idle(watch(here, server, "delete"))
        assert here.had() == digests(mails)
        assert server.left("alice") == []
        assert not here.stack.count("quarantine")


@pytest.mark.promise("I1", "M27")
def test_a_mail_always_given_for_another_stays_on_the_server(here: FetcherHere) -> None:
    with RuledPop3() as server:
        server.gives = lambda asked: MAILS[3] if asked.raw == MAILS[2] else asked.raw
        server.deliver("alice", MAILS)
        connection = watch(here, server, "delete")
        for _ in range(3):
            here.run(connection)
        assert here.had() == digests([*MAILS[:2], *MAILS[3:]])
        assert server.left("alice") == [MAILS[2]]
        ((code, reason),) = here.stack.query("SELECT code, reason FROM quarantine")
        assert code == "breaks-session"
        assert "gave another mail than the one that was asked for" in reason


@pytest.mark.promise("I1", "M27")
def test_a_refusal_too_many_at_each_attempt_keeps_no_other_mail(here: FetcherHere) -> None:
    with RuledPop3() as server:
        server.says_before = lambda asked: b"-ERR what?\r\n" if asked.raw == ALIKE[2] else b""
        server.deliver("alice", ALIKE)
        connection = watch(here, server, "delete")
        for _ in range(3):
            here.run(connection)
        assert here.had() == digests([*ALIKE[:2], *ALIKE[3:]])
        assert server.left("alice") == [ALIKE[2]]
        failing = here.stack.query("SELECT health, error->>'code' FROM connection_state")
        assert failing == [("failing", "server-refused")]


#: Servers that give what was asked for, in another size than they list.
HONEST: dict[str, Callable[[RuledPop3], None]] = {
    "a filter adds a field": lambda server: setattr(
        server, "gives", lambda asked: b"X-Filter: clean\r\n" + asked.raw
    ),
    "sizes with other line ends": lambda server: setattr(
        server, "size", lambda raw: len(raw) - raw.count(b"\r\n")
    ),
    "TOP refused": lambda server: server.__dict__.update(
        size=lambda raw: len(raw) + 99, refuse_top=lambda asked: b"not available"
    ),
}


@pytest.mark.promise("M1")
@pytest.mark.parametrize("server_does", HONEST)
def test_mails_of_other_sizes_come_and_few_of_them_are_compared(
    server_does: str, here: FetcherHere
) -> None:
    """Not in each run: where sizes say nothing, each mail would cost one more question for ever."""
    mails = [mail(number, 600, seed=92) for number in range(30)]
    with RuledPop3(pipelining=True) as server:
        HONEST[server_does](server)
        expected = [server.gives(Stored("", raw)) for raw in mails]
        connection = watch(here, server, "delete")
        for start in range(0, 30, 10):
            server.deliver("alice", mails[start : start + 10])
            here.run(connection)
        assert here.had() == digests(expected)
        assert server.left("alice") == []
        assert sum(line.startswith(b"TOP") for line in server.heard) == 20
