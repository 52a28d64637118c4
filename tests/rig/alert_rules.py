"""What Prometheus makes of a service's own metrics: whether a rule of Posthouse's fires on them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

_RULES = Path(__file__).resolve().parents[2] / "deploy" / "prometheus" / "alerts.yaml"
#: Longer than every rule's window and its `for` together, but for revocation.
_MINUTES = 150
_WELL = 30
_SAMPLE = re.compile(r"^(?P<series>(?P<name>posthouse_\w+)(?:\{.*\})?) (?P<value>[-+.\de]+)$", re.M)


def fires(rule: str, metrics: str, folder: Path) -> bool:
    """Whether the alert `rule` fires at any time where all is well for half an hour, and then the
    service goes on saying what `metrics`, the text of its /metrics, says: a gauge stays, a counter
    rises by its value each minute.

    `folder` takes what is written for `promtool`.
    """
    read = yaml.safe_load(_RULES.read_text(encoding="utf-8"))
    (expression,) = [
        one["expr"] for group in read["groups"] for one in group["rules"] if one["alert"] == rule
    ]
    firing = f'count(ALERTS{{alertname="{rule}", alertstate="firing"}}) > bool 0'
    asked = {
        "rule_files": [str(_RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": sample["series"], "values": _course(sample["name"], sample["value"])}
                    for sample in _SAMPLE.finditer(metrics)
                    if re.search(rf"\b{sample['name']}\b", expression)
                ],
                "promql_expr_test": [
                    {
                        "expr": f"max_over_time(({firing})[{_MINUTES}m:1m]) or vector(0)",
                        "eval_time": f"{_MINUTES}m",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    }
                ],
            }
        ],
    }
    path = folder / f"{rule}.yaml"
    path.write_text(yaml.safe_dump(asked), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0 or "got: " in said, said
    return done.returncode == 0


def _course(name: str, value: str) -> str:
    steps = f"x{_MINUTES - _WELL}"
    then = f"{value}+{value}{steps}" if name.endswith("_total") else f"{value}{steps}"
    return f"0x{_WELL} {then}"
