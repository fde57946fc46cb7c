"""``python -m classroom``: makes a class on the cluster of kubectl's current context, shows its
students' progress, checks, solves and resets their labs, and removes the class.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from classroom.board import rows, table
from classroom.cluster import MESHES, Cluster
from classroom.page import Board, served
from classroom.provisioning import Plan, Provisioning
from classroom.student_labs import StudentLabs
from classroom.students import Student, chosen
from classroom.teardown import Teardown
from labs.commands import Programs
from labs.errors import LabError
from labs.lab import all_labs
from services.common.clock import now_ms
from tools.mesh.render import CannotRender

_FAILED = 1
_FOLDER = Path("build/class")
_AT_ONCE = 3

_HELP = {
    "up": "make a class: up --students 12 --mesh istio; run again, it continues, and renews tokens",
    "board": "serve a page on this machine with each student's lab and last check",
    "check": "check the lab that a student has under way: check 3, or check all",
    "reset": "restore a student's base: reset 3, or reset all",
    "solve": "solve the lab that a student has under way: solve 3, or solve all",
    "cost": "print what each student requests and uses",
    "down": "remove the class",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command. Returns the exit status: 0, or 1 with the reason on stderr."""
    os.umask(0o077)  # other users may not read the kubeconfig files
    given = _parser().parse_args(arguments)
    try:
        asyncio.run(_run(given))
    except (LabError, CannotRender) as error:
        print(error, file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        return 0
    return 0


async def _run(given: argparse.Namespace) -> None:
    cluster = Cluster(Programs())
    match given.command:
        case "up":
            await Provisioning(cluster, _plan(given), print).run()
        case "board":
            await _show_board(cluster, given)
        case "check" | "reset" | "solve":
            await _run_labs(cluster, given)
        case "cost":
            for line in await cluster.cost(await cluster.students()):
                print(line)
        case _:
            await Teardown(cluster, print).run(given.folder)


def _plan(given: argparse.Namespace) -> Plan:
    return Plan(
        count=given.students,
        mesh=given.mesh,
        image=given.image,
        values=_values(given.values) if given.values else {},
        folder=given.folder,
        hours=given.hours,
        server=given.server,
        gateway_address=given.gateway_address,
        is_autoscaled=given.autoscaled,
        at_once=given.at_once,
    )


def _values(file: Path) -> dict[str, Any]:
    try:
        values: Any = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise LabError(f"{file} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise LabError(f"{file} is no YAML file with values of the chart.")
    return dict(values)  # pyright: ignore[reportUnknownArgumentType]  YAML


async def _show_board(cluster: Cluster, given: argparse.Namespace) -> None:
    labs = all_labs()
    if given.table:
        print(table(await rows(cluster, labs, now_ms())))
        return
    board = Board(lambda: rows(cluster, labs, now_ms()))
    async with served(board, given.port) as address:
        print(f"The board: {address}/?live (Ctrl-C ends it)", flush=True)
        await asyncio.Event().wait()


async def _run_labs(cluster: Cluster, given: argparse.Namespace) -> None:
    students = chosen(given.student, await cluster.students())
    address = given.gateway_address or await cluster.gateway_address(students[0].mesh)
    labs = StudentLabs(cluster, print)
    do = {"check": labs.check, "reset": labs.reset, "solve": labs.solve}[given.command]
    limit = asyncio.Semaphore(_AT_ONCE)

    async def succeeds(student: Student) -> bool:
        async with limit:
            try:
                await do(student, address)
            except LabError as error:  # the others are done all the same
                print(f"{student.name}: {error}", file=sys.stderr)
                return False
            return True

    done = await asyncio.gather(*map(succeeds, students))
    if failed := done.count(False):
        raise LabError(f"{given.command} failed for {failed} of {len(students)} students.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=".venv/bin/python -m classroom", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    made = {name: commands.add_parser(name, help=_HELP[name]) for name in _HELP}
    up = made["up"]
    up.add_argument("--students", type=int, default=12, metavar="NUMBER")
    up.add_argument("--mesh", choices=MESHES, default="istio")
    up.add_argument(
        "--image",
        default="meshmart:0.1.0",
        help="the shop's, as the nodes pull it (meshmart:0.1.0)",
    )
    up.add_argument("--values", type=Path, metavar="FILE", help="more values for the chart")
    up.add_argument(
        "--hours", type=int, default=48, help="how long the kubeconfig files are valid (48)"
    )
    up.add_argument("--server", default="", metavar="URL", help="the API server's for students")
    up.add_argument(
        "--autoscaled",
        action="store_true",
        help="the cluster adds nodes when it needs them: do not check for room",
    )
    up.add_argument(
        "--at-once",
        type=int,
        default=_AT_ONCE,
        metavar="NUMBER",
        help="shops to start at the same time (3)",
    )
    for name in ("up", "check", "reset", "solve"):
        made[name].add_argument(
            "--gateway-address",
            default="",
            metavar="ADDRESS",
            help="where the gateway is reached: 192.0.2.7:443; by default it is looked up",
        )
    for name in ("up", "down"):
        made[name].add_argument(
            "--folder", type=Path, default=_FOLDER, help="for the kubeconfig files (build/class)"
        )
    for name in ("check", "reset", "solve"):
        made[name].add_argument("student", help="3, student-03, or all")
    made["board"].add_argument(
        "--table", action="store_true", help="print it once in this terminal"
    )
    made["board"].add_argument("--port", type=int, default=8765)
    return parser


if __name__ == "__main__":
    sys.exit(main())
