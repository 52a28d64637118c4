"""The reason of a bounce, in the forms that servers write, each in words of our own."""

from __future__ import annotations

import pytest

from shared.mail.bounce_texts import Reason, reason_for

pytestmark = pytest.mark.promise("F4")

BOB = "bob@gone.example"
INTRO = "We could not deliver your message to the following addresses.\n\n"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (f"{INTRO}<{BOB}>:\nThe folder of this user is full.\nTry later.\n\n-- copy below --\n",
         "The folder of this user is full. Try later."),
        (f"{INTRO}<{BOB}>: Name service error for gone.example: Host not\n    found\n",
         "Name service error for gone.example: Host not found"),
        (f"{INTRO}  {BOB}\n    no such person here\n", "no such person here"),
        (f"{INTRO}\t{BOB} (no such person)\n", "no such person"),
        (f"{INTRO}{BOB}<mailto:{BOB}>\nNobody is called so.\n", "Nobody is called so."),
        (f"{INTRO}{BOB} (mailto:{BOB})\nNobody is called so.\n", "Nobody is called so."),
        (f"{INTRO}{BOB} on Fri, 4 Oct 2002 17:12:28 -0400\n   The name is not recognised\n",
         "The name is not recognised"),
        (f"Your message\n  Subject: hi\n\nwas not delivered to:\n\n  {BOB}\n\nbecause:\n\n"
         f"  User bob ({BOB}) not in the directory\n", f"User bob ({BOB}) not in the directory"),
        (f"Undeliverable address: {BOB}\n\nReason: the account is over\nits quota.\n\nMore text.\n",
         "the account is over its quota."),
        (f"Delivery of mail to\n\n\"{BOB}\"\n\nhas been put off: a full mailbox.\n\nThe copy:\n",
         "has been put off: a full mailbox."),
        (f"Your mail to <{BOB}> was rejected:\nQuota exceeded\n",
         f"Your mail to <{BOB}> was rejected: Quota exceeded"),
        (f"The box is full now: <{BOB}>\n", f"The box is full now: <{BOB}>"),
        ("Nobody took your mail because they take none from you.\n",
         "Nobody took your mail because they take none from you."),
        (f"----\n{BOB} ... unknown host\n----\nfoot\n", "unknown host"),
        (f"(Originally addressed to {BOB})\nUser not known\n", "User not known"),
        (f"<{BOB}>:\n宛先が見つかりません\n", "宛先が見つかりません"),
    ],
)  # fmt: skip
def test_the_reason_in_words(said: str, text: str) -> None:
    assert reason_for(BOB, said) == Reason("", "", text)


@pytest.mark.parametrize(
    "said",
    [
        f"{INTRO}<{BOB}>\n\nNo action is required on your part.\n",
        f"{INTRO}<{BOB}>:\n<eve@gone.example>: no such user\n",
        f"{INTRO}{BOB}\n   (expanded from: <all@gone.example>)\n",
        f"The mail did not reach the following recipient: {BOB}\n",
        "",
    ],
)
def test_what_gives_no_reason(said: str) -> None:
    assert reason_for(BOB, said) == Reason()


@pytest.mark.parametrize(
    ("said", "status", "text"),
    [
        (f"<eve@gone.example>: host mx said: 552 5.2.2 full\n\n<{BOB}>: host mx said: 550 gone\n",
         "", "550 gone"),
        (f"<<< 421 4.7.0 eve@gone.example busy\n<<< 550 <{BOB}>... User unknown\n",
         "", f"550 <{BOB}>... User unknown"),
        (f"<{BOB}>: host mx[192.0.2.1] said: 550 5.1.1\n    <{BOB}>... User unknown\n\nfoot\n",
         "5.1.1", f"550 5.1.1 <{BOB}>... User unknown"),
        (f"  {BOB}\n    host mx: 550 5.1.1 no\n  eve@gone.example\n    host mx: 552 full\n",
         "5.1.1", "550 5.1.1 no"),
        (f"{BOB}\n550-5.7.1 We think that this\n550 5.7.1 is unsolicited.\nQUIT\n",
         "5.7.1", "550-5.7.1 We think that this 550 5.7.1 is unsolicited."),
        (f"RCPT To:<{BOB}>\n 552 too much\n QUIT\n", "", "552 too much"),
        (f"<{BOB}>: 550: 5.1.1 rejected\n", "5.1.1", "550: 5.1.1 rejected"),
        (f"{BOB}<mailto:{BOB}>\nNobody has this address.\n\nFor administrators:\n\n{BOB}\n"
         "Remote Server returned '550 5.1.10 RESOLVER.ADR.NotFound; not found'\n",
         "5.1.10", "550 5.1.10 RESOLVER.ADR.NotFound; not found"),
        (f"{BOB}\nThe box is full.\n\nFor administrators:\n\neve@gone.example\n"
         f"Remote Server returned '550 5.1.1 gone'\n\n{BOB}\n#552 5.2.2 full ##\n",
         "5.2.2", "552 5.2.2 full ##"),
        (f"<eve@gone.example>:\nfull (#5.2.2)\n\n<{BOB}>:\nno mailbox (#5.1.1)\n",
         "5.1.1", "no mailbox (#5.1.1)"),
    ],
)  # fmt: skip
def test_the_reply_is_that_about_the_recipient(said: str, status: str, text: str) -> None:
    found = reason_for(BOB, said)
    assert (found.status, found.text) == (status, text)


def test_a_reason_is_bounded() -> None:
    assert len(reason_for(BOB, f"{BOB}\n" + "word " * 5000).text) == 500
    reply = f"<{BOB}>: said: 550 no\n" + "    more\n" * 5000
    assert len(reason_for(BOB, reply).text) == 500
