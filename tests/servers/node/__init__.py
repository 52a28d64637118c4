"""Node: programs that consume queues with the examples, and TypeScript's view of the event."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.servers.npm import installed
from tests.servers.processes import end_with_parent

_HERE = Path(__file__).parent
SDK = Path(__file__).parents[3] / "sdk"
_SCHEMA = SDK / "schema" / "mail-received.v1.json"
#: What `python -m tests.servers.node` writes.
TYPES = SDK / "schema" / "mail-received.v1.d.ts"


def beside_packages(folder: Path) -> Path:
    """A copy of the SDK's examples and schema in `folder`, from where they find their packages."""
    shutil.copytree(SDK / "examples", folder / "examples")
    shutil.copytree(SDK / "schema", folder / "schema")
    (folder / "node_modules").symlink_to(installed(_HERE) / "node_modules")
    return folder / "examples"


def start(program: Path, *arguments: object, **variables: str) -> subprocess.Popen[str]:
    """A program in Node, which ends with the tests. Its output is one text."""
    return subprocess.Popen(
        ["node", str(program), *map(str, arguments)],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=end_with_parent,
    )


def made_types() -> str:
    """TypeScript types of the event, made of its JSON Schema by json-schema-to-typescript."""
    schema = json.loads(_SCHEMA.read_text()) | {"title": "MailReceived"}
    command = installed(_HERE) / "node_modules" / ".bin" / "json2ts"
    banner = "/** The event of Posthouse, made of mail-received.v1.json. */"
    done = subprocess.run(
        [command, "--no-additionalProperties", "--no-unreachableDefinitions"],
        input=json.dumps(schema),
        capture_output=True,
        text=True,
        check=True,
    )
    return banner + done.stdout[done.stdout.index("*/") + 2 :]


def check_types(folder: Path) -> str:
    """What the TypeScript compiler says of the examples in `folder`, strictly; empty: nothing."""
    (folder / "tsconfig.json").write_text(
        json.dumps(
            {
                "compilerOptions": {
                    "allowJs": True,
                    "checkJs": True,
                    "module": "nodenext",
                    "noEmit": True,
                    "skipLibCheck": True,
                    "strict": True,
                    "target": "es2022",
                    "types": ["node"],
                    "useUnknownInCatchVariables": False,
                },
                "include": ["examples/node_handler.mjs", "*.ts"],
            }
        )
    )
    command = folder / "node_modules" / ".bin" / "tsc"
    done = subprocess.run(
        [command, "--project", folder], capture_output=True, text=True, check=False
    )
    return done.stdout
