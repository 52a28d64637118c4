"""`python -m tests.drills NAME [--from REF]`: holds a drill, and exits 1 where a mail was lost."""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
import tempfile
import time
from pathlib import Path

NAMES = tuple(
    sorted(
        path.stem.replace("_", "-")
        for path in Path(__file__).parent.glob("*.py")
        if path.stem not in {"__init__", "__main__", "site", "disk"}
    )
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make drill", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--from", dest="ref", default="", help="rolling-upgrade: from what")
    chosen = parser.parse_args()
    module = importlib.import_module(f"tests.drills.{chosen.name.replace('-', '_')}")
    folder = Path(tempfile.mkdtemp(prefix="posthouse-drill-"))
    started = time.monotonic()
    try:
        options = {"ref": chosen.ref} if chosen.ref else {}
        found = module.drill(folder / "site", **options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for note in found.notes:
        print(note)
    print(
        f"drill {chosen.name}: sent {found.sent} lost {found.lost} came twice {found.twice} "
        f"quarantined {found.quarantined} in {time.monotonic() - started:.0f} s"
    )
    return 0 if found.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
