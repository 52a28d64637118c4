"""What becomes of memory that was used: by the C library (glibc: mallopt(3)), and by Python's
search for cycles."""

from __future__ import annotations

import ctypes
import gc

#: Lists, dictionaries and objects that may come, and not go, before a search for cycles begins; 700
#: unless it is said. A batch of mails makes some thousands, in no cycle, which go when it ends.
_MADE_BETWEEN_SEARCHES = 50_000
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
#: The largest that glibc takes on machines of 64 bits.
_LARGEST_BLOCK = 32 << 20


def keep_freed(octets: int = 64 << 20) -> bool:
    """Lets this process keep up to `octets` of freed memory in each of its heaps.

    Else glibc gives large blocks back at once, and every page of the next one costs a fault: half
    of the time that a mail of 10 MB takes. False where the C library is another one, which then
    does as it thinks best.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK) and mallopt(_M_TRIM_THRESHOLD, octets))


def spare_from_collection() -> None:
    """Leaves what is there by now, modules and classes above all, out of every search for cycles,
    and lets a search be worth its time.

    It stays for good, and going over it was a sixth of the processor time of a small mail; going
    over the batch in hand, time and again, a tenth of what was left. Call it once, when a service
    has loaded what it needs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_MADE_BETWEEN_SEARCHES, *gc.get_threshold()[1:])
