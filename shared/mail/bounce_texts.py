"""What the text of a bounce says about a recipient, in the words of the server that wrote it.

No standard gives these texts a form. What servers share: a recipient stands before the reason, in
one block of lines with it; or the reason is the reply of another server (RFC 5321 section 4.2), or
stands behind a word such as `Reason:`; or a sentence names the recipient and the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from shared.mail.addresses import lowered

#: Characters of a reason that are kept.
_LONGEST: Final = 500
#: A reply of SMTP, alone on its line or behind what introduces it, with its enhanced status.
_REPLY: Final = re.compile(
    r"(?:^[#<>\" \t]{0,40}|[:>)\]][ \t]{1,8}|\b(?:said|reason|returned):?[ \t]{1,8}['\"]?)"
    r"(([45][0-5]\d)(?:[ -]|: )(?:#?([45]\.\d{1,3}\.\d{1,3})\b)?[^\n]{0,900})",
    re.M,
)
#: As qmail writes it at the end of a sentence.
_NUMBERED: Final = re.compile(r"#([45]\.\d{1,3}\.\d{1,3})\b")
ADDRESS: Final = re.compile(r"[^\s<>()\[\]\",;:']{1,64}@[^\s<>()\[\]\",;:'@]{1,255}")
#: What stands between a recipient and the reason, or before the recipient, on its line.
_AROUND: Final = " \t\n<>\"':;,.()[]*-|="
#: What parts blocks beside empty lines.
_RULER: Final = re.compile(r"[ \t|]{0,8}[-=*_]{3}")
#: A word of any script.
_WORD: Final = re.compile(r"[^\W\d_]{3}|[\u3040-\u9fff\uac00-\ud7af]")
#: An address once more behind itself, as programs write it whose text was HTML.
_LINK: Final = re.compile(r"(?<=[^\s<>(\[])[ \t]?[<(\[]mailto:[^\s<>()\[\]]{1,330}[>)\]]", re.I)
#: When it was sent, as Exchange notes it behind a recipient.
_WHEN: Final = re.compile(r"[;,]? on [^\n]{0,60}\d:\d\d[^\n]{0,20}")
#: By which other address a server came to the recipient.
_EXPANDED: Final = re.compile(
    r"\W{0,40}(?:expanded from|generated from|(?:was|originally) addressed to)\b[^\n]{0,300}", re.I
)
#: Fields of the mail that a server tells of.
_OF_THE_MAIL: Final = re.compile(r"[ \t]{0,8}(?:Subject|Date|Sent|From|To|Cc):", re.I)
#: What introduces recipients and gives no reason.
_INTRODUCES: Final = re.compile(
    r"\b(?:following|recipients?|(?:delivered|mail|message) to|address(?:es)?$)", re.I
)
_LABEL: Final = re.compile(
    r"\b(?:reasons?|because|error[- ]text|error was given|problem appears to be)"
    r"[ \t]{0,8}:\s{0,40}",
    re.I,
)
_BECAUSE: Final = re.compile(r"\bbecause\b", re.I)


class Reason(NamedTuple):
    """`status`: an enhanced status code (RFC 3463) such as `5.1.1`, `code` the reply code of SMTP
    such as `550`, `text` the reason in one line. Empty where the text has none."""

    status: str = ""
    code: str = ""
    text: str = ""


def reason_for(recipient: str, said: str) -> Reason:
    """Why `said`, what a server wrote, does not reach the recipient, whose address may be ""."""
    said = _LINK.sub("", said)
    blocks = list(_blocks(said))
    about = [one for one in blocks if recipient and lowered(recipient) in lowered(one)]
    reply = _reply(about, said, recipient)
    numbered = next(filter(None, map(_NUMBERED.search, (*about, said))), None)
    status = (reply and reply[3]) or (numbered[1] if numbered else "")
    if reply:
        text = reply[1] + _continued(reply)
    else:
        text = _in_words(recipient, about, blocks, said)
    return Reason(status, reply[2] if reply else "", _tidy(" ".join(text.split()))[:_LONGEST])


def _blocks(said: str) -> Iterator[str]:
    """Lines that stand together, and those below an empty line that go on with the sentence."""
    block: list[str] = []
    is_parted = is_ruled = False
    for line in said.split("\n"):
        if _RULER.match(line) and not ADDRESS.search(line):
            is_ruled = True
        elif not line.strip():
            is_parted = True
        elif not _OF_THE_MAIL.match(line):
            if block and (is_ruled or (is_parted and not line.strip()[0].islower())):
                yield "\n".join(block)
                block = []
            is_parted = is_ruled = False
            block.append(line)
    if block:
        yield "\n".join(block)


def _reply(about: list[str], said: str, recipient: str) -> re.Match[str] | None:
    """The reply that is about the recipient, or else the first; one with a status before others."""
    behind = [found for one in about for found in _REPLY.finditer(_after(recipient, one))]
    everywhere = list(_REPLY.finditer(said))
    naming = [one for one in everywhere if recipient and lowered(recipient) in lowered(one[1])]
    beside = [found for one in about for found in _REPLY.finditer(one)]
    for replies in (behind, naming, beside, everywhere):
        if replies:
            return next((one for one in replies if one[3]), replies[0])
    return None


def _continued(reply: re.Match[str]) -> str:
    """The lines in which a reply goes on: of the same code (RFC 5321 section 4.2.1), or, of one
    that is quoted in a line of a server's own, indented as deep as that."""
    text = reply.string
    quoting = text[text.rfind("\n", 0, reply.start(1)) + 1 : reply.start(1)]
    found = ""
    for line in text[reply.end() :].split("\n")[1:]:
        if reply[1][3] == "-":
            goes_on = line.lstrip('<> "\t')[:3] == reply[2]
        else:
            goes_on = bool(_WORD.search(quoting)) and max(_indented(quoting), 1) <= _indented(line)
        if not goes_on or len(found) > _LONGEST:
            break
        found += f" {line.strip()}"
    return found


