"""The lines of an OpenPGP armour, read as narrowly as programs write them.

Nobody signs these lines, and readers show them where the armour lies in a text: whatever is not
exactly that could be a sentence.
"""

from __future__ import annotations

import re

from shared.mail.region import Region

#: What programs write above a message or a signature (RFC 9580 section 6.2.2): no room for a
#: sentence.
_PROGRAM = (
    rb"Version: (?:PGP (?:Desktop|Universal|Command Line)|Keybase (?:OpenPGP|Go)|BCPG C#"
    rb"|(?:Symantec )?Encryption (?:Desktop|Server)|Didisoft OpenPGP Library for (?:Java|\.NET)"
    rb"|[A-Za-z][A-Za-z0-9./+-]{0,24})"
    rb"(?: v?[0-9][0-9A-Za-z.-]{0,15})?(?: \((?:[A-Za-z0-9/.-]{1,16}|Build [0-9]{1,8})\))?"
    rb"(?: for non-commercial use <http://www\.pgp\.com>"
    rb"| - not licensed for commercial use: www\.pgp\.com)?"
    rb"|Hash: [A-Z0-9-]{3,10}|Charset: (?:utf-8|us-ascii|iso-8859-[0-9]{1,2}|windows-125[0-8])"
    rb"|MessageID: [A-Za-z0-9+/=]{20,40}"
    rb"|Comment: (?:Using GnuPG with [A-Z][a-z]{0,14} - |GPGTools - |For info see )?https?://(?:www\.)?"
    rb"(?:enigmail\.mozdev\.org|enigmail\.net|gpgtools\.org|gnupg\.org|openpgpjs\.org"
    rb"|mailvelope\.com|protonmail\.com|gopenpgp\.org|keybase\.io/(?:crypto|download))/?"
    rb"|Comment: Use \"gpg --dearmor\" for unpacking"
    rb"|Version: (?:FlowCrypt|CryptUp)(?: [0-9.]{1,12})?(?: Gmail| Email| iOS| Android)? Encryption"
    rb"(?: [0-9.]{1,12})?(?: - flowcrypt\.com)?"
    rb"|Comment: Seamlessly send(?:,| and) receive(?: and search)? encrypted email"
)
#: Only the last line of the base64 is short, and behind its end there is a checksum at most: no
#: room for a word on each line.
_LINES = re.compile(
    rb"[ \t]*+\r?\n(?:(?i:%b)[ \t]*\r?\n)*+[ \t]*\r?\n"
    rb"(?:[A-Za-z0-9+/]{40,}+[ \t]*+\r?\n)*+"
    rb"(?:[A-Za-z0-9+/]++={0,2}[ \t]*+\r?\n)?+"
    rb"(?:=[A-Za-z0-9+/]{4}[ \t]*+\r?\n)?+" % _PROGRAM
)
_INK = re.compile(rb"\S")


def has_only_base64(part: Region) -> bool:
    """Whether `part`, what lies between the first and the last line of an armour, holds no text."""
    return _LINES.fullmatch(part.buffer, part.start, part.end) is not None


def has_text_around(whole: Region, begin: int, stop: int) -> bool:
    """Whether there is more than white space before `begin` or from `stop` on."""
    buffer, start, end = whole
    return bool(_INK.search(buffer, start, begin) or _INK.search(buffer, stop, end))
