"""The manifests for a shop elsewhere: every place that names the shop of the files is rewritten,
and what its settings need is opened, or refused with a sentence.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from tests.testkit.elsewhere import ISTIO, LINKERD, left_behind, strings
from tests.testkit.matrix import TOPOLOGY
from tools import certificate
from tools.mesh import __main__ as command_line
from tools.mesh import render
from tools.mesh.render import CannotRender, Server, Shop

MESH = Path(__file__).parents[3] / "mesh"
_BUILT = render.built
_FILES = sorted(
    path
    for path in MESH.rglob("*.yaml")
    if path.name not in {"kustomization.yaml", "install.yaml", "traefik.yaml"}
)


def documents(path: Path) -> list[Any]:
    text = path.read_text(encoding="utf-8")
    return list(yaml.load_all(text, Loader=yaml.CSafeLoader))


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(MESH)))
def test_nothing_speaks_of_the_files_shop(path: Path) -> None:
    own = path.relative_to(MESH).parts[0]
    for shop in (ISTIO, LINKERD):
        if own in {shop.mesh, "gateway-api"}:
            objects = [render.moved(each, shop, "edge") for each in documents(path)]

            assert left_behind(objects) == []


@pytest.fixture(autouse=True)
def _without_kubectl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patches are left out: tests/cluster/test_render.py has kubectl build all folders."""

    def built(mesh: str, folder: str) -> list[Any]:
        return resources(MESH / mesh / folder)

    monkeypatch.setattr(render, "built", built)


def resources(folder: Path) -> list[Any]:
    (kustomization,) = documents(folder / "kustomization.yaml")
    found: list[Any] = []
    for name in kustomization["resources"]:
        path = folder / name
        found += resources(path) if path.is_dir() else documents(path)
    return found


def base(**settings: Any) -> list[Any]:
    given: dict[str, Any] = {"namespace": "student-07", "host": "student-07.example.org"}
    return render.rendered(Shop(**(given | settings)), "base")


def of_kind(objects: list[Any], kind: str) -> list[Any]:
    return [each for each in objects if each["kind"] == kind]


@pytest.mark.parametrize("mesh", ["istio", "linkerd"])
def test_the_shop_of_the_files_is_rendered_as_they_are(mesh: Any) -> None:
    gateway = render.ISTIOCTL if mesh == "istio" else render.TRAEFIK
    objects = render.rendered(Shop(mesh=mesh, gateway=gateway), "base")
    assert objects == resources(MESH / mesh / "base")


@pytest.mark.parametrize("preset", ["istioctl", "helm", "gateway-api"])
def test_what_is_outside_of_the_namespace_is_this_shops_alone(preset: str) -> None:
    """So that another shop neither overwrites it nor takes it back."""
    gateway = render.gateway_of(preset, "student-07")
    for each in base(gateway=gateway):
        metadata = each["metadata"]
        if each["kind"] == "Namespace" or metadata["namespace"] != "student-07":
            assert metadata["name"].startswith("student-07-"), metadata
        if each["kind"] == "EnvoyFilter":
            assert metadata["namespace"] == gateway.namespace
            assert metadata["labels"]["meshmart/shop"] == "student-07"
            (patch,) = each["spec"]["configPatches"]
            assert patch["match"]["listener"]["filterChain"]["sni"] == "student-07.example.org"


def test_rules_of_routing_are_for_the_namespace_and_its_gateway() -> None:
    for each in base(gateway=render.gateway_of("helm", "student-07")):
        if each["kind"] in {"VirtualService", "DestinationRule", "ServiceEntry"}:
            assert set(each["spec"]["exportTo"]) <= {".", "istio-ingress"}, each["metadata"]


@pytest.mark.parametrize(
    ("preset", "principal"),
    [
        ("istioctl", "istio-system/sa/istio-ingressgateway-service-account"),
        ("helm", "istio-ingress/sa/istio-ingress"),
        ("gateway-api", "student-07-ingress/sa/student-07-gateway-istio"),
    ],
)
def test_the_gateway_is_let_in_as_it_is_called(preset: str, principal: str) -> None:
    objects = base(gateway=render.gateway_of(preset, "student-07"), trust_domain="td.example")
    (frontend,) = (
        each
        for each in of_kind(objects, "AuthorizationPolicy")
        if each["metadata"]["name"] == "frontend"
    )
    sources = {rule["from"][0]["source"]["principals"][0] for rule in frontend["spec"]["rules"]}
    assert sources == {f"td.example/ns/{principal}"}
    # The chart's NetworkPolicies know istio-system.
    opened = [text for each in of_kind(objects, "NetworkPolicy") for text in strings(each)]
    expected = principal.partition("/")[0]
    assert (expected in opened) == (expected != "istio-system")


