"""What strangers wrote into logs and into what is exported is harmless in a terminal."""

from __future__ import annotations

import json

import pytest
import yaml

from cli.declared.export import written
from cli.local.console import Console

CONTROLS = "".join(map(chr, (0x1B, 0x07, 0x9B, 0x85, 0x061C, 0x200F, 0x202E, 0x2066)))
pytestmark = pytest.mark.promise("T1")


@pytest.mark.parametrize("verbose", [True, False])
def test_no_control_of_a_stranger_is_shown_by_up(
    capsys: pytest.CaptureFixture[str], verbose: bool
) -> None:
    console = Console(verbose=verbose)
    said = f"NO {CONTROLS}[red]wait"
    line = {"level": "warning", "message": f"refused {said}", "error": said, "more": {"a": said}}
    # Logs have them escaped (`shared.telemetry.logs`); other programs that `up` runs may not.
    console.log_line("fetcher", json.dumps(line).encode(), b"")
    console.log_line("postgres", f"FATAL {said}".encode(), b"FATAL")
    console.problem("fetcher", said)
    printed = capsys.readouterr().out
    assert printed.count("NO") == 5
    assert "[red]wait" in printed
    assert not set(CONTROLS) & set(printed)


def test_an_export_reads_back_and_has_no_control_of_a_stranger() -> None:
    names = [f"x{CONTROLS}y " * 30, f"'{CONTROLS}\"\\", "\u202e", f"a\n{CONTROLS}\nb", "Müller 😀"]
    document = {"certificates": [{"name": one, "alias": one} for one in names], "version": 1}
    text = written(document)
    assert yaml.safe_load(text) == document
    assert not set(CONTROLS) & set(text)
    assert "Müller 😀" in text
