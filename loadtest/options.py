"""The command line of the load test: the command, and the options beside locust's own.

The options' values are numbers and texts, which locust can send to other processes.
"""

from __future__ import annotations

import sys
from argparse import Action, ArgumentParser
from pathlib import Path

from loadtest.settings import JOURNEYS, THRESHOLDS
from loadtest.shapes import SHAPES

LOCUST = (str(Path(sys.executable).with_name("locust")), "--config", "loadtest/locust.conf")
_WARM_UP_SECONDS = 5.0
_MAX_VISITS = 500


def add_options(parser: ArgumentParser) -> None:
    """Adds all options, in three groups."""
    _add_load(parser)
    _add_verdict(parser)
    _add_target(parser)


def _on_web_page(option: Action) -> None:
    """Shows an option in the form of locust's web page, too. A run reads it when it begins."""
    vars(option).update(
        include_in_web_ui=True, is_secret=False, is_required=False, is_multiple=False
    )


def _add_load(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("The load")
    shape = group.add_argument(
        "--shape",
        choices=list(SHAPES),
        default="steady",
        env_var="LOAD_SHAPE",
        help="; ".join(f"{name}: {shape.about}" for name, shape in SHAPES.items())
        + ". --users is the highest level, --run-time the duration without the warm-up (steady)",
    )
    steps = group.add_argument(
        "--steps", type=int, default=10, metavar="<number>", help="Levels of the shape steps (10)"
    )
    _on_web_page(shape)
    _on_web_page(steps)
    group.add_argument(
        "--arrivals-per-second",
        type=float,
        default=None,
        metavar="<number>",
        env_var="LOAD_ARRIVALS_PER_SECOND",
        help="The highest arrival rate: shoppers arrive whether or not the shop keeps up, and each "
        "makes one visit. Without it, --users shoppers come again and again",
    )
    group.add_argument(
        "--max-visits",
        type=int,
        default=_MAX_VISITS,
        metavar="<number>",
        help="With an arrival rate, the most shoppers who are in the shop at the same time, for "
        f"each process. Others are turned away, and counted ({_MAX_VISITS})",
    )
    warm_up = group.add_argument(
        "--warm-up",
        type=float,
        default=_WARM_UP_SECONDS,
        metavar="<seconds>",
        help=f"Seconds at the first level before the measurement begins ({_WARM_UP_SECONDS:.0f})",
    )
    _on_web_page(warm_up)
    group.add_argument(
        "--journeys",
        default=str(JOURNEYS),
        metavar="<file>",
        help="Who comes, what they do, how long they think (loadtest/journeys.yaml)",
    )
    group.add_argument(
        "--think-seconds",
        type=float,
        default=None,
        metavar="<seconds>",
        help="Replaces think_seconds of all kinds of shoppers",
    )


def _add_verdict(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("Thresholds and reports")
    group.add_argument(
        "--thresholds",
        default=str(THRESHOLDS),
        metavar="<file>",
        help="What the run must keep to; otherwise it ends with status 1 "
        "(loadtest/thresholds.yaml)",
    )
    group.add_argument(
        "--threshold",
        action="append",
        default=[],
        metavar="<name>=<value>",
        help="Replaces a value of that file: pages.p95_ms=800",
    )
    group.add_argument(
        "--abort-on-fail",
        action="store_true",
        help="End the run as soon as it has missed a threshold",
    )
    group.add_argument(
        "--accept-shedding",
        action="store_true",
        help="Count 429 and 503 with Retry-After as refused, and not as failed",
    )
    group.add_argument(
        "--shop-data",
        default=".data",
        metavar="<folder>",
        help="The data of a shop on this machine: after the run its books are audited, if "
        "BASE_URL is this shop (.data)",
    )
    group.add_argument(
        "--report",
        default="",
        metavar="<folder>",
        help="Where the reports go (build/load/TIME-SHAPE)",
    )
    group.add_argument("--no-report", action="store_true", help="Keep no reports")
    group.add_argument(
        "--print-record",
        action="store_true",
        help="Print the record of the run (run.json) as the last line",
    )
    label = group.add_argument(
        "--label",
        default="",
        metavar="<text>",
        help="A name of the run, for reports and comparisons",
    )
    _on_web_page(label)
    group.add_argument(
        "--metrics-port",
        type=int,
        default=0,
        metavar="<port>",
        env_var="LOCUST_METRICS_PORT",
        help="Export the run's figures for Prometheus at this port while it goes on (0: no)",
    )
    group.add_argument(
        "--metrics-host",
        default="127.0.0.1",
        metavar="<address>",
        env_var="LOCUST_METRICS_HOST",
        help="The address of that port; 0.0.0.0 for a Prometheus in a container (127.0.0.1)",
    )


def _add_target(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("The way to the shop")
    group.add_argument(
        "--host-header",
        default="",
        metavar="<host>",
        env_var="LOAD_HOST_HEADER",
        help="The shop's public host, if BASE_URL is the address of its gateway: for the Host "
        "header, and for TLS",
    )
    group.add_argument(
        "--ca-file",
        default="",
        metavar="<file>",
        help="The certificates (PEM) of the authorities to trust, instead of the system's",
    )
    group.add_argument(
        "--insecure", action="store_true", help="Accept any certificate, such as a test one"
    )
    group.add_argument(
        "--grpc",
        default="",
        metavar="<addresses>",
        help="For RpcCaller: product=HOST:PORT,inventory=HOST:PORT,shipping=HOST:PORT. Without "
        "it they are those of the shop of --shop-data",
    )
