"""What each process is started with."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from services.common.errors import ConfigurationError
from services.common.topology import load_topology
from services.local.plan import (
    ExtraEnvironment,
    Options,
    Version,
    faults_on,
    inherited_by,
    openness,
    plan_processes,
    read_environment,
)
from services.local.ports import Ports, usual_http
from tests.testkit.ports import free_port

PlanWith = Callable[[ExtraEnvironment], Mapping[str, Mapping[str, str]]]


@pytest.fixture
def plan_with(tmp_path: Path) -> Generator[PlanWith]:
    """The environment of each process, by instance, of a shop with two processes of `order`."""
    ports = Ports({}, any_free=True)

    def plan(extra: ExtraEnvironment) -> Mapping[str, Mapping[str, str]]:
        options = Options(
            data=tmp_path,
            only=("inventory", "order", "payment"),
            free_ports=True,
            replicas={"order": 2},
            environment=extra,
        )
        planned = plan_processes(load_topology(), options, ports, {})
        return {process.instance: process.environment for process in planned}

    yield plan
    ports.close()


def test_extra_environment_is_for_all_one_service_or_one_process(plan_with: PlanWith) -> None:
    planned = plan_with(
        {
            "order-2": {"WHO": "instance"},
            "order": {"WHO": "service"},
            "*": {"WHO": "all", "LOG_LEVEL": "debug"},
        }
    )
    assert {instance: environment["WHO"] for instance, environment in planned.items()} == {
        "stripe_sandbox": "all",
        "payment": "all",
        "inventory": "all",
        "order-1": "service",
        "order-2": "instance",
    }
    assert planned["order-2"]["LOG_LEVEL"] == "debug"


def test_it_wins_over_what_the_runner_sets(plan_with: PlanWith) -> None:
    planned = plan_with({"payment": {"DATABASE_URL": "mongodb://127.0.0.1/"}})
    assert planned["payment"]["DATABASE_URL"] == "mongodb://127.0.0.1/"
    assert planned["inventory"]["DATABASE_URL"].startswith("sqlite:///")


def test_a_service_that_does_not_run_now_may_be_named(plan_with: PlanWith) -> None:
    planned = plan_with({"frontend": {"VARIANT": "stable"}})
    assert all("VARIANT" not in environment for environment in planned.values())


@pytest.mark.parametrize("name", ["orders", "order-3", "inventory-1"])
def test_an_unknown_name_is_refused(plan_with: PlanWith, name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"names '{name}', .* order-1, order-2\.$"):
        plan_with({name: {}})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is wrong at its beginning: invalid JSON"),
        ("[]", "is wrong at its beginning: input should be an object."),
        ('{"order": "fast"}', "is wrong at order: input should be an object."),
        ('{"order": {"SIZE": 7}}', "is wrong at order.SIZE: input should be a valid string."),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "environment.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as refused:
        read_environment(file)
    assert str(refused.value).startswith(f"The file {file} of --environment {sentence}")
    assert str(refused.value).endswith(".")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file or directory"):
        read_environment(tmp_path / "nowhere.json")


class TestPorts:
    def test_free_ones_and_chosen_ones_go_together(self, tmp_path: Path) -> None:
        chosen = {"order": free_port(), "order.grpc": free_port(), "inventory.grpc": free_port()}
        del chosen["order.grpc"]  # order offers no gRPC
        ports = Ports(chosen, any_free=True)
        options = Options(data=tmp_path, only=("inventory", "order"), ports=chosen, free_ports=True)
        planned = {p.service: p for p in plan_processes(load_topology(), options, ports, {})}
        ports.close()
        assert planned["order"].http_port == chosen["order"]
        assert planned["inventory"].grpc_port == chosen["inventory.grpc"]

    def test_what_is_internal_stays_on_this_machine(self, tmp_path: Path) -> None:
        chosen = {"frontend.internal": free_port()}
        ports = Ports(chosen, any_free=True)
        options = Options(data=tmp_path, only=("frontend", "order"), ports=chosen, host="192.0.2.1")
        planned = {p.service: p for p in plan_processes(load_topology(), options, ports, {})}
        ports.close()
        frontend, order = planned["frontend"], planned["order"]
        assert frontend.environment["HOST"] == "192.0.2.1"
        assert frontend.environment["INTERNAL_HOST"] == "127.0.0.1"
        assert frontend.environment["INTERNAL_PORT"] == str(chosen["frontend.internal"])
        assert frontend.internal_url == f"http://127.0.0.1:{chosen['frontend.internal']}"
        assert order.internal_url == order.url

    def test_of_nobody_are_refused_and_those_that_there_are_are_named(self, tmp_path: Path) -> None:
        options = Options(data=tmp_path, ports={"order.grpc": 1234})
        with pytest.raises(ConfigurationError) as refused:
            plan_processes(load_topology(), options, Ports({}, any_free=True), {})
        sentence, _, known = str(refused.value).removesuffix(".").partition("; there are ")
        assert sentence == "--ports names 'order.grpc', which is not a port"
        assert {"order", "inventory.grpc", "stripe_sandbox"} < set(known.split(", "))

    def test_of_the_shop_are_free_in_both_families(self) -> None:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
            ports = Ports({"frontend": taken.getsockname()[1]}, any_free=True)
            with pytest.raises(ConfigurationError, match="for frontend is not available"):
                ports.http("frontend")
            free = ports.http("order")
            with (
                socket.socket(socket.AF_INET6) as somebody,
                pytest.raises(OSError, match="in use"),
            ):
                somebody.bind(("::1", free))
        ports.close()

    @pytest.mark.parametrize("service", ["product", "stripe_sandbox"])
    def test_of_others_are_free_where_they_listen(self, service: str) -> None:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
            chosen = taken.getsockname()[1]
            ports = Ports({service: chosen}, any_free=True)
            assert ports.http(service) == chosen
        ports.close()

    def test_that_two_processes_want_is_not_called_taken(self) -> None:
        chosen = free_port()
        ports = Ports({"order": chosen, "payment.grpc": chosen}, any_free=True)
        assert ports.http("order") == chosen
        sentence = rf"{chosen} is wanted for both order and payment\.grpc: "
        with pytest.raises(ConfigurationError, match=sentence):
            ports.grpc("payment", 4)
        ports.close()

    def test_the_advice_for_a_taken_one_can_be_followed(self) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            taken = listener.getsockname()[1]
            ports = Ports({"payment.grpc": taken}, any_free=True)
            with pytest.raises(ConfigurationError, match=r"--ports payment\.grpc=PORT"):
                ports.grpc("payment", 4)
        ports.close()


def test_only_the_frontend_listens_where_others_reach_it(tmp_path: Path) -> None:
    ports = Ports({}, any_free=True)
    options = Options(data=tmp_path, free_ports=True, host="0.0.0.0")  # noqa: S104  what is tested
    planned = plan_processes(load_topology(), options, ports, {})
    ports.close()
    hosts = {p.service: p.environment["HOST"] for p in planned if "HOST" in p.environment}
    assert hosts.pop("frontend") == "0.0.0.0"  # noqa: S104
    assert set(hosts.values()) == {"127.0.0.1"}


def test_auth_alone_believes_the_frontend_in_front_of_it(tmp_path: Path) -> None:
    ports = Ports({}, any_free=True)
    planned = plan_processes(load_topology(), Options(data=tmp_path, free_ports=True), ports, {})
    ports.close()
    believing = {
        process.service: process.environment["PROXIES_IN_FRONT"]
        for process in planned
        if "PROXIES_IN_FRONT" in process.environment
    }
    assert believing == {"auth": "1"}


@pytest.mark.parametrize(
    ("host", "authority"),
    [
        (None, "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104  what is tested
        ("::", "127.0.0.1"),
        ("127.0.0.2", "127.0.0.2"),
        ("::1", "[::1]"),
        ("192.0.2.7", "192.0.2.7"),
        ("shop.example", "shop.example"),
    ],
)
def test_the_shop_is_where_it_listens(tmp_path: Path, host: str | None, authority: str) -> None:
    chosen = Options(data=tmp_path, ports={"frontend": free_port()}, free_ports=True)
    options = chosen if host is None else replace(chosen, host=host)
    ports = Ports(options.ports, any_free=True)
    planned = {p.service: p for p in plan_processes(load_topology(), options, ports, {})}
    ports.close()
    assert planned["frontend"].url == f"http://{authority}:{options.ports['frontend']}"
    assert planned["order"].url == f"http://127.0.0.1:{planned['order'].http_port}"


def test_each_secret_is_in_the_environment_of_its_own_service_alone(tmp_path: Path) -> None:
    ports = Ports({}, any_free=True)
    planned = plan_processes(load_topology(), Options(data=tmp_path, free_ports=True), ports, {})
    ports.close()
    given = {"STRIPE_API_KEY": "sk_test_mine", "SMTP_PASSWORD": "x", "PATH": "/bin"}
    holders: dict[str, set[str]] = {}
    for process in planned:
        environment = {**inherited_by(process.service, given), **process.environment}
        assert environment["PATH"] == "/bin"
        for name in ("STRIPE_API_KEY", "SMTP_PASSWORD", "FRONTEND_SECRET"):
            if name in environment:
                holders.setdefault(name, set()).add(process.service)
    assert holders == {
        "STRIPE_API_KEY": {"payment"},
        "SMTP_PASSWORD": {"notification"},
        "FRONTEND_SECRET": {"frontend"},
    }


def test_faults_are_for_a_service_or_for_one_version_of_it(tmp_path: Path) -> None:
    ports = Ports({}, any_free=True)
    options = Options(
        data=tmp_path,
        only=("product", "inventory", "order"),
        free_ports=True,
        versions={"product": [Version("v1", 9), Version("v2", 1)]},
        slow={"product": 0.3, "product:v2": 1.5},
        fail={"product:v2": 0.2, "order": 0.07},
    )
    planned = plan_processes(load_topology(), options, ports, {})
    ports.close()
    faults = {
        process.instance: {
            name.removeprefix("FAULT_"): value
            for name, value in process.environment.items()
            if name.startswith("FAULT_")
        }
        for process in planned
    }
    assert faults == {
        "product-v1": {"LATENCY_SECONDS": "0.3"},
        "product-v2": {"LATENCY_SECONDS": "1.5", "ERROR_SHARE": "0.2"},
        "inventory": {},
        "order": {"ERROR_SHARE": "0.07"},
    }


@pytest.mark.parametrize("given", [{}, {"SMTP_HOST": "mail.example.com"}])
def test_mails_are_files_unless_there_is_a_server(tmp_path: Path, given: dict[str, str]) -> None:
    ports = Ports({}, any_free=True)
    planned = plan_processes(load_topology(), Options(data=tmp_path, free_ports=True), ports, given)
    ports.close()
    frontend, notification = (
        next(process for process in planned if process.service == name)
        for name in ("frontend", "notification")
    )
    folder = None if given else str(tmp_path / "mails")
    assert notification.environment.get("MAIL_FOLDER") == folder
    assert notification.environment["SHOP_URL"] == frontend.url
    assert not any("MAIL_FOLDER" in each.environment for each in planned if each != notification)


def test_links_in_mails_lead_where_the_shop_listens(tmp_path: Path) -> None:
    options = Options(data=tmp_path, free_ports=True, host="192.0.2.7")
    ports = Ports({}, any_free=True)
    planned = {p.service: p for p in plan_processes(load_topology(), options, ports, {})}
    ports.close()
    assert planned["notification"].environment["SHOP_URL"] == planned["frontend"].url


def test_links_in_mails_lead_where_the_environment_says(tmp_path: Path) -> None:
    ports = Ports({}, any_free=True)
    given = {"SHOP_URL": "https://shop.example.com"}
    planned = plan_processes(load_topology(), Options(data=tmp_path, free_ports=True), ports, given)
    ports.close()
    (notification,) = (process for process in planned if process.service == "notification")
    assert "SHOP_URL" not in notification.environment


@pytest.mark.parametrize(
    ("host", "shop_url", "told", "untold"),
    [
        ("192.0.2.7", "", "listens on 192.0.2.7:", "SHOP_URL"),
        ("::", "", "on all addresses of this machine: ", ":::"),
        ("0.0.0.0", "", "unless SHOP_URL says where", "0.0.0.0"),  # noqa: S104  what is tested
        ("::", "https://shop.example", "on all addresses of this machine: ", "SHOP_URL"),
    ],
)
def test_who_opens_the_shop_to_others_is_told(
    host: str, shop_url: str, told: str, untold: str
) -> None:
    said = openness(host, {"SHOP_URL": shop_url})
    assert said is not None
    assert told in said
    assert untold not in said


def test_the_docs_say_where_the_documentation_of_orders_is() -> None:
    position = list(load_topology().services).index("order")
    page = (Path(__file__).parents[3] / "docs/api.md").read_text(encoding="utf-8")
    assert f"<http://127.0.0.1:{usual_http('order', position)}/docs>" in page


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_a_shop_for_this_machine_alone_needs_no_word(host: str) -> None:
    assert openness(host, {}) is None


def test_faults_are_told_one_line_for_each_kind(tmp_path: Path) -> None:
    ports = Ports({}, any_free=True)
    options = Options(
        data=tmp_path,
        only=("product", "payment", "inventory"),
        versions={"product": [Version("v1", 9), Version("v2", 1)]},
        slow={"payment": 0.3},
        fail={"product:v2": 0.2, "payment": 0.07},
        environment={"inventory": {"FAULT_LATENCY_SECONDS": "1"}},
    )
    try:
        planned = plan_processes(load_topology(), options, ports, {})
    finally:
        ports.close()
    assert faults_on(planned, {}) == [
        "Slow on purpose: payment by 0.3 s, inventory by 1 s.",
        "Failing on purpose: product-v2 20 %, payment 7 %.",
    ]


@pytest.mark.parametrize("setting", ["", "0", "nonsense"])
def test_of_no_faults_nothing_is_told(tmp_path: Path, setting: str) -> None:
    ports = Ports({}, any_free=True)
    options = Options(data=tmp_path, only=("payment",))
    try:
        planned = plan_processes(load_topology(), options, ports, {})
    finally:
        ports.close()
    inherited = {"FAULT_LATENCY_SECONDS": setting, "FAULT_ERROR_SHARE": setting}
    assert faults_on(planned, inherited) == []
    assert faults_on(planned, {"FAULT_ERROR_SHARE": "0.5"}) == ["Failing on purpose: payment 50 %."]


def test_versions_share_the_requests_by_weight(tmp_path: Path) -> None:
    ports = Ports({}, any_free=True)
    options = Options(
        data=tmp_path,
        only=("product", "inventory"),
        replicas={"product": 2},
        versions={"product": [Version("v1", 18), Version("v2", 2)], "inventory": [Version("v3")]},
    )
    try:
        planned = plan_processes(load_topology(), options, ports, {})
    finally:
        ports.close()
    versions = {process.instance: process.environment["VERSION"] for process in planned}
    assert versions == {
        "product-v1-1": "v1",
        "product-v1-2": "v1",
        "product-v2-1": "v2",
        "product-v2-2": "v2",
        "inventory": "v3",
    }
    known = {f"127.0.0.1:{process.http_port}": process.instance for process in planned}
    turns = json.loads(planned[-1].environment["HTTP_ADDRESSES"])["product"]
    assert Counter(known[address] for address in turns) == {
        "product-v1-1": 9,
        "product-v1-2": 9,
        "product-v2-1": 1,
        "product-v2-2": 1,
    }
    assert len(json.loads(planned[-1].environment["GRPC_ADDRESSES"])["product"]) == 20


def test_requests_of_people_are_not_split(tmp_path: Path) -> None:
    options = Options(data=tmp_path, versions={"frontend": [Version("v1", 9), Version("v2")]})
    with pytest.raises(ConfigurationError, match=r"^--versions splits .* give it one version\.$"):
        plan_processes(load_topology(), options, Ports({}, any_free=True), {})
