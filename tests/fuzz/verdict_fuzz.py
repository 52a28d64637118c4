"""Looks for a mail that is called `valid` and that other readers show otherwise.

    python -m tests.fuzz.verdict_fuzz --minutes 10 [--seed 0]

Each mail comes from a number, which is printed where something is found; with `--seed NUMBER
--minutes 0` it is made again. What counts as found: a disagreement about author or text, an
exception, more than a second of processor time for one mail, or memory that grows beyond 300 MiB.
"""

from __future__ import annotations

import argparse
import collections
import resource
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from services.decryptor.opening import open_mail
from tests.rig.forged_mails import Forger
from tests.rig.reader_agreement import disagreement
from tests.servers.readers import ForeignReaders

MAX_SECONDS = 1.0
MAX_KIBIBYTES = 300 * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=time.time_ns() // 10**9)
    given = parser.parse_args()
    forger, end = Forger(), time.monotonic() + given.minutes * 60
    verdicts: collections.Counter[str] = collections.Counter()
    found, number = 0, given.seed
    with tempfile.TemporaryDirectory() as folder, ForeignReaders() as readers:
        print(f"from {number}, against {', '.join(readers.read(b''))}")
        while True:
            mail = forger.mail(Random(number))
            began = time.process_time()
            with open_mail(mail, forger.identities, forger.trust, spool_dir=Path(folder)):
                seconds = time.process_time() - began
            security, problem = disagreement(
                mail, forger.identities, forger.trust, readers, Path(folder)
            )
            verdicts[security.signature] += 1
            if seconds > MAX_SECONDS:
                problem = f"it took {seconds:.1f} s"
            if problem:
                found += 1
                print(f"{number}: {problem}\n{mail!r}\n", flush=True)
            number += 1
            if time.monotonic() >= end:
                break
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{sum(verdicts.values())} mails {dict(verdicts)}; {found} found; {peak // 1024} MiB")
    return 1 if found or peak > MAX_KIBIBYTES else 0


if __name__ == "__main__":
    sys.exit(main())
