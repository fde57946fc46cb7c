"""`python -m services`: what it promises to whoever starts it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import psutil
import pytest
from yarl import URL

from services.common.call_record import HEADER, decode
from services.common.serving.process import EXIT_CONFIGURATION
from services.local.data import STATE_FILE
from tests.shop.conftest import OpenShop
from tests.testkit.chance import is_chance
from tests.testkit.customer import Client, Customer
from tests.testkit.metrics import requests_served
from tests.testkit.shop import Shop
from tests.testkit.visitor import Visitor
from tests.testkit.waiting import eventually, wait_until

BOARD = "oak-serving-board"
GET_PRODUCTS = "ProductService/GetProducts"
# Little of a shop: quick to start, and enough to see how processes are treated.
SOME = ("--only", "product,inventory")
STOP_SECONDS = 5.0


def test_it_tells_where_everything_is(shop: Shop) -> None:
    for process in shop.processes():
        assert f"{process.instance:<16} {process.url}" in shop.output
    assert f"The shop is open: {shop.url}" in shop.output


def test_everything_listens_on_loopback_only(shop: Shop) -> None:
    hosts = {
        connection.laddr.ip.removeprefix("::ffff:")  # gRPC's IPv4 sockets are IPv6 ones
        for process in shop.processes()
        for connection in psutil.Process(process.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }

    assert hosts == {"127.0.0.1", "::1"}


async def test_the_shop_is_localhost_in_both_families(shop: Shop) -> None:
    port = URL(shop.url).port
    async with aiohttp.ClientSession() as client:
        for host in ("127.0.0.1", "[::1]"):
            async with client.get(f"http://{host}:{port}/robots.txt") as answer:
                assert answer.status == 200


@pytest.mark.parametrize(
    ("host", "where", "is_told"),
    [("::1", "[::1]", False), ("0.0.0.0", "127.0.0.1", True)],  # noqa: S104
)
def test_it_says_where_it_listens_and_who_reaches_it(
    open_shop: OpenShop, host: str, where: str, is_told: bool
) -> None:
    shop = open_shop("--only", "frontend", "--host", host)

    assert f"The shop is open: http://{where}:" in shop.output
    assert ("everybody who reaches " in shop.output) is is_told


def test_it_says_which_faults_are_on(open_shop: OpenShop) -> None:
    shop = open_shop("--only", "inventory", "--slow", "inventory=300ms", "--fail=inventory=20%")

    assert shop.output.startswith(
        "Slow on purpose: inventory by 0.3 s.\nFailing on purpose: inventory 20 %.\n"
    )


@pytest.fixture
def taken_port() -> Generator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_named(open_shop: OpenShop, taken_port: int) -> None:
    shop = open_shop("--only", "product", "--ports", f"product={taken_port}", waits=False)

    assert shop.wait_ended() == EXIT_CONFIGURATION
    assert shop.output.startswith(f"Port {taken_port} for product is not available ")
    assert _is_one_sentence(shop.output)


@pytest.mark.parametrize("port", ["99999", "0", "-1", "http"])
def test_a_port_that_is_none_is_named(open_shop: OpenShop, port: str) -> None:
    shop = open_shop("--only", "product", "--ports", f"product={port}", waits=False)

    assert shop.wait_ended() == EXIT_CONFIGURATION
    assert f"'product={port}'" in shop.output
    assert _is_one_sentence(shop.output)


def test_a_second_shop_on_the_same_data_is_refused(open_shop: OpenShop) -> None:
    first = open_shop(*SOME)

    second = open_shop(*SOME, name="second", data=first.data, waits=False)

    assert second.wait_ended() == EXIT_CONFIGURATION
    pid = first.parent.pid
    assert second.output.startswith(f"Another shop (pid {pid}) runs on the data in ")
    assert _is_one_sentence(second.output)
    assert len(first.alive()) == 2


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        ((), {"VERSION": "a b"}, "The setting VERSION is wrong: "),
        ((), {"LOG_LEVEL": "loud"}, "The setting LOG_LEVEL is wrong: "),
        (
            ("--only", "shop"),
            {},
            "--only names 'shop', which is not a service; there are frontend, ",
        ),
        (
            ("--replicas", "product=0"),
            {},
            "--replicas takes NAME=VALUE,… with counts from 1 to 9, not 'product=0'",
        ),
        (
            ("--replicas", "product"),
            {},
            "--replicas takes NAME=VALUE,… with counts from 1 to 9, not 'product'",
        ),
        (("--variants", "product=v9"), {}, "product: The setting VARIANT is 'v9', but product "),
        (
            ("--only", "inventory"),
            {"STOCK_FILE": "/nowhere/stock.yaml"},
            "inventory: The stock file /nowhere/stock.yaml cannot be read: ",
        ),
        (
            ("--only", "payment"),
            {"STRIPE_TIMEOUT_SECONDS": "soon"},
            "payment: The setting STRIPE_TIMEOUT_SECONDS is wrong: ",
        ),
        (
            ("--only", "frontend"),
            {"SECURE_COOKIES": "perhaps"},
            "frontend: The setting SECURE_COOKIES is wrong: ",
        ),
    ],
)
def test_a_wrong_setting_stops_the_start_with_one_sentence(
    open_shop: OpenShop,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    sentence: str,
) -> None:
    shop = open_shop("--only", "product", *arguments, environment=environment, waits=False)

    assert shop.wait_ended() == EXIT_CONFIGURATION
    assert shop.output.startswith(sentence)
    assert _is_one_sentence(shop.output)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"product": {"LOG_LEVEL": "loud"}}, "product: The setting LOG_LEVEL is wrong: "),
        ({"products": {}}, "--environment names 'products', which is not a process; there are *, "),
    ],
)
def test_one_process_can_be_told_something_else(
    open_shop: OpenShop, environment: Mapping[str, Mapping[str, str]], sentence: str
) -> None:
    shop = open_shop(*SOME, own_environment=environment, waits=False)

    assert shop.wait_ended() == EXIT_CONFIGURATION
    assert shop.output.startswith(sentence)
    assert _is_one_sentence(shop.output)


# What a stop does to a process that it meets between its fork and its first own signal handler.
_SIGNALLED_AT_BIRTH = """
import os, signal, sys
from services.__main__ import main
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))
sys.exit(main())
"""


def test_a_signal_for_a_newborn_process_is_not_lost(tmp_path: Path) -> None:
    program = ("-c", _SIGNALLED_AT_BIRTH)
    shop = Shop(tmp_path / "shop", "--only", "product", program=program)
    shop.launch()
    try:
        wait_until(lambda: "was killed by SIGTERM" in shop.output, "the end of the newborn")
    finally:
        shop.stop()


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"HTTP_ADDRESSES": "{"}, "shipping: A setting could not be read: "),
        ({"HTTP_PORT": "99999"}, "shipping: The setting HTTP_PORT is wrong: "),
        ({"DATABASE_URL": "postgres://x"}, "shipping: DATABASE_URL must be sqlite:///"),
    ],
)
def test_one_service_alone_refuses_a_wrong_setting(
    environment: dict[str, str], sentence: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "services", "shipping"],
        env={**os.environ, "HOST": "127.0.0.1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == EXIT_CONFIGURATION
    assert ended.stderr.startswith(sentence)
    assert _is_one_sentence(ended.stderr)


async def test_ctrl_c_stops_everything_in_time(
    open_shop: OpenShop, http: aiohttp.ClientSession
) -> None:
    shop = open_shop()
    # Its connection stays open and idle, as a browser's would.
    assert (await Client(http, shop.url).send("GET", "/api/products")).status == 200

    began = time.monotonic()
    status = shop.stop()

    assert time.monotonic() - began < STOP_SECONDS
    assert status == 0
    assert "does not stop" not in shop.output


def test_ctrl_c_stops_even_what_hangs(open_shop: OpenShop) -> None:
    shop = open_shop(*SOME)
    shop.pause("product")
    runner = psutil.Process(shop.parent.pid)
    before = runner.cpu_times()

    shop.parent.send_signal(signal.SIGINT)
    wait_until(lambda: "does not stop; killing it" in shop.output, "its end is near")
    after = runner.cpu_times()

    assert shop.wait_ended() == 0
    assert after.user + after.system - before.user - before.system < 1, "it waits, and is idle"


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
async def test_deaths_are_noticed(
    open_shop: OpenShop, http: aiohttp.ClientSession, start_method: str
) -> None:
    shop = open_shop(*SOME, "--start-method", start_method)

    killed_pid = shop.kill("product")
    product = await shop.back("product", killed_pid)

    assert f"product (pid {killed_pid}) was killed by SIGKILL; restarting" in shop.output
    assert f"product is back (pid {product.pid})" in shop.output
    assert (await Client(http, product.url).send("GET", "/api/products")).status == 200
    assert len(shop.alive()) == 2

    shop.parent.kill()

    wait_until(lambda: not shop.alive(), "its processes have ended", STOP_SECONDS)


def test_a_service_that_cannot_start_ends_the_shop(open_shop: OpenShop, tmp_path: Path) -> None:
    (tmp_path / "inventory.db").write_text("this is no database")
    shop = open_shop(*SOME, data=tmp_path, waits=False)

    assert shop.wait_ended() == 1
    sentence = "inventory: The database cannot be reached just now. (file is not a database)\n"
    assert shop.output.count(sentence) > 1
    assert "Traceback" not in shop.output


def test_a_full_disk_does_not_end_the_parent(tmp_path: Path) -> None:
    """Neither its output nor the file that says where everything is can be written."""
    folder = tmp_path / "data"
    command = [sys.executable, "-m", "services", "--data", str(folder), "--ports", "free"]
    state_file = folder / STATE_FILE

    def inventory_pid() -> int:
        if not state_file.exists():
            return 0
        process: dict[str, int] = json.loads(state_file.read_bytes())["processes"][0]
        return process["pid"]

    with Path("/dev/full").open("wb") as full:
        parent = subprocess.Popen(
            [*command, "--only", "inventory"], stdout=full, stderr=subprocess.DEVNULL
        )
    try:
        wait_until(lambda: bool(inventory_pid()), "the shop is open", 60.0)
        first = inventory_pid()
        in_the_way = folder / f"{STATE_FILE}.new"
        in_the_way.mkdir()
        os.kill(first, signal.SIGKILL)
        wait_until(
            lambda: any(child.pid != first for child in psutil.Process(parent.pid).children()),
            "the process is started again",
            30.0,
        )
        assert parent.poll() is None
        in_the_way.rmdir()
        wait_until(lambda: inventory_pid() != first, "the state is written", 30.0)
    finally:
        parent.terminate()
        status = parent.wait(30.0)
    assert status == 0


async def test_services_reach_each_other_whatever_proxy_is_set(
    open_shop: OpenShop, http: aiohttp.ClientSession
) -> None:
    nowhere = "http://127.0.0.1:9"
    shop = open_shop(
        "--only",
        "auth,user",
        environment=dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), nowhere),
    )
    url = next(process.url for process in shop.processes() if process.service == "auth")
    registration = {"email": "ada@example.com", "password": "correct horse", "name": "Ada"}
    async with http.post(f"{url}/api/auth/register", json=registration) as reply:
        assert reply.status == 201, await reply.text()


def test_a_killed_shop_leaves_nothing_in_the_way_of_the_next(open_shop: OpenShop) -> None:
    killed = open_shop("--only", "inventory")
    killed.parent.kill()
    wait_until(lambda: not killed.alive(), "its processes have ended", STOP_SECONDS)

    open_shop("--only", "inventory", name="next", data=killed.data)


async def test_data_survives_a_restart_and_not_a_fresh_one(
    open_shop: OpenShop, http: aiohttp.ClientSession
) -> None:
    shop = open_shop()
    customer = await Customer.register(Client(http, shop.url))
    order_id = await customer.bought({BOARD: 1})
    order = (await customer.order(order_id)).body
    assert shop.stop() == 0

    shop.launch()
    shop.wait_open()
    customer.client = Client(http, shop.url)
    assert (await customer.order(order_id)).body == order
    assert shop.stop() == 0

    fresh = open_shop("--fresh", name="fresh", data=shop.data)
    stranger = await Customer.register(Client(http, fresh.url))
    assert (await stranger.send("GET", "/api/orders")).body["items"] == []
    customer.client = stranger.client
    assert (await customer.order(order_id)).status == 401  # even the signing keys are new


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_no_process_tells_the_secrets_of_the_start(open_shop: OpenShop) -> None:
    secrets = {"SMTP_PASSWORD": "hidden", "STRIPE_API_KEY": "sk_test_hidden"}
    shop = open_shop(*SOME, environment=secrets)
    for pid in (shop.parent.pid, *(process.pid for process in shop.processes())):
        told = psutil.Process(pid).environ()
        assert "hidden" not in str(told), pid
        assert told["SHIPPING_STEP_SECONDS"] == shop.environment["SHIPPING_STEP_SECONDS"]


def test_only_what_was_asked_for_runs(open_shop: OpenShop) -> None:
    shop = open_shop("--only", "inventory")

    assert [process.service for process in shop.processes()] == ["inventory"]
    assert len(shop.alive()) == 1


async def test_replicas_share_the_work(replicated_shop: Shop, http: aiohttp.ClientSession) -> None:
    assert [process.instance for process in replicated_shop.of_service("order")] == [
        "order-1",
        "order-2",
    ]
    customer = await Customer.register(Client(http, replicated_shop.url))
    seen: set[str] = set()

    async def both_have_answered() -> bool:
        answer = await customer.send("GET", "/api/orders")
        served = decode(answer.headers[HEADER])
        assert served is not None
        seen.add(served.instance)
        return seen == {"order-1", "order-2"}

    await eventually(both_have_answered, "both processes of order have answered")


async def test_versions_and_variants_reach_their_services(
    open_shop: OpenShop, http: aiohttp.ClientSession
) -> None:
    shop = open_shop(*SOME, "--versions", "product=v2", "--variants", "product=v2")

    page = await Client(http, shop.of_service("product")[0].url).send("GET", "/api/products")

    assert page.body["version"] == "v2"
    assert page.body["items"][0]["sustainability"]


async def test_a_canary_gets_its_share_by_http_and_grpc(
    open_shop: OpenShop, http: aiohttp.ClientSession
) -> None:
    shop = open_shop("--only", "frontend,auth,product,inventory", "--versions", "product=v1:9,v2:1")
    client = Client(http, shop.url)

    async def through_the_gateway() -> Counter[str]:
        served = decode((await client.send("GET", f"/api/products/{BOARD}")).headers[HEADER])
        assert served is not None
        return Counter([served.version])

    answers = sum([await through_the_gateway() for _ in range(200)], Counter[str]())
    assert answers.total() == 200
    assert is_chance(answers["v2"], 200, 0.1)

    async with Visitor(shop.url) as visitor:
        await visitor.add_to_cart(BOARD)
        for _ in range(100):
            await visitor.get("/cart")
    rpcs = {
        process.instance: (await requests_served(http, process.internal_url))[GET_PRODUCTS]
        for process in shop.of_service("product")
    }
    assert rpcs.keys() == {"product-v1", "product-v2"}
    assert sum(rpcs.values()) >= 100
    assert is_chance(rpcs["product-v2"], sum(rpcs.values()), 0.1)


async def test_one_clock_can_be_wrong(open_shop: OpenShop, http: aiohttp.ClientSession) -> None:
    shop = open_shop(own_environment={"order": {"CLOCK_SKEW_SECONDS": "300"}})
    customer = await Customer.register(Client(http, shop.url))

    order = (await customer.order(await customer.bought({BOARD: 1}))).body

    ahead = datetime.fromisoformat(order["created_at"]) - datetime.now(UTC)
    assert timedelta(seconds=240) < ahead < timedelta(seconds=300)


def test_sigterm_stops_it_as_well(open_shop: OpenShop) -> None:
    shop = open_shop(*SOME)

    shop.parent.send_signal(signal.SIGTERM)

    assert shop.wait_ended(2 * STOP_SECONDS) == 0
    assert shop.alive() == []


def _is_one_sentence(output: str) -> bool:
    return output.count("\n") == 1 and output.endswith(".\n")
