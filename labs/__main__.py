"""``python -m labs``: starts, checks, solves and resets labs, and gives hints."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from labs.commands import Programs
from labs.errors import LabError
from labs.lab import all_labs
from labs.membership import Membership, membership_of
from labs.progress import Attempt, default_file
from labs.readme import Language
from labs.runner import Runner
from services.common.observing.logs import configure_logging
from tools.mesh.__main__ import describe_shop, options_of, shop_of
from tools.mesh.render import CannotRender, Shop

_FAILED = 2
_SEEDS = 1_000_000

_HELP = {
    "list": "list the labs",
    "start": "start a lab: start 00, start 06 --mesh istio",
    "check": "print what is right, what is wrong, and where to look",
    "hint": "print the next hint",
    "solve": "solve the lab",
    "reset": "restore what labs have changed",
    "progress": "print the passed labs, and the one under way",
    "readme": "print a lab's README.md with the commands for your own shop",
}
_TAKE_A_SHOP = {"start", "reset", "readme"}
_TAKE_A_LAB = {"start", "check", "hint", "solve", "readme"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command. Returns the exit status: 0; 1 if a check finds something wrong; 2 if the
    command fails, with the reason on stderr, or nobody reads all that it prints.
    """
    os.umask(0o077)  # the shop's data is for this user alone
    given = _parser().parse_args(arguments)
    configure_logging(service="labs", version="", instance="", level="critical", file=None)
    try:
        status = asyncio.run(_run(given))
        sys.stdout.flush()
    except BrokenPipeError:  # `labs readme 01 | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # flushed once more at exit
        return _FAILED
    except (LabError, CannotRender) as error:
        print(error, file=sys.stderr)
        return _FAILED
    return status


async def _run(given: argparse.Namespace) -> int:
    language: Language = "nl" if os.environ.get("LANG", "").startswith("nl") else "en"
    commands = Programs()
    runner = Runner(all_labs(), default_file(), commands, described_shop, print, language=language)
    membership = await membership_of(commands) if given.command in _TAKE_A_SHOP else None
    match given.command:
        case "start":
            await runner.start(given.lab, given.mesh, _where(given, membership))
        case "check":
            return await runner.check(given.lab)
        case "hint":
            runner.hint(given.lab)
        case "solve":
            await runner.solve(given.lab)
        case "reset":
            await runner.reset(given.mesh, _where(given, membership))
        case "progress":
            runner.progress()
        case "readme":
            runner.readme(given.lab, given.mesh, _where(given, membership))
        case _:
            runner.list_labs()
    return 0


def described_shop(options: Sequence[str]) -> Shop:
    """Returns the shop that options of ``python -m tools.mesh render`` describe."""
    return shop_of(_mesh_parser().parse_args(options))


def _where(given: argparse.Namespace, membership: Membership | None) -> Attempt:
    """Returns where the shop is, by the command line and, in a class, by the kubeconfig."""
    parser = _mesh_parser()
    of_mesh = argparse.Namespace(
        **{name: getattr(given, name) for name in vars(parser.parse_args([]))}
    )
    of_mesh.mesh = given.mesh or "istio"
    seed: int | None = getattr(given, "seed", None)
    return Attempt(
        lab="",
        place=membership.mesh if membership else "local",
        started_ms=0,
        data=given.data.resolve(),  # for commands in other folders
        ports=given.ports,
        # If an option occurs twice, the last one counts.
        mesh_options=[*(membership.options if membership else ()), *options_of(of_mesh, parser)],
        gateway_address=given.gateway_address or (membership.gateway_address if membership else ""),
        is_in_class=membership is not None,
        seed=secrets.randbelow(_SEEDS) if seed is None else seed,
    )


def _mesh_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    describe_shop(parser)
    return parser


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=".venv/bin/python -m labs", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in _HELP.items():
        command = commands.add_parser(name, help=text, description=text)
        if name in _TAKE_A_LAB:
            is_needed = name in {"start", "readme"}
            command.add_argument(
                "lab", nargs=None if is_needed else "?", metavar="LAB", help="06, or 06-canary"
            )
        if name == "start":
            command.add_argument(
                "--seed",
                type=int,
                help="for a lab with a random fault: the same seed selects the same fault",
            )
        if name in _TAKE_A_SHOP:
            local = command.add_argument_group("a shop on this machine")
            local.add_argument(
                "--data",
                type=Path,
                default=Path(".data"),
                metavar="DIR",
                help="the folder of its data (.data)",
            )
            local.add_argument(
                "--ports",
                default="",
                help="ports of the shop that the lab starts: .venv/bin/python -m services --help",
            )
            describe_shop(command)
            command.set_defaults(mesh=None)
            command.add_argument(
                "--gateway-address",
                default="",
                metavar="ADDRESS",
                help="the gateway's address; without it the runner forwards a port",
            )
    return parser


if __name__ == "__main__":
    sys.exit(main())
