"""What programs write before the first part of a mail, for readers that know no MIME (RFC 2046
section 5.1.1).

No reader of today shows it, and it says nothing of its own: such a sentence beside what is signed
harms nothing. Any other word does, as nobody signed it.
"""

from __future__ import annotations

import re
from typing import Final

from shared.mail.region import Region

_BLANKS: Final = re.compile(rb"[ \t\r\n]+")
#: Each as a whole, with one space for all white space: programs fold them as they like.
_SENTENCES: Final = (
    # Thunderbird, Outlook, OpenSSL, GPGMail, Proton; with three dots Perl's MIME-tools (RT, OTRS).
    rb"This is an? (?:(?:cryptographically|OpenPGP/MIME|PGP/MIME|S/MIME|MIME|signed|encrypted"
    rb"|multi-?part) )*message(?: in MIME format)?(?: \(RFC [0-9]{4}(?: and [0-9]{4})?\))?\.{0,3}",
    # Horde.
    rb"This message is in MIME format(?: and has been PGP (?:signed|encrypted))?\.",
    # Pine and Alpine.
    rb"This message is in MIME format\. The first part should be readable text, while the "
    rb"remaining parts are likely unreadable without MIME-aware tools\."
    rb"(?: Send mail to mime@docserver\.cac\.washington\.edu for more info\.)?",
    # Exchange, Outlook for Mac.
    rb"(?:> )?This message is in MIME format\. Since your mail reader does not understand this "
    rb"format, some or all of this message may not be legible\.",
    # GroupWise.
    rb"This is a MIME message\. If you are reading this text, you may want to consider changing to "
    rb"a mail reader or gateway that understands how to properly handle MIME multipart messages\.",
    # Outlook and Netscape in other languages.
    rb"Dies ist eine mehrteilige Nachricht im MIME-Format\.",
    rb"C'est un message de format MIME en plusieurs parties\.",
    rb"Este es un mensaje (?:de varias partes|multipartes) en formato MIME\.",
)
_HARMLESS: Final = re.compile(b"|".join(b"(?:%b)" % one for one in _SENTENCES))
_LONGEST: Final = 300


def is_harmless(preamble: Region) -> bool:
    """Whether a preamble is a sentence that programs write there, and nothing else."""
    if len(preamble) > _LONGEST:
        return False
    return _HARMLESS.fullmatch(_BLANKS.sub(b" ", preamble.copy()).strip(b" ")) is not None
