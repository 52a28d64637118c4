"""The lines of an OpenPGP armour, read as narrowly as programs write them.

Nobody signs these lines, and readers show them where the armour lies in a text: whatever is not
exactly that could be a sentence.
"""

from __future__ import annotations

import re

from shared.mail.region import Region

#: Programs that name themselves above a message or a signature (RFC 9580 section 6.2.2.1). Any word
#: would do for one that nobody knows: its signature is limited, as nobody can tell it from a text.
_NAME = (
    rb"(?:APG|Authora|BCPG(?:-FIPS| C#)?|Canary(?: Mail)?|Crypt(?:-|::)OpenPGP|Cryptix OpenPGP"
    rb"|CryptUp|Didisoft OpenPGP Library for (?:Java|\.NET)|(?:Symantec )?Encryption (?:Desktop"
    rb"|Server)|EldoS (?:PGP|OpenPGP)BlackBox(?: \.NET)?|Enigmail|FlowCrypt|GnuPG(?:/MacGPG2?)?"
    rb"|GopenPGP|GPG4Browsers|gpg4o|GPGTools|haneWIN JavascriptPG|Hush(?:mail|tools)?"
    rb"|iPGMail|Keybase (?:OpenPGP|Go)|MacGPG2?|Mailvelope|NetPGP|OpenKeychain|oPenGP"
    rb"|OpenPGP(?:\.js|-PHP)?|PGP(?: (?:Desktop|Universal|Command Line|SDK|for Business Security"
    rb"|for Personal Privacy))?|PGP(?:ainless|ass|fone|freeware|i|mail|net|pro|sdk|y)|ProtonMail"
    rb"|R2Mail2|RNP|rPGP|SecureBlackbox|Sequoia(?:-PGP)?|WinPT)"
)
_NUMBER = (
    rb"(?:v?\.?[0-9]{1,8}(?:\.[0-9]{1,8}){0,4}(?:(?:[a-c]|ia?|ckt|beta|alpha|rc)[0-9]{0,3})?"
    rb"(?:-(?:rc|beta|alpha|svn|git|cvs|dev|ecc|unknown)\.?[0-9a-f]{0,8})?|v@RELEASE_NAME@)"
)
_SYSTEM = (
    rb"(?:GNU/(?:Linux|kFreeBSD|Hurd)|Linux|Ming[Ww]32|MSWin32|Win(?:32|64|dows)|Cygwin|Darwin"
    rb"|Mac ?OS(?: X)?|(?:Free|Net|Open|Dragonfly)BSD|SunOS|Solaris|AIX|HP-UX|IRIX|OSF1|OS/2"
    rb"|Android|iOS|Build [0-9]{1,8}|[0-9.]{1,12})"
)
_HASH = rb"(?:MD5|SHA1|RIPEMD160|SHA(?:224|256|384|512)|SHA3-(?:256|512))"
#: What programs write above a message or a signature (RFC 9580 section 6.2.2): no room for a
#: sentence.
_PROGRAM = (
    rb"Version:(?: (?:%b(?: %b)?|%b)(?: \(%b\))?"
    rb"(?: for non-commercial use <http://www\.pgp\.com>"
    rb"| - not licensed for commercial use: www\.pgp\.com)?)?"
    rb"|Hash: %b(?:, ?%b)*|Charset: (?:utf-8|us-ascii|noconv|iso-8859-[0-9]{1,2}"
    rb"|windows-125[0-8])"
    rb"|MessageID: [A-Za-z0-9+/=]{32}"
    rb"|Comment: (?:Using GnuPG with [A-Z][a-z]{0,14} - |GPGTools - |For info see )?https?://(?:www\.)?"
    rb"(?:enigmail\.mozdev\.org|enigmail\.net|gpgtools\.org|gnupg\.org|openpgpjs\.org"
    rb"|mailvelope\.com|protonmail\.com|gopenpgp\.org|keybase\.io/(?:crypto|download)"
    rb"|github\.com/ProtonMail/gopenpgp)/?"
    rb"|Comment: Use \"gpg --dearmor\" for unpacking"
    rb"|Version: (?:FlowCrypt|CryptUp)(?: [0-9.]{1,12})?(?: Gmail| Email| iOS| Android)? Encryption"
    rb"(?: [0-9.]{1,12})?(?: - flowcrypt\.com)?"
    rb"|Comment: Seamlessly send(?:,| and) receive(?: and search)? encrypted email"
) % (_NAME, _NUMBER, _NUMBER, _SYSTEM, _HASH, _HASH)
#: Only the last line of the base64 is short, and behind its end there is a checksum at most: no
#: room for a word on each line.
_LINES = re.compile(
    rb"[ \t]*+\r?\n((?:(?i:%b)[ \t]*\r?\n)*+)[ \t]*\r?\n"
    rb"(?:[A-Za-z0-9+/]{40,}+[ \t]*+\r?\n)*+"
    rb"(?:[A-Za-z0-9+/]++={0,2}[ \t]*+\r?\n)?+"
    rb"(?:=[A-Za-z0-9+/]{4}[ \t]*+\r?\n)?+" % _PROGRAM
)
_INK = re.compile(rb"\S")
#: Lines of a text that say where a message begins and ends; others are quoted.
_BEGINS = re.compile(rb"^-----BEGIN PGP MESSAGE-----", re.MULTILINE)
_ENDS = re.compile(rb"^-----END PGP MESSAGE-----", re.MULTILINE)


def has_armour_line(text: Region) -> bool:
    """Whether a message begins on a line of a text: behind `> ` it is one that is quoted."""
    return _BEGINS.search(text.buffer, text.start, text.end) is not None


def armour_within(text: bytes) -> Region | None:
    """The armour of a message in a text with other lines around it, such as the footer of a list.

    None where there is none, or lines of several.
    """
    begins, ends = list(_BEGINS.finditer(text)), list(_ENDS.finditer(text))
    if len(begins) != 1 or len(ends) != 1 or ends[0].start() < begins[0].end():
        return None
    return Region(text, begins[0].start(), ends[0].end())


def has_only_base64(part: Region) -> bool:
    """Whether `part`, what lies between the first and the last line of an armour, holds no text.

    No program writes a header line of one name twice.
    """
    lines = _LINES.fullmatch(part.buffer, part.start, part.end)
    if lines is None:
        return False
    names = [line.partition(b":")[0].lower() for line in lines[1].splitlines()]
    return len(names) == len({*names})


def has_text_around(whole: Region, begin: int, stop: int) -> bool:
    """Whether there is more than white space before `begin` or from `stop` on."""
    buffer, start, end = whole
    return bool(_INK.search(buffer, start, begin) or _INK.search(buffer, stop, end))
