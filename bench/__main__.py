"""`make bench NAME=…`: one speed question beside its peers and limits, in one run."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def questions() -> dict[str, str]:
    """Name → first line of the module that answers it."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if not path.name.startswith("_") and "\ndef main(" in text:
            found[path.stem] = text.strip().strip('"').splitlines()[0]
    return found


def main() -> int:
    known = questions()
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        print("make bench NAME=… where the name is one of:")
        for name, line in known.items():
            print(f"  {name:<12} {line}")
        return 2
    result = importlib.import_module(f"bench.{sys.argv[1]}").main(sys.argv[2:])
    return int(result or 0)


if __name__ == "__main__":
    sys.exit(main())
