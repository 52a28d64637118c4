"""A short storm over a whole stack. `make storm MINUTES=10` is the long one."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.rig.forkserver import ROOT


@pytest.mark.promise("I1", "I2", "I3", "I5")
@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_nothing_is_lost(broker: str) -> None:
    storm = [sys.executable, "-m", "tests.rig.storm", "--minutes", "0.4", "--connections", "8"]
    done = subprocess.run(
        [*storm, "--broker", broker, "--rate", "20"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=480,
        check=False,
    )
    last = done.stdout.strip().splitlines()[-1]
    told = re.fullmatch(r"storm: sent (\d+) delivered (\d+) lost 0 repeated \d+ seed \d+", last)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert told
    assert int(told[1]) == int(told[2]) > 0
