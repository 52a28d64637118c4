"""Numbers as people read them, on pages and on the command line: `1 mail`, `2 mails`, `1.4 MB`."""

from __future__ import annotations

from collections.abc import Callable


def counted(
    value: int, one: str, many: str = "", *, written: Callable[[int], str] = "{:,}".format
) -> str:
    """`1 mail`, `2,000 mails`; with `many` also `1 mail is`, `2 mails are`.

    `many`: empty stands for `one` with an s. `written`: how the number is.
    """
    return f"{written(value)} {one if value == 1 else many or one + 's'}"


def limit(octets: int) -> str:
    """`150 MiB` where it is a whole number of these, as limits are set; else as `sized` has it."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if octets and octets % size == 0:
            return f"{octets // size:,} {unit}"
    return sized(octets)


def sized(octets: int) -> str:
    """`1.4 MB`: decimal units, as mail servers count."""
    value = float(octets)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
