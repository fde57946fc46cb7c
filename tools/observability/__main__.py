"""Writes what in observability/ follows from topology.yaml; ``--check`` says whether it does."""

from __future__ import annotations

import argparse
import sys

from services.common.topology import load_topology
from tools.derived import written
from tools.observability import dashboards, settings


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="say what has drifted; write nothing")
    is_check = parser.parse_args().check
    topology = load_topology()
    files = {**settings.files(topology), **dashboards.files(topology)}
    return written(files, "observability", is_check=is_check)


if __name__ == "__main__":
    sys.exit(main())