def test_behind_the_gateway_api_there_is_one_way_in() -> None:
    objects = base(gateway=render.gateway_of("gateway-api", "student-07"))
    (gateway,) = of_kind(objects, "Gateway")
    assert gateway["apiVersion"].startswith("gateway.networking.k8s.io/")
    for route in of_kind(objects, "HTTPRoute"):
        (parent,) = route["spec"]["parentRefs"]
        assert parent["name"] == gateway["metadata"]["name"]
        assert parent["namespace"] == gateway["metadata"]["namespace"]
    routes = of_kind(objects, "VirtualService")
    assert routes
    assert not any("gateways" in each["spec"] for each in routes)
    with pytest.raises(CannotRender, match="which a shop behind the Gateway API does not have"):
        render.rendered(
            Shop(gateway=render.gateway_of("gateway-api", "ecommerce")), "scenarios/13-mirroring"
        )


def hosts_of(objects: list[Any]) -> dict[str, set[str]]:
    """Whom each workload's proxy knows."""
    return {
        each["metadata"]["name"]: set(each["spec"]["egress"][0]["hosts"])
        for each in of_kind(objects, "Sidecar")
    }


@pytest.mark.parametrize(
    ("server", "host", "is_outside"),
    [
        (
            render.otlp_server("http://otel.telemetry:4317", TOPOLOGY),
            "telemetry/otel.telemetry",
            False,
        ),
        (render.otlp_server("https://otel.acme.example", TOPOLOGY), "./otel.acme.example", True),
        (
            render.prometheus_server("http://prometheus.monitoring:9090", TOPOLOGY),
            "monitoring/prometheus.monitoring",
            False,
        ),
        (render.smtp_server("mail.acme.example:587", TOPOLOGY), "./mail.acme.example", True),
        (render.smtp_server("acme.example.:25", TOPOLOGY), "./acme.example", True),
        (render.smtp_server("mail:25", TOPOLOGY), "./mail.student-07", False),
        (render.smtp_server("mail.outside.svc:25", TOPOLOGY), "outside/mail.outside", False),
        (
            render.smtp_server("192.0.2.7:25", TOPOLOGY),
            "./smtp-192-0-2-7.student-07.external",
            True,
        ),
        (render.stripe_server("http://way.out:8080", TOPOLOGY), "out/way.out", False),
    ],
)
def test_a_setting_opens_its_server_to_those_who_use_it(
    server: Server, host: str, is_outside: bool
) -> None:
    before, objects = base(), base(servers=[server])
    host += "" if is_outside else ".svc.cluster.local"
    for workload, known in hosts_of(objects).items():
        added = known - hosts_of(before)[workload]
        assert added == ({host} if workload in server.workloads else set()), workload
    entries = of_kind(objects, "ServiceEntry")[: -len(of_kind(before, "ServiceEntry"))]
    assert [each["spec"]["hosts"] for each in entries] == ([[host[2:]]] if is_outside else [])
    for each in entries:
        assert [port["number"] for port in each["spec"]["ports"]] == [server.port]
        assert each["spec"]["exportTo"] == ["."]


