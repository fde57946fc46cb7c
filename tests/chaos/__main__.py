"""``python -m tests.chaos``: see ``make chaos``."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.chaos.mutations import MUTATIONS
from tests.chaos.run import Options, run, schedule_of


def main() -> int:
    """Makes one run, prints its report, and gives the exit status: 0 when no promise was broken."""
    parser = argparse.ArgumentParser(description="Buys while everything goes wrong, and checks.")
    parser.add_argument("--checkouts", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seed", type=int, help="as printed by a former run (default: by chance)")
    parser.add_argument("--checkouts-per-incident", type=float, default=50.0)
    parser.add_argument("--store", choices=("sqlite", "mongodb"), default="sqlite")
    parser.add_argument(
        "--mongodb-server", type=Path, help="the program that starts a MongoDB server"
    )
    parser.add_argument("--mutation", choices=MUTATIONS, help="the safeguard to switch off")
    parser.add_argument("--folder", type=Path, help="where the data stay (default: thrown away)")
    arguments = parser.parse_args()
    if arguments.store == "mongodb" and arguments.mongodb_server is None:
        parser.error("--store mongodb needs --mongodb-server")
    options = Options(
        checkouts=arguments.checkouts,
        clients=arguments.clients,
        seed=random.randrange(1_000_000) if arguments.seed is None else arguments.seed,
        checkouts_per_incident=arguments.checkouts_per_incident,
        mongodb_server=arguments.mongodb_server if arguments.store == "mongodb" else None,
        mutation=arguments.mutation,
    )
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = arguments.folder or Path(temporary)
        report = uvloop.run(run(options, schedule_of(options), folder))
    print(report, flush=True)
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
