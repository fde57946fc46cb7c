"""Writes what in observability/ follows from topology.yaml; ``--check`` says whether it does."""

from __future__ import annotations

import argparse
import sys

from services.common.topology import load_topology
from tools.observability import dashboards, settings

ROOT = settings.ROOT


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="say what has drifted; write nothing")
    is_check = parser.parse_args().check
    topology = load_topology()
    status = 0
    for path, text in {**settings.files(topology), **dashboards.files(topology)}.items():
        if not is_check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            name = path.relative_to(ROOT)
            print(f"{name} is not that of topology.yaml; run `make observability`", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