def test_another_mongodb_takes_the_place_of_the_charts() -> None:
    uri = "mongodb://shop:pa55@db-0.acme.example,db-1.acme.example:27018/?replicaSet=rs0"
    servers = render.mongodb_servers(uri, TOPOLOGY)
    objects = base(servers=servers, keeps_own_mongodb=True)
    for name, service in TOPOLOGY.services.items():
        known = hosts_of(objects)[service.workload]
        opened = {each for each in known if "db-" in each}
        expected = (
            {"./db-0.acme.example", "./db-1.acme.example"} if service.database else set[str]()
        )
        assert opened == expected, name
    assert not [text for text in strings(objects) if text.startswith("./mongodb.")]
    assert "mongodb" not in {each["metadata"]["name"] for each in objects}
    assert "pa55" not in render.text_of(objects)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            lambda: render.mongodb_servers("mongodb+srv://db.example", TOPOLOGY),
            "with all of their names",
        ),
        (lambda: render.mongodb_servers("db.example", TOPOLOGY), "such as mongodb://"),
        (lambda: render.otlp_server("otel:4317", TOPOLOGY), "no address such as http://"),
        (lambda: render.prometheus_server("prom:9090", TOPOLOGY), "no address such as http://p"),
        (lambda: render.smtp_server("mail.example.com", TOPOLOGY), "no address such as mail"),
        (lambda: render.stripe_server("stripe", TOPOLOGY), "no address such as http://stripe"),
        (lambda: Shop(namespace="Student 07"), "no name of a namespace"),
        (lambda: Shop(host="localhost"), "no host such as shop.example.com"),
        (
            lambda: Shop(
                mesh="linkerd", servers=[render.smtp_server("mail.acme.example:587", TOPOLOGY)]
            ),
            'skip-outbound-ports: "587"',
        ),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(asked: Any, said: str) -> None:
    with pytest.raises(CannotRender, match=said):
        asked()


@pytest.fixture
def _with_the_true_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "built", _BUILT)


@pytest.mark.usefixtures("_with_the_true_built")
def test_a_folder_that_holds_nothing_is_refused() -> None:
    for folder in ("scenarios/99-nothing", "../../helm", ".."):
        with pytest.raises(CannotRender, match="holds no manifests"):
            render.rendered(Shop(), folder)


@pytest.mark.usefixtures("_with_the_true_built")
def test_a_single_file_is_rendered_as_its_folder_is() -> None:
    gateway = render.gateway_of("gateway-api", "student-07")
    shop = Shop(namespace="student-07", host="student-07.example.org", gateway=gateway)
    objects = render.rendered(shop, "base/routes.yaml") + render.rendered(shop, "base/calls.yaml")
    whole = base(gateway=gateway)
    assert objects
    assert all(each in whole for each in objects)
    (route, *_) = render.rendered(
        Shop(mesh="linkerd", gateway=render.TRAEFIK), "../gateway-api/ingress/routes.yaml"
    )
    assert route["kind"] == "HTTPRoute"


def test_the_way_to_stripe_alone_is_that_of_a_shop_with_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named = {"metadata": {"name": "stripe", "labels": {"meshmart/part": "stripe"}}, "kind": "X"}
    other = {"metadata": {"name": "other"}, "kind": "X"}
    built = {"stripe-key": [named, other], "base/stripe.yaml": [other]}
    monkeypatch.setattr(render, "built", lambda _, folder: built[folder])  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    assert render.rendered(Shop(has_stripe_key=True), "base/stripe.yaml") == [named]


@pytest.mark.usefixtures("_with_the_true_built")
@pytest.mark.parametrize("given", [[], ["--host", "shop.acme.example"]])
def test_a_host_follows_from_the_namespace_if_none_is_given(
    given: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two students never share one."""
    expected = given[1] if given else "student-07.example.com"
    here = ["--namespace", "student-07", *given]

    monkeypatch.setattr(sys, "argv", ["tools.mesh", "render", *here, "start"])
    assert command_line.main() == 0
    (gateway,) = of_kind(list(yaml.safe_load_all(capsys.readouterr().out)), "Gateway")
    assert {host for each in gateway["spec"]["servers"] for host in each["hosts"]} == {expected}

    monkeypatch.setattr(sys, "argv", ["certificate.py", "istio", *here])
    certificate.main()
    pem = base64.b64decode(json.loads(capsys.readouterr().out)["data"]["tls.crt"])
    extensions = x509.load_pem_x509_certificate(pem).extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [expected]


@pytest.mark.usefixtures("_with_the_true_built")
def test_a_folder_of_plain_files_is_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "MESH_FOLDER", tmp_path)
    (tmp_path / "istio/start").mkdir(parents=True)
    route = MESH / "istio/base/gateway.yaml"
    (tmp_path / "istio/start/gateway.yaml").write_text(route.read_text(encoding="utf-8"))
    assert render.rendered(Shop(), "start") == documents(route)


def test_a_text_of_digits_stays_a_text() -> None:
    """To kubectl a plain 08 is a number, which no label is."""
    text = render.text_of([{"labels": {"meshmart/scenario": "08"}, "port": 80, "name": "shop"}])
    assert text == "labels:\n  meshmart/scenario: '08'\nport: 80\nname: shop\n"