def _in_words(recipient: str, about: list[str], blocks: list[str], said: str) -> str:
    behind = [_after(recipient, one) for one in about]
    for text in behind:
        if text:
            return text
    if label := _LABEL.search(said):
        return _tidy(said[label.end() :].split("\n\n", 1)[0])
    for block in about:
        if text := _around(recipient, block):
            return text
    return next(filter(_BECAUSE.search, blocks), "").strip()


def _after(recipient: str, block: str) -> str:
    """What stands behind a recipient that begins its line, up to the next recipient."""
    before, its, after = _parted(recipient, block)
    if before.rpartition("\n")[2].strip(_AROUND) or not its:
        return ""
    line, *more = after.split("\n")
    when = _WHEN.match(line.lstrip(">\"'"))
    lines = ["" if when or _EXPANDED.match(line) else line]
    for one in more:
        if _begins_with_address(one) and lowered(recipient) not in lowered(one):
            break
        if not _EXPANDED.match(one):
            lines.append(one)
    text = _tidy("\n".join(lines))
    return text if _WORD.search(text.replace(its, "")) and not text.endswith(":") else ""


def _around(recipient: str, block: str) -> str:
    """The sentence that names the recipient, or what stands in the line before it."""
    before, _, after = _parted(recipient, block)
    lead = before.rpartition("\n")[2].strip(_AROUND)
    if _EXPANDED.match(lead):
        return _tidy(after)
    if lead and _WORD.search(after):
        return block.strip()
    text = (lead or before.strip()).strip(" \t")
    is_reason = len(text.split()) > 2 and not _INTRODUCES.search(text)
    if lead:
        return block.strip() if is_reason else ""
    return text if is_reason and not text.endswith(":") else ""


def _parted(recipient: str, block: str) -> tuple[str, str, str]:
    """(what stands before the recipient, the recipient as it stands there, what behind it)."""
    at = lowered(block).find(lowered(recipient))
    end = at + len(recipient)
    return block[:at], block[at:end], block[end:]


def _tidy(text: str) -> str:
    """Without what only stood around it."""
    text = text.lstrip(_AROUND).rstrip()
    for opening, closing in ("()", "[]"):
        if text.endswith(closing) and text.count(opening) < text.count(closing):
            return text[:-1]
    is_quoted = text[-1:] in ("'", '"') and text.count(text[-1]) % 2
    return text[:-1] if is_quoted else text


def _indented(line: str) -> int:
    """How deep; 0 of an empty line."""
    return len(line) - len(line.lstrip(" \t")) if line.strip() else 0


def _begins_with_address(line: str) -> bool:
    return bool(ADDRESS.match(line.lstrip(_AROUND)))
