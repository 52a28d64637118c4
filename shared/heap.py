"""What the C library does with memory that was freed (glibc: mallopt(3))."""

from __future__ import annotations

import ctypes

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
