"""How fast the shop starts and how much memory it holds, against the limits it promises.

Time: from the command until every service is ready. Memory: the proportional set sizes (PSS) of all
its processes, after one page and one search, so that lazy first work is in the figure.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

import psutil

READY_LIMIT_SECONDS = 4.0
PSS_LIMIT_MIB = 260.0
# The shop as `make run` installs it. Its libraries load these where they find them, which is only
# where the tests are installed as well.
ONLY_FOR_TESTS = ("brotli", "greenlet", "psutil", "rich")
PROGRAM = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({ONLY_FOR_TESTS!r}))
runpy.run_module("services", run_name="__main__", alter_sys=True)
"""
WARM_UP_PATHS = ("/", "/products?q=oak", "/mesh")
GIVE_UP_SECONDS = 60.0


class Start(NamedTuple):
    """One measured start."""

    ready_seconds: float
    pss_mib: dict[str, float]


def measure() -> Start:
    """Starts a shop on free ports with empty data, measures it, and stops it."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        shop = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "--ports", "free", "--data", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            state = _wait_open(shop, Path(folder) / "shop.json", began)
            ready_seconds = time.perf_counter() - began
            pids = {process["instance"]: process["pid"] for process in state["processes"]}
            urls = {process["service"]: process["url"] for process in state["processes"]}
            for path in WARM_UP_PATHS:
                with urllib.request.urlopen(urls["frontend"] + path) as answer:
                    answer.read()
            pids["(parent)"] = shop.pid
            pss_mib = {
                name: psutil.Process(pid).memory_full_info().pss / 2**20
                for name, pid in pids.items()
            }
        finally:
            shop.terminate()
            shop.wait()
    return Start(ready_seconds, pss_mib)


def _wait_open(shop: subprocess.Popen[bytes], state: Path, began: float) -> Any:
    while not state.exists():
        if shop.poll() is not None:
            sys.exit(f"the shop ended with status {shop.returncode}")
        if time.perf_counter() - began > GIVE_UP_SECONDS:
            sys.exit(f"the shop was not ready after {GIVE_UP_SECONDS:.0f} s")
        time.sleep(0.005)
    return json.loads(state.read_text())


def main() -> int:
    """Gives the exit status: 1 when a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    if sys.platform != "linux":
        print("The memory that processes share is only told by Linux; nothing is measured here.")
        return 1
    starts = [measure() for _ in range(arguments.runs)]
    ready = [start.ready_seconds for start in starts]
    totals = [sum(start.pss_mib.values()) for start in starts]
    typical = starts[totals.index(statistics.median_low(totals))]
    for name, mib in typical.pss_mib.items():
        print(f"  {name:<16} {mib:6.1f} MiB")
    ready_median, total_median = statistics.median(ready), statistics.median(totals)
    print(
        f"ready  median {ready_median:.2f} s, slowest {max(ready):.2f} s "
        f"(limit {READY_LIMIT_SECONDS:g} s)\n"
        f"memory median {total_median:.0f} MiB, largest {max(totals):.0f} MiB "
        f"(PSS of all processes; limit {PSS_LIMIT_MIB:g} MiB)"
    )
    return int(max(ready) > READY_LIMIT_SECONDS or max(totals) > PSS_LIMIT_MIB)


if __name__ == "__main__":
    sys.exit(main())
