"""What the README and the docs tell people to type on one machine does what they say.

`tests/testkit/docs.py` says who runs which block; `tests/unit/test_docs.py` sees that none is left
out.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import pytest

from tests.shop.conftest import OpenShop
from tests.testkit.customer import PASSWORD, Client, Customer
from tests.testkit.docs import ROOT, block
from tests.testkit.metrics import requests_served
from tests.testkit.ports import free_port
from tests.testkit.shop import Shop
from tests.testkit.waiting import eventually, wait_until

pytestmark = pytest.mark.timeout(300)

_SHOP, _SANDBOX, _PRODUCT = (f"http://127.0.0.1:{port}" for port in (8080, 8090, 3004))
_EXAMPLE = block("docs/api.md", "shop=")
_KNOBS = [
    *block("docs/settings.md", ".venv/bin/python -m services --help").splitlines(),
    *block("docs/settings.md", ".venv/bin/python -m services --slow").splitlines(),
    *block("docs/mesh-page.md", ".venv/bin/python -m services --versions").splitlines(),
]


def bash(commands: str) -> str:
    """Types commands, none of which may fail; gives what they print."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout


def here(commands: str, shop: Shop) -> str:
    """Commands for a shop on its usual ports and with its data in `.data`, for this one."""
    for usual, own in (
        (".data/", f"{shop.data}/"),
        (_SHOP, shop.url),
        (_SANDBOX, shop.sandbox_url),
        (_PRODUCT, shop.of_service("product")[0].internal_url),
    ):
        commands = commands.replace(usual, own)
    python = shlex.join([sys.executable, "-m", "services"])
    return re.sub(
        r"\.venv/bin/python -m services (\w+)", rf"{python} \1 --data {shop.data}", commands
    )


def options(command: str) -> Sequence[str]:
    """What a command hands to ``python -m services``."""
    if command.startswith("make "):
        environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
        # What it would run with the environment that is there.
        command = subprocess.run(
            ["make", "--dry-run", "--assume-old=.venv/.runtime", *shlex.split(command)[1:]],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment,
            check=True,
        ).stdout
    words = shlex.split(command, comments=True)
    return words[words.index("services") + 1 :]


def test_the_first_command_starts_the_whole_shop() -> None:
    assert options(block("README.md", "make run\n")) == []


async def test_a_process_that_is_killed_in_a_checkout_costs_nobody_anything(
    open_shop: OpenShop, http: aiohttp.ClientSession
) -> None:
    shop = open_shop(*options(block("README.md", 'make run ARGS="--slow')))
    customer = await Customer.register(Client(http, shop.url))

    async def is_under_way() -> bool:
        orders = (await customer.send("GET", "/api/orders")).body["items"]
        return [order["state"] for order in orders] == ["working"]

    placing = asyncio.create_task(customer.insist({"oak-serving-board": 1}, uuid.uuid4().hex))
    await eventually(is_under_way, "the order is under way")
    killed = shop.process("payment").pid
    bash(here(block("README.md", "kill -9"), shop))

    await shop.back("payment", killed)
    assert (await placing).body["state"] == "confirmed"
    audit = here(block("README.md", ".venv/bin/python -m services audit"), shop)
    assert "nothing disagrees" in bash(audit)


async def test_a_canary_gets_one_request_in_ten(
    open_shop: OpenShop, http: aiohttp.ClientSession
) -> None:
    shop = open_shop(*options(block("README.md", 'make run ARGS="--versions')))
    bash(here(block("README.md", "for request in"), shop))
    answered = {
        process.instance: (await requests_served(http, process.internal_url)).total()
        for process in shop.of_service("product")
    }
    assert sum(answered.values()) >= 100
    # Smooth weighted turns: ten, give or take what each caller's first turn is.
    assert 5 <= answered["product-v2"] <= 20, answered


def test_the_shell_example_buys_something(shop: Shop) -> None:
    printed = bash(here(_EXAMPLE, shop))
    catalogue, rest_at = json.JSONDecoder().raw_decode(printed)
    order = json.loads(printed[rest_at:])
    assert "oak-serving-board" in {item["id"] for item in catalogue["items"]}
    assert order["state"] == "confirmed"


