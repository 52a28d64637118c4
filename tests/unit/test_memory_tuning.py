"""What Python's search for cycles costs a service that has loaded what it needs."""

from __future__ import annotations

import subprocess
import sys

#: Counts the searches while some thousand values of a batch come and go.
_PROGRAM = """
import gc
from shared.memory_tuning import spare_from_collection
spare_from_collection()
searches = []
gc.callbacks.append(lambda phase, _: searches.append(phase))
for _ in range(10):
    batch = [{"facts": [n]} for n in range(5000)]
    del batch
print(len(searches))
"""


def test_no_search_for_cycles_goes_over_a_batch_in_hand() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True
    )
    assert ran.stdout.strip() == "0"
