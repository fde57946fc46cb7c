"""Programs in the places of docker, kind, kubectl and others, that answer as the real ones do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.needs import ISTIO_VERSION, LINKERD_VERSION

ROOT = Path(__file__).parents[2]

# Writes down how it was called and what it was given, then does what the first rule says whose
# words are all among its arguments.
_TOOL = """\
#!{python}
import json, sys
from pathlib import Path
here = Path(__file__)
words = [here.name, *sys.argv[1:]]
with (here.parent / "calls").open("a") as calls:
    calls.write(json.dumps([words, "" if sys.stdin.isatty() else sys.stdin.read()]) + chr(10))
for rule, (status, output) in json.loads((here.parent / "rules").read_text()):
    if all(word in " ".join(words) for word in rule):
        print(output)
        sys.exit(status)
"""

# The first words of a command are enough; each answers with a status and an output.
Rules = Sequence[tuple[Sequence[str], tuple[int, str]]]
_USUAL: Rules = (
    (("istioctl version",), (0, f"client version: {ISTIO_VERSION}")),
    (("linkerd version",), (0, LINKERD_VERSION)),
)


@dataclass(frozen=True, slots=True)
class Run:
    """What a tool of the project has called, and said."""

    status: int
    calls: Sequence[str]
    given: Mapping[str, str]
    said: str

    def called(self, *words: str) -> list[int]:
        """Which of the calls have all of these words."""
        return [i for i, call in enumerate(self.calls) if all(word in call for word in words)]


class Machine:
    """A folder of tools, and nothing else, on the PATH."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("docker", "kind", "kubectl", "helm", "istioctl", "linkerd"):
            tool = folder / name
            tool.write_text(_TOOL.format(python=sys.executable), encoding="utf-8")
            tool.chmod(0o755)

    def lose(self, name: str) -> None:
        """Uninstalls a tool."""
        (self._folder / name).unlink()

    def up(self, *arguments: str, rules: Rules = ()) -> Run:
        """Runs `make up` to its end."""
        return self.run("tools.kind", "up", *arguments, rules=rules)

    def run(self, module: str, *arguments: str, rules: Rules = ()) -> Run:
        """Runs a module to its end."""
        calls = self._folder / "calls"
        calls.write_text("", encoding="utf-8")
        rules_file = self._folder / "rules"
        rules_file.write_text(json.dumps([*rules, *_USUAL]), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={**os.environ, "PATH": str(self._folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        entries = [json.loads(line) for line in calls.read_text(encoding="utf-8").splitlines()]
        words = [" ".join(call) for call, _ in entries]
        given = {call: text for call, (_, text) in zip(words, entries, strict=True) if text}
        return Run(done.returncode, words, given, done.stdout + done.stderr)
