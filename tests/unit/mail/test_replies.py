"""The new part of a reply: a guess, bounded in its work, that invents nothing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mail.facts import read_facts
from shared.mail.region import region
from shared.mail.replies import new_part, skeleton

pytestmark = pytest.mark.promise("F4")
QUOTE = "\n> Does it work?\n> Bob"
FIELDS = "From: Bob <b@x.org>\nSent: Monday, June 1, 2026 9:00 AM\nTo: Ann\nSubject: It\n\nWorks?"
VON = "Von: Bob <b@x.org>\nGesendet: Montag, 1. Juni 2026 09:00\nAn: Ann\nBetreff: Es\n\nGeht es?"
PIECES = (
    "On", "wrote:", "Am", "schrieb", "Op", "heeft", "geschreven:", "From:", "*Sent:*", "To: x",
    "\n", "\n\n", ">", "> ", "--", "-----Original Message-----", " <", "<a@b>", "@", ":",
    "2026/1/1 ", " ", "\t", "_" * 32, "-" * 30, "word", "日", "(", "a" * 200,
)  # fmt: skip


@pytest.mark.parametrize(
    "quoted",
    [
        "On Mon, Jun 1, 2026 at 9:00 AM Bob <b@x.org> wrote:\n" + QUOTE,
        "On Mon, Jun 1, 2026 at 9:00 AM A Name <that.is.long@example.org>\nwrote:\n" + QUOTE,
        "On Mon, Jun 1, 2026 at 9:00 AM Bob <b@x.org> wrote:\n\nDoes it work?",
        "Am Mo., 1. Juni 2026 um 09:00 Uhr schrieb Bob <b@x.org>:\n" + QUOTE,
        "Am 01.06.26 um 09:00 schrieb Bob:" + QUOTE,
        "Le lun. 1 juin 2026 à 09:00, Bob <b@x.org> a écrit :\n" + QUOTE,
        "El lun, 1 jun 2026 a las 9:00, Bob (<b@x.org>) escribió:\n" + QUOTE,
        "Op ma 1 jun 2026 om 09:00 schreef Bob <b@x.org>:\n" + QUOTE,
        # In languages that the library does not know.
        "Il giorno lun 1 giu 2026 alle ore 09:00 Bob <b@x.org> ha scritto:\n" + QUOTE,
        "pon., 1 cze 2026 o 09:00 Bob <b@x.org> napisał(a):\n" + QUOTE,
        "2026年6月1日(月) 9:00 Bob <b@x.org>:\n" + QUOTE,
        "在 2026年6月1日，9:00，Bob <b@x.org> 写道：\n" + QUOTE,
        "Bob <b@x.org> 于2026年6月1日周一 09:00写道：\n" + QUOTE,
        "Bob <b@x.org>, 1 Haz 2026 Pzt, 09:00 tarihinde şunu yazdı:\n" + QUOTE,
        "Bob <b@x.org> ezt írta (időpont: 2026. jún. 1., H, 9:00):\n" + QUOTE,
        "ma 1. kesäk. 2026 klo 9.00 Bob (b@x.org) kirjoitti:\n" + QUOTE,
        FIELDS,
        VON,
        f"________________________________\n{FIELDS}",
        f"-----Original Message-----\n{FIELDS}",
        f"-----Ursprüngliche Nachricht-----\n{VON}",
        "> " * 3 + "Bob" + "\n> a" * 900,
    ],
)
def test_what_is_quoted_below_is_left_out(quoted: str) -> None:
    written = "Yes: it does.\n\nAnn"
    assert new_part(f"{written}\n\n{quoted}\n") == written


def test_what_stands_between_and_below_quotes_is_kept() -> None:
    assert new_part("On Monday Bob wrote:\n> Does it?\n\nIt does.") == "It does."
    text = "On Monday Bob wrote:\n> A?\n\nFirst.\n\n> B?\n" + "> b\n" * 99 + "\nSecond.\n"
    assert new_part(text) == "First.\n\nSecond."


@pytest.mark.parametrize(
    "text",
    ["", "Just a text.\n\nFrom: nowhere.", "> all\n> of it\n> is old", "a\n\n" * 1500 + "> b"],
)
def test_where_nothing_is_found_nothing_is_guessed(text: str) -> None:
    assert new_part(text) == ""


def test_an_indented_mark_is_no_quote_and_keeps_its_indent() -> None:
    assert new_part("> Does it?\n > It does.\n> Bob\nAnn") == " > It does.\n\nAnn"


@given(st.lists(st.sampled_from(PIECES), max_size=300).map(" ".join))
def test_whatever_the_text_nothing_is_invented(text: str) -> None:
    written = new_part(text)
    lines = {line.strip() for line in text.split("\n")}
    assert {line.strip() for line in written.split("\n")} <= lines | {""}
    assert not written.startswith(">") and "\n>" not in written


def test_the_library_sees_few_and_short_lines() -> None:
    """Its expressions take the square of a line, and their number of times each line."""
    chance = random.Random(7)
    for _ in range(50):
        text = "".join(chance.choice(PIECES) + chance.choice(("\n", " ")) for _ in range(4000))
        for one in (text, text[:1] * 16_384, f"{text[:9]}\n" * 1500):
            kept, starts = skeleton(one.split("\n"))
            assert len(kept) == len(starts) <= 41
            assert all(len(line) <= 160 for line in kept)
            assert all(line.count("<") <= 3 and line.count("@") <= 3 for line in kept)


def test_only_a_reply_has_a_new_part() -> None:
    body = b"\r\n\r\nYes.\r\n\r\nOn Monday Bob wrote:\r\n> Works?\r\n"
    reply = read_facts(region(b"In-Reply-To: <1@x>" + body), trusted=(), text_limit=1000)
    assert reply.reply_text == "Yes."
    other = read_facts(region(b"Subject: x" + body), trusted=(), text_limit=1000)
    assert other.reply_text == ""
    without = read_facts(region(b"In-Reply-To: <1@x>" + body), trusted=(), text_limit=0)
    assert without.reply_text == ""
