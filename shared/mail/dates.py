"""The instant that a Date field names: RFC 5322 section 3.3 with its obsolete forms, and as sent.

The right instant or none, never a wrong one: what two readers could take for two instants (a
number without a sign for a zone, a zone's name that several countries use, a month that may be a
day) is no instant.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from shared.mail.findings import Finding, FindingKind

#: Octets of a value that are read.
VALUE_LIMIT = 512
#: RFC 5322 section 3.3 begins with 1900; what is behind the last one is left for what reckons.
_YEARS = range(1900, 9001)

_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
#: Full and foreign names; those that mean two months in two languages are left out.
_OTHER_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january januar jän jänner jaen jaenner janv janvier ene enero gen gennaio januari",
            "february februar feber févr fév fevr février febrero febbraio februari fev fevereiro",
            "march märz mär mrz maerz mars marzo mrt maart março marco",
            "april avr avril abr abril aprile",
            "mai maj mei mayo mag maggio maio",
            "june juni juin junio giu giugno junho",
            "july juli juil juillet julio lug luglio julho",
            "august août aout ago agosto augustus augusti",
            "september sept septembre septiembre set settembre setembro",
            "october okt oktober octobre octubre ott ottobre out outubro oktobre",
            "november novembre noviembre novembro",
            "december dez dezember déc décembre decembre dic diciembre dicembre des desember"
            " dezembro",
        ),
        1,
    )
    for name in names.split()
} | {
    # Those of Russia (as they are shortened, and declined), Turkey and China.
    name: number
    for names in (
        "янв фев мар апр май июн июл авг сен окт ноя дек",
        "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
        "oca şub mart nis mayıs haz tem ağu eyl eki kas ara",
        "ocak şubat mart nisan mayıs haziran temmuz ağustos eylül ekim kasım aralık",
        "一月 二月 三月 四月 五月 六月 七月 八月 九月 十月 十一月 十二月",
    )
    for number, name in enumerate(names.split(), 1)
}
#: `19 5月 2026`, `19 5월 2026`: the number before it is the month.
_MONTH_SIGNS = ("月", "월")
_MONTH_NUMBERS = frozenset(map(str, range(1, 13)))
#: Between day and month or year (Spanish, Portuguese), and before the time.
_BETWEEN = ("de", "at")
#: Hours from UTC: RFC 5322 section 4.3, then names that mean one zone only. Others, and military
#: letters but Z, say nothing that can be relied on.
_ZONES: dict[str, float] = {
    "ut": 0, "gmt": 0, "utc": 0, "z": 0, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7,
    "mdt": -6, "pst": -8, "pdt": -7,
    "wet": 0, "west": 1, "cet": 1, "cest": 2, "met": 1, "mest": 2, "mez": 1, "mesz": 2, "eet": 2,
    "eest": 3, "msk": 3, "jst": 9, "kst": 9, "hkt": 8, "aest": 10, "aedt": 11, "acst": 9.5,
    "acdt": 10.5, "awst": 8, "nzst": 12, "nzdt": 13, "akst": -9, "akdt": -8, "hst": -10,
}  # fmt: skip
_STANDARD_ZONES = frozenset(tuple(_ZONES)[:12])
#: The furthest that clocks are from UTC, in minutes.
_FURTHEST = {"+": 14 * 60, "-": 12 * 60}

_SIMPLE = re.compile(
    rb"[ \t]*(?:[A-Za-z]{3}, )?(\d{1,2}) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d)"
    rb" ([+-]\d\d\d\d)(?: \([A-Za-z]+\))?[ \t]*"
)
#: RFC 5322 section 4.3 allows white space there.
_AROUND_COLON = re.compile(r"(?<=[0-9])[ \t]*:[ \t]*(?=[0-9])")
_TOKEN = re.compile(
    "(?P<iso>(?<![0-9])[0-9]{4}(?:-[0-9]{2}-|/[0-9]{2}/)[0-9]{2}(?=T|[ ]|$))"
    "|(?P<time>[0-9]{1,2}:[0-9]{1,2}(?::[0-9]{1,2}(?:[.,][0-9]{1,9})?)?)"
    "|(?P<dotted>(?<![0-9])[0-9]{2}[.][0-9]{2}[.][0-9]{2}(?![0-9.]))"
    "|(?P<offset>[+-][0-9]{1,2}:[0-9]{2}(?![0-9:])|[+-][0-9]{1,4}(?![0-9]))"
    "|(?P<number>[0-9]+)|(?P<word>[A-Za-z\x80-\uffff]+)|(?P<other>[^ \t,])"
)


class Date(NamedTuple):
    """`at` in UTC; None where the field says no instant for certain."""

    at: datetime | None
    findings: tuple[Finding, ...] = ()


class _Unreadable(ValueError):
    """Not an instant, or more than one."""


def read_date(value: bytes) -> Date:
    """The instant of a Date field, folded or not. Years are 1900 to 9000."""
    simple = _SIMPLE.fullmatch(value)
    if simple:
        day, named, year, hour, minute, second, zone = simple.groups()
        month, away = _MONTHS.get(named.decode("ascii").lower()), _away(zone)
        if month and away is not None and second != b"60":
            try:
                at = datetime(
                    int(year), month, int(day), int(hour), int(minute), int(second), 0, UTC
                )
                if away:
                    at -= away
            except (ValueError, OverflowError):
                return Date(None, (Finding(FindingKind.UNREADABLE_DATE, 0),))
            if at.year in _YEARS:
                return Date(at)
    if not value.strip():
        return Date(None)
    try:
        return _DateReader(_without_comments(value[:VALUE_LIMIT])).read(
            whole=len(value) <= VALUE_LIMIT
        )
    except (ValueError, OverflowError):
        return Date(None, (Finding(FindingKind.UNREADABLE_DATE, 0),))


@lru_cache(maxsize=256)
def _away(zone: bytes) -> timedelta | None:
    """How far a zone of the form +0130 is from UTC; None where no clock is."""
    minutes = int(zone[1:3]) * 60 + int(zone[3:])
    if minutes > _FURTHEST[chr(zone[0])] or int(zone[3:]) > 59:
        return None
    return timedelta(minutes=minutes if zone[:1] == b"+" else -minutes)


def _without_comments(value: bytes) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    kept: list[str] = []
    depth = 0
    escaped = False
    for char in text:
        if escaped or (char == "\\" and depth):
            escaped = not escaped
        elif char == ")" and depth:
            depth -= 1
            kept.append(" ")
        elif char == "(":
            depth += 1
        elif not depth:
            kept.append(char if char >= " " else " ")
    return _AROUND_COLON.sub(":", "".join(kept).strip())


class _DateReader:
    """Sorts the tokens of one value into a day, a time and a zone; each may be there once."""

    def __init__(self, text: str) -> None:
        self.numbers: list[str] = []
        self.month = 0
        self.month_at = 0  # how many numbers stood before it
        self.time = ""
        self.zone: float | None = None
        self.named = ""  # how the zone was said: `offset`, `gmt`, `name`
        self.iso = ""
        self.half = ""
        self.kinds: list[FindingKind] = []
        position, before = 0, ""
        for match in _TOKEN.finditer(text):
            if text[position : match.start()].strip(" \t,"):
                raise _Unreadable
            kind = match.lastgroup or ""
            near = position == match.start()
            self._take(kind, match[0], before if near else "")
            position, before = match.end(), kind

    def _take(self, kind: str, said: str, before: str) -> None:
        if kind in ("time", "dotted"):
            if self.time:
                raise _Unreadable
            self.time = said.replace(".", ":") if kind == "dotted" else said
            if kind == "dotted":
                self.odd()
        elif kind == "iso":
            if self.iso or self.numbers or self.month:
                raise _Unreadable
            self.iso = said
            self.odd()
        elif kind == "offset":
            self._offset(said, before)
        elif kind == "number":
            if said == "0000" and self.time and self.zone is None and len(self.numbers) == 2:
                self.zone, self.named = 0, "offset"
                self.odd()
            else:
                self.numbers.append(said)
        elif kind == "word" and said in _MONTH_SIGNS and before == "number":
            number = self.numbers.pop() if self.numbers else ""
            if self.month or self.time or number.lstrip("0") not in _MONTH_NUMBERS:
                raise _Unreadable
            self.month, self.month_at = int(number), len(self.numbers)
            self.odd()
        elif kind == "word":
            self._word(said.lower())
        elif said == "." and before in ("number", "word"):
            pass  # `19. Mai`
        elif said in "-/" and before in ("number", "word") and not self.time:
            self.odd()  # `19-May-26`
        elif said == '"' or (said in ";.)" and self.named == "offset"):
            self.odd()  # around it, or left over behind it
        else:
            raise _Unreadable

    def odd(self) -> None:
        if FindingKind.NONSTANDARD_DATE not in self.kinds:
            self.kinds.append(FindingKind.NONSTANDARD_DATE)

    def _offset(self, token: str, before: str) -> None:
        if not self.time:
            # `19-May-2026`: a hyphen between, not a sign.
            if token[0] == "-" and before in ("word", "number") and ":" not in token:
                self.numbers.append(token[1:])
                self.odd()
                return
            raise _Unreadable
        digits = token[1:].replace(":", "")
        if ":" in token or len(digits) != 4:
            self.odd()
        if len(digits) == 3 and ":" not in token:
            raise _Unreadable  # +100: an hour, or ten?
        hours, minutes = (digits, "0") if len(digits) <= 2 else (digits[:-2], digits[-2:])
        away = int(hours) * 60 + int(minutes)
        if int(minutes) > 59 or away > _FURTHEST[token[0]]:
            raise _Unreadable
        zone = away if token[0] == "+" else -away
        if self.zone is not None and (self.zone or self.named != "gmt" or before != "word"):
            if self.named != "offset" or zone != self.zone:
                raise _Unreadable
            self.odd()  # `+0200 +0200`
        self.zone = zone
        if self.named == "gmt":
            self.odd()
        self.named = "offset"

    def _word(self, word: str) -> None:
        month = _MONTHS.get(word) or _OTHER_MONTHS.get(word)
        if month and not self.time and not self.month and not self.iso:
            self.month, self.month_at = month, len(self.numbers)
            if word not in _MONTHS:
                self.odd()
        elif month and self.numbers and not self.month and not self.iso:
            self.month, self.month_at = month, len(self.numbers)  # the time came first
            self.odd()
        elif (
            month and self.month and not self.month_at and len(self.numbers) == 1 and not self.time
        ):
            # The first was the day of the week, in French or Spanish (`mar., 19 mai`).
            self.month, self.month_at = month, 1
            self.odd()
        elif word in ("am", "pm") and self.time and not self.half:
            self.half = word
            self.odd()
        elif word in _BETWEEN and not self.time and (self.numbers or self.iso):
            self.odd()
        elif word == "t" and self.iso and not self.time:
            pass
        elif self.time and self.zone is None and not self.named:
            if word not in _ZONES:
                raise _Unreadable
            self.zone = _ZONES[word] * 60
            self.named = "gmt" if word in ("gmt", "utc", "ut") else "name"
            if word not in _STANDARD_ZONES:
                self.odd()
        elif self.time and self.named == "offset":
            pass  # `+0200 CEST`: the number says it
        elif not self.time and not self.numbers and not self.iso:
            pass  # the day of the week, in any language
        else:
            raise _Unreadable

    def read(self, *, whole: bool) -> Date:
        if not whole or not self.time:
            raise _Unreadable
        year, month, day = self._day()
        hour, minute, second = self._time()
        at = datetime(year, month, day, hour, minute, tzinfo=UTC) + timedelta(seconds=second)
        if self.zone is None:
            self.kinds.append(FindingKind.DATE_WITHOUT_ZONE)
        else:
            at -= timedelta(minutes=self.zone)
        if at.year not in _YEARS:
            raise _Unreadable
        return Date(at, tuple(Finding(kind, 0) for kind in self.kinds))

    def _day(self) -> tuple[int, int, int]:
        if self.iso:
            if self.numbers or self.month:
                raise _Unreadable
            return int(self.iso[:4]), int(self.iso[5:7]), int(self.iso[8:])
        if not self.month or len(self.numbers) != 2:
            raise _Unreadable
        first, second = self.numbers
        if len(first) == 4 and self.month_at == 1:
            year, day = first, second  # 2026 May 19
            self.odd()
        elif len(first) <= 2:
            day, year = first, second
            if self.month_at == 0:
                self.odd()  # May 19 2026
        else:
            raise _Unreadable
        if len(day) > 2:
            raise _Unreadable
        return _year(year, day_first=self.month_at == 1), self.month, int(day)

    def _time(self) -> tuple[int, int, int]:
        hour, minute, *rest = self.time.split(":")
        second = int(re.split("[.,]", rest[0])[0]) if rest else 0
        if second > 60 or int(minute) > 59:
            raise _Unreadable
        at = int(hour)
        if self.half:
            if not 1 <= at <= 12:
                if self.half == "pm" and 12 < at < 24:
                    return at, int(minute), second
                raise _Unreadable
            at = at % 12 + (12 if self.half == "pm" else 0)
        return at, int(minute), second


def _year(digits: str, *, day_first: bool) -> int:
    """RFC 5322 section 4.3: two digits are 1950 to 2049, three count from 1900."""
    number = int(digits)
    if len(digits) == 4:
        return number
    if not day_first or len(digits) not in (2, 3):
        raise _Unreadable
    if len(digits) == 3:
        return 1900 + number
    return number + (2000 if number < 50 else 1900)
