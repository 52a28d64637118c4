"""What a mail is found by: its addresses, the sender's domain, and words of subject and sender.

The ledger keeps a number for each of these terms, in an index; a search looks for the numbers of
its own, and compares the terms of what it found. Case does not count, nor how letters are composed
(Unicode's NFKC and full case folding). A word with diacritical marks is found without them, too:
`resume` finds `Résumé`; marks that are sought count. Writing without spaces between words (Chinese,
Japanese, Korean particles, Thai) is cut into pairs of letters, so that a part of it is found.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from zlib import crc32

from shared.mail.summary import MailHeaders

#: Thai to Burmese, Khmer, Kana, Han, Hangul.
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD: Final = re.compile(rf"[{_UNSPACED}]+|(?:[^\W_{_UNSPACED}]|[\u0300-\u036f])+")
_UNSPACED_WORD: Final = re.compile(rf"[{_UNSPACED}]")
#: The diacritical marks of Latin, Greek and Cyrillic: without those of other writings a word is
#: another one.
_MARKS: Final = re.compile("[\u0300-\u036f]")
#: ASCII's letters and digits as they are, everything else a space.
_ASCII: Final = bytes(c if chr(c).isascii() and chr(c).isalnum() else 32 for c in range(256))
#: Words of one text that are looked at: a subject of 998 characters has fewer.
_MOST_WORDS: Final = 500
#: Letters of a word that is remembered.
_LONGEST_KNOWN: Final = 40


def terms_of(headers: MailHeaders) -> set[bytes]:
    """The terms of a mail. Every address is one, of however many recipients."""
    terms = set(_kept_words(headers.subject))
    terms.update(_of_sender(headers.sender, headers.sender_name))
    for address in headers.to:
        terms.add(_folded(address))
    for address in headers.cc:
        terms.add(_folded(address))
    terms.discard(b"")
    return terms


def terms_sought(text: str) -> set[bytes]:
    """The terms that a mail must have, all of them: addresses (`a@b`), domains of senders (`@b`)
    and words. Empty where `text` has none, such as one of punctuation."""
    terms: set[bytes] = set()
    for token in text.split():
        bare = _folded(token.strip("<>(),;"))
        if b"@" in bare:
            terms.add(bare)
        else:
            terms.update(_words(token))
    return terms


def numbers(terms: Iterable[bytes]) -> list[int]:
    """The terms as the index has them: 32 bits each, signed as Postgres' integer is."""
    return [crc32(term) - 0x80000000 for term in terms]


def address_term(address: str) -> bytes:
    """The term of an address (`a@b`)."""
    return _folded(address)


@lru_cache(maxsize=4096)
def _of_sender(address: str, name: str) -> tuple[bytes, ...]:
    folded = _folded(address)
    domain = folded[folded.rfind(b"@") :] if b"@" in folded else b""
    return (*_kept_words(name), *_words(address), folded, domain)


def _kept_words(text: str) -> Iterable[bytes]:
    """The words, those with marks also without them."""
    if text.isascii():
        return _words(text)
    return [term for word in _cut(text) for term in _kept(word)]


def _words(text: str) -> list[bytes]:
    if text.isascii():
        return text.lower().encode().translate(_ASCII).split()
    return [term for word in _cut(text) for term in _of_word(word)]


def _cut(text: str) -> list[str]:
    # Before they are folded: what stands for several letters, as № does, is no letter itself.
    return _WORD.findall(unicodedata.normalize("NFC", text))[:_MOST_WORDS]


def _kept(word: str) -> tuple[bytes, ...]:
    return _known_kept(word) if len(word) <= _LONGEST_KNOWN else _new_kept(word)


def _new_kept(word: str) -> tuple[bytes, ...]:
    terms = _of_word(word)
    return (*terms, *(_unmarked(term) for term in terms if not term.isascii()))


#: People write the same words again and again.
_known_kept = lru_cache(maxsize=4096)(_new_kept)


def _unmarked(word: bytes) -> bytes:
    bare = _MARKS.sub("", unicodedata.normalize("NFD", word.decode()))
    return unicodedata.normalize("NFKC", bare).encode()


def _of_word(found: str) -> tuple[bytes, ...]:
    """A word, or the pairs of letters of one in a writing without spaces."""
    word = _normal(found)
    if len(word) > 1 and _UNSPACED_WORD.match(word):
        return tuple([word[at : at + 2].encode() for at in range(len(word) - 1)])
    return (word.encode(),)


def _folded(text: str) -> bytes:
    return (text.lower() if text.isascii() else _normal(text)).encode("utf-8", "replace")


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
