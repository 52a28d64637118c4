"""Every line of the corpus through what understands it: the verdict, the delay, and what to do."""

from __future__ import annotations

import pytest

from shared.errors import NeedsAuthorisation, NeedsPerson, PosthouseError, TryAgain
from shared.mailbox.errors import (
    diagnoses,
    entra_numbers,
    graph_answers,
    server_answers,
    token_answers,
)
from shared.mailbox.errors.diagnoses import Diagnosis, GrantLost
from shared.mailbox.errors.refused_logins import login_error
from shared.mailbox.failures import OAuthRefused
from tests.corpus import Line, lines

LINES = lines()
PLACES = {"LOGIN", "AUTHENTICATE (token)", "PASS", "AUTH (token)"}


def test_the_corpus_is_whole() -> None:
    assert len(LINES) >= 150
    assert all(line.source for line in LINES)
    assert {line.protocol for line in LINES} == {"imap", "pop3", "token endpoint", "graph"}


def understood(line: Line) -> PosthouseError:
    """What becomes of the words where they were seen."""
    if line.protocol == "token endpoint":
        status, asked, _, _ = line.http
        return token_answers.of_token_answer(status, line.json, retry_after=asked)
    if line.protocol == "graph":
        status, asked, _, _ = line.http
        error = graph_answers.of_graph(status, line.json, retry_after=asked)
        return server_answers.of_account_that_worked(error)
    text = line.words.partition(" ")[2]
    if "token" in line.answers:
        refused = OAuthRefused("The mail server refused.", details={}, server_text=text)
        return server_answers.of_account_that_worked(server_answers.of_refusal(refused, token=True))
    code = text[1:].partition("]")[0] if text.startswith("[") else ""
    return server_answers.of_refusal(login_error(code, text), token=False)


def is_a_verdict(line: Line) -> bool:
    page = line.protocol in ("graph", "token endpoint") and line.http[2] == "text/html"
    login = line.answers in PLACES or line.protocol == "token endpoint" or line.answers == "any"
    # An answer of another form than the protocol's is no refusal: the run shows what it means.
    return login and not page and not line.words.startswith(("* ", "+"))


@pytest.mark.promise("A5")
@pytest.mark.parametrize("line", [line for line in LINES if is_a_verdict(line)], ids=str)
def test_each_refusal_means_what_it_says(line: Line) -> None:
    error = understood(line)
    verdicts: dict[str, type[PosthouseError]] = {
        "try again": TryAgain,
        "waits": TryAgain,
        "needs a person": NeedsPerson,
        "needs authorisation": NeedsAuthorisation,
        "needs authorisation, kept": NeedsAuthorisation,
    }
    assert isinstance(error, verdicts[line.expected]), error
    assert isinstance(error, GrantLost) == (line.expected == "needs authorisation")
    assert isinstance(error, NeedsAuthorisation) == line.expected.startswith("needs authorisation")
    assert len(error.hint) > 20, "whoever reads it knows what to do"
    if line.delay is not None:
        assert isinstance(error, TryAgain)
        assert error.retry_after == pytest.approx(line.delay)


@pytest.mark.promise("A5")
def test_every_meaning_has_something_to_do() -> None:
    known = [value for value in vars(diagnoses).values() if isinstance(value, Diagnosis)]
    assert len(known) > 35
    assert [one.code for one in known if len(one.hint) < 20] == []
    assert len({one.code for one in known}) == len(known)


@pytest.mark.promise("A4")
def test_only_numbers_that_say_so_lose_a_grant() -> None:
    lost = {n for n, meaning in entra_numbers.MEANINGS.items() if meaning.verdict is GrantLost}
    assert lost == {50173, 70000, 70008, 700082, 700084}