def test_an_order_whose_refund_fails_is_noted_as_paid_back(open_shop: OpenShop) -> None:
    shop = open_shop()  # the books of the shared one are in order: what was charged is paid back
    cancels = block("docs/checkout.md", "order=$(curl")
    printed = bash(here(f"{{ {_EXAMPLE}}} > /dev/null\n{cancels}\necho; echo $order", shop))
    assert json.loads(printed.splitlines()[0])["state"] in {"cancelling", "cancelled"}
    order_id = printed.splitlines()[-1]
    of_sandbox, _, note = block("docs/checkout.md", "stripe=").splitlines()
    listed = f"{of_sandbox}\ncurl -s $stripe/v1/payment_intents -u $key: -G -d limit=100"

    def intent() -> str | None:
        found = json.loads(bash(here(listed, shop)))["data"]
        return next((one["id"] for one in found if order_id in json.dumps(one)), None)

    noted = note.replace("INTENT", wait_until(intent, "Stripe has the payment"))
    assert "paid_back" in json.loads(bash(here(f"{of_sandbox}\n{noted}", shop)))["metadata"]


async def test_a_password_is_changed(shop: Shop, customer: Customer) -> None:
    change = block("docs/accounts.md", "curl -s $shop/api/auth/password")
    assert PASSWORD in change
    change = change.replace("ada@example.com", customer.email)
    assert "access_token" in json.loads(bash(f"shop={shop.url}\n{change}"))


def test_data_is_copied_audited_and_put_back(open_shop: OpenShop) -> None:
    own = open_shop()
    commands = block("docs/backup.md", ".venv/bin/python -m services backup")
    folder = str(own.data.parent / "copy")
    backup, restore, audit = here(commands.replace("../meshmart-backup", folder), own).splitlines()
    bash(f"{backup}\n{audit}")
    own.stop()
    bash(f"{restore}\n{audit}")


async def test_a_time_leads_to_its_trace(shop: Shop, client: Client) -> None:
    command = here(
        block("docs/observability.md", "curl -s -H 'accept: application/openmetrics-text'"), shop
    )

    async def exemplars() -> str:
        await client.text("/products")
        return bash(f"{{ {command}}} || true")

    assert 'trace_id="' in await eventually(exemplars, "a page is an exemplar")


@pytest.mark.parametrize("line", dict.fromkeys(_KNOBS))
def test_each_knob_can_be_turned(line: str, open_shop: OpenShop, tmp_path: Path) -> None:
    given = options(line)
    if given == ["--help"]:
        assert "--versions" in bash(f"{sys.executable} -m services --help")
    elif given[0].startswith("--"):
        shop = open_shop(*given)
        for name in re.findall(r"--slow|--fail", line):
            assert {"--slow": "Slow on purpose", "--fail": "Failing on purpose"}[
                name
            ] in shop.output
    else:
        _runs_alone(given, tmp_path)


def _runs_alone(given: Sequence[str], folder: Path) -> None:
    """As in a container, but for its ports and its store."""
    port = free_port()
    settings = {
        "HTTP_PORT": str(port),
        "GRPC_PORT": str(free_port()),
        "DATABASE_URL": f"sqlite:///{folder}",
    }
    service = subprocess.Popen(
        [sys.executable, "-m", "services", *given], cwd=ROOT, env={**os.environ, **settings}
    )
    try:
        alive = f"curl -s -o /dev/null -w '%{{http_code}}' http://127.0.0.1:{port}/livez || true"
        wait_until(lambda: bash(alive) == "200", "it lives")
    finally:
        service.terminate()
        assert service.wait(30) == 0


async def test_one_service_runs_beside_the_others(
    open_shop: OpenShop, http: aiohttp.ClientSession
) -> None:
    its_port = f"order={free_port()}"
    others = open_shop(
        *options(block("docs/develop.md", ".venv/bin/python -m services --only frontend")),
        "--ports",
        f"free,{its_port}",
        name="others",
    )
    theirs: list[str] = []
    for each in others.processes():
        if each.service not in {"frontend", "stripe_sandbox"}:
            theirs.append(f"{each.service}={each.url.rpartition(':')[2]}")
            if each.grpc_port is not None:
                theirs.append(f"{each.service}.grpc={each.grpc_port}")
    given = list(options(block("docs/develop.md", ".venv/bin/python -m services --only order")))
    assert given.pop() == ".data-order"
    assert given.pop() == "--data"
    open_shop(*given, "--ports", ",".join([its_port, *theirs]), name="order")

    customer = await Customer.register(Client(http, others.url))
    await customer.bought({"oak-serving-board": 1})


def test_errors_are_found_in_the_logs(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = (shop.data / "logs/order.log").read_text(encoding="utf-8")
    lines = log.count('"level":"info"')
    assert lines
    (tmp_path / "logs/order.log").write_text(log.replace('"level":"info"', '"level":"error"'))
    command = block("docs/develop.md", "grep -hE").replace(".data/", f"{tmp_path}/")
    assert len(bash(command).splitlines()) >= lines
