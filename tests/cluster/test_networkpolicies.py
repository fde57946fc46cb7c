"""The NetworkPolicies let through what the topology declares and what settings ask for, and nothing
else; other pods they leave alone.

What they mean is worked out by the rules of
https://kubernetes.io/docs/concepts/services-networking/network-policies/, and tried: pods with the
names of the shop's connect to each other, where the cluster's network enforces policies.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from services.common.topology import load_topology
from tests.cluster.release import IMAGE
from tests.cluster.test_goldens import CASES
from tests.testkit.cluster import Namespace, Object, render, run
from tests.testkit.waiting import wait_until

HERE = Path(__file__).parent
TOPOLOGY = load_topology()
WORKLOADS = tuple(service.workload for service in TOPOLOGY.services.values())
DATABASE_USERS = tuple(
    service.workload for service in TOPOLOGY.services.values() if service.database
)
FRONTEND = TOPOLOGY.services["frontend"]
NOTIFICATION, PAYMENT = (TOPOLOGY.services[name].workload for name in ("notification", "payment"))
MONGODB, MONGODB_USERS, PURCHASE_TEST = "mongodb", "mongodb-users", "purchase-test"
SANDBOX = "stripe-sandbox"
SHOP = (*WORKLOADS, MONGODB, MONGODB_USERS, PURCHASE_TEST, SANDBOX)
# None of the shop's: one in its namespace, with the name of one of its own, and three elsewhere.
NEIGHBOUR, OBSERVER, CONTROLLER, OUTSIDER = "neighbour", "observer", "controller", "outsider"
OTHERS = (NEIGHBOUR, OBSERVER, CONTROLLER, OUTSIDER)
NAMESPACES = {
    SANDBOX: "policies-stripe",
    OBSERVER: "policies-monitoring",
    CONTROLLER: "policies-ingress",
    OUTSIDER: "policies-elsewhere",
}
HOME = "policies-shop"
MAIL, OTLP, OWN_MONGODB, PROMETHEUS = 1025, 4317, 27018, 9090
PORTS = (
    *(3000, 3001, 9000, 27017, 12111, 12443),
    *(4143, 4190, 4191, 15020),  # of proxies
    *(MAIL, MAIL + 1, OTLP, OTLP + 1, OWN_MONGODB, OWN_MONGODB + 1),
    *(PROMETHEUS, PROMETHEUS + 1),
)
_NAME, _PART_OF = "app.kubernetes.io/name", "app.kubernetes.io/part-of"
_ANY_POD: Mapping[str, Any] = {"podSelector": {}}
_NAMESPACE_NAME = "kubernetes.io/metadata.name"
# How long a network may take to follow a change, when the machine is busy.
_SETTLE_SECONDS = 120.0

VALUES = (
    *("--namespace", HOME, "--set", f"stripe.sandbox.namespace={NAMESPACES[SANDBOX]}"),
    *("--set", f"observability.namespaces={{{NAMESPACES[OBSERVER]}}}"),
    *("--set", f"ingress.controllerNamespaces={{{NAMESPACES[CONTROLLER]}}}"),
)


class PodConnection(NamedTuple):
    """Who connects to whom, and where."""

    source: str
    target: str
    port: int


def labels(pod: str) -> Mapping[str, str]:
    """What the pod bears."""
    if pod == NEIGHBOUR:
        return {_NAME: PAYMENT}
    return {_NAME: pod, _PART_OF: "meshmart"} if pod in SHOP else {_NAME: pod}


def namespace(pod: str) -> str:
    """Where the pod is."""
    return NAMESPACES.get(pod, HOME)


def imaginable() -> Iterator[PodConnection]:
    """All that pods may try."""
    pods = (*SHOP, *OTHERS)
    for source in pods:
        for target in pods:
            if source != target:
                yield from (PodConnection(source, target, port) for port in PORTS)


class PolicyCase(NamedTuple):
    """Some values, and what they let through."""

    values: str
    allowed: Set[PodConnection]


def between_services(*, serves_api: bool) -> Iterator[PodConnection]:
    """What the topology declares."""
    services = TOPOLOGY.services
    for name, service in services.items():
        for edge in service.calls:
            callee = services[edge.callee]
            if edge.http or (name == "frontend" and serves_api and callee.public):
                yield PodConnection(service.workload, callee.workload, callee.http.port)
            if edge.grpc and callee.grpc is not None:
                yield PodConnection(service.workload, callee.workload, callee.grpc.port)


def always(*, serves_api: bool = True) -> Iterator[PodConnection]:
    """What is let through whatever the values are, but for MongoDB's."""
    yield from between_services(serves_api=serves_api)
    # People come in from anywhere, and `helm test` where the frontend serves all that it asks for.
    for source in (*OTHERS, PURCHASE_TEST) if serves_api else OTHERS:
        yield PodConnection(source, FRONTEND.workload, FRONTEND.http.port)
    yield PodConnection(PAYMENT, SANDBOX, 12111)
    for each in imaginable():
        if each.source in OTHERS and each.target in OTHERS:
            yield each


def to_mongodb() -> Iterator[PodConnection]:
    """The chart's own."""
    for source in (*DATABASE_USERS, MONGODB_USERS):
        yield PodConnection(source, MONGODB, 27017)


def metrics() -> Iterator[PodConnection]:
    """The services' own."""
    for service in TOPOLOGY.services.values():
        port = service.internal_port or service.http.port
        yield PodConnection(OBSERVER, service.workload, port)


def of_proxies(*ports: int) -> Iterator[PodConnection]:
    """What observers read."""
    for pod in SHOP:
        if pod != SANDBOX:
            yield from (PodConnection(OBSERVER, pod, port) for port in ports)


def from_controllers(*sources: str) -> Iterator[PodConnection]:
    """What is public, past the frontend."""
    for service in TOPOLOGY.services.values():
        if service.public:
            for source in sources:
                yield PodConnection(source, service.workload, service.http.port)


def between_proxies() -> Iterator[PodConnection]:
    """In Linkerd all goes by one port, and the proxy behind it judges."""
    for each in imaginable():
        meshed = each.target in SHOP and each.target != SANDBOX
        if meshed and each.source != SANDBOX and each.port == 4143:
            yield each


def between_own_proxies() -> Iterator[PodConnection]:
    """The same within a shop that somebody may put into Linkerd by `linkerd inject`."""
    for each in between_proxies():
        if each.source in SHOP:
            yield each


def to_whom_settings_name() -> Iterator[PodConnection]:
    """Mail in one namespace, Prometheus in another, MongoDB at one address, spans wherever."""
    yield PodConnection(NOTIFICATION, OUTSIDER, MAIL)
    yield PodConnection(FRONTEND.workload, OBSERVER, PROMETHEUS)
    for source in DATABASE_USERS:
        yield PodConnection(source, OUTSIDER, OWN_MONGODB)
    for source in WORKLOADS:
        for target in OTHERS:
            yield PodConnection(source, target, OTLP)


MAIL_VALUES = ",".join(
    f"services.notification.environment.{name}={value}"
    for name, value in {
        "SMTP_HOST": f"mail.{NAMESPACES[OUTSIDER]}.svc.cluster.local",
        "SMTP_PORT": MAIL,
    }.items()
)
CASES_OF_POLICIES = {
    "default": PolicyCase("", {*always(), *to_mongodb(), *metrics(), *between_own_proxies()}),
    "ingress": PolicyCase(
        "ingress.kind=ingress,frontend.servesApi=false",
        {
            *always(serves_api=False),
            *to_mongodb(),
            *metrics(),
            *between_own_proxies(),
            *from_controllers(CONTROLLER),
        },
    ),
    "istio": PolicyCase(
        "mesh=istio,frontend.servesApi=false",
        {
            *always(serves_api=False),
            *to_mongodb(),
            *of_proxies(15020),
            *from_controllers(CONTROLLER),
            PodConnection(PAYMENT, SANDBOX, 12443),
        },
    ),
    "linkerd": PolicyCase(
        "mesh=linkerd,frontend.servesApi=false",
        {
            *always(serves_api=False),
            *to_mongodb(),
            *metrics(),
            *of_proxies(4190, 4191),
            *between_proxies(),
        },
    ),
    "settings": PolicyCase(
        f"observability.otlpEndpoint=http://jaeger.observability:{OTLP},"
        f"observability.prometheusUrl=http://prometheus.{NAMESPACES[OBSERVER]}.svc:{PROMETHEUS},"
        f"mongodb.uri=mongodb://shop:p%40ss@mongo-0.mongo.{NAMESPACES[OUTSIDER]}.svc:{OWN_MONGODB}/,"
        + MAIL_VALUES,
        {*always(), *metrics(), *between_own_proxies(), *to_whom_settings_name()},
    ),
}


@pytest.fixture(params=CASES_OF_POLICIES)
def case(request: pytest.FixtureRequest) -> PolicyCase:
    return CASES_OF_POLICIES[request.param]


def policies(*arguments: str) -> list[Object]:
    """The NetworkPolicies that the chart makes of values."""
    made = [each for each in render(*arguments) if each["kind"] == "NetworkPolicy"]
    for each in made:
        each["metadata"].setdefault("namespace", HOME)
    return made


def difference(found: Set[PodConnection], case: PolicyCase) -> str:
    """In words."""
    lines = [f"let through: {each}" for each in sorted(found - case.allowed)]
    lines += [f"not let through: {each}" for each in sorted(case.allowed - found)]
    return "\n".join(lines)


class Meaning:
    """What NetworkPolicies let through: what those of both ends allow."""

    def __init__(self, policies: Sequence[Object]) -> None:
        self._policies = policies

    def allows(self, connection: PodConnection) -> bool:
        source, target, port = connection
        return self._passes("egress", source, target, port) and self._passes(
            "ingress", target, source, port
        )

    def _passes(self, direction: str, pod: str, peer: str, port: int) -> bool:
        specs = [
            each["spec"]
            for each in self._policies
            if each["metadata"]["namespace"] == namespace(pod)
            and _selects(each["spec"]["podSelector"], labels(pod))
            and direction.capitalize() in each["spec"]["policyTypes"]
        ]
        rules = [rule for spec in specs for rule in spec.get(direction, ())]
        return not specs or any(_matches(rule, pod, peer, port) for rule in rules)


def _selects(selector: Mapping[str, Any], borne: Mapping[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels", "matchExpressions"}, selector
    expressions = selector.get("matchExpressions", ())
    assert all(each["operator"] == "In" for each in expressions), selector
    return selector.get("matchLabels", {}).items() <= borne.items() and all(
        borne.get(each["key"]) in each["values"] for each in expressions
    )


def _matches(rule: Mapping[str, Any], pod: str, peer: str, port: int) -> bool:
    ports = rule.get("ports")
    if ports and not any(
        each["protocol"] == "TCP" and each["port"] <= port <= each.get("endPort", each["port"])
        for each in ports
    ):
        return False
    peers = rule.get("from", rule.get("to"))
    return peers is None or any(_is_meant(each, pod, peer) for each in peers)


def _is_meant(peer: Mapping[str, Any], pod: str, name: str) -> bool:
    if "ipBlock" in peer:
        return False  # no address of these is a pod's
    if "namespaceSelector" not in peer:
        in_namespace = namespace(pod) == namespace(name)
    else:
        in_namespace = _selects(peer["namespaceSelector"], {_NAMESPACE_NAME: namespace(name)})
    return in_namespace and _selects(peer.get("podSelector", {}), labels(name))


def test_by_the_rules_they_mean_the_topology(case: PolicyCase) -> None:
    meaning = Meaning(policies(*VALUES, "--set", case.values))
    found = {each for each in imaginable() if meaning.allows(each)}
    assert found == case.allowed, difference(found, case)


@pytest.mark.parametrize("name", CASES)
def test_they_are_about_the_shops_own_pods(name: str) -> None:
    for each in policies("--values", str(HERE / "values" / f"{name}.yaml")):
        chosen = each["spec"]["podSelector"]["matchLabels"]
        assert chosen[_PART_OF] == "meshmart", each["metadata"]["name"]


def test_without_them_there_are_none() -> None:
    assert not policies("--set", "networkPolicies.enabled=false")


def egress(values: str, workload: str) -> Iterator[Mapping[str, Any]]:
    """What a workload's own policy lets out to."""
    for each in policies("--set", values):
        if each["metadata"]["name"] == workload:
            yield from each["spec"]["egress"]


@pytest.mark.parametrize(
    ("uri", "ports", "to"),
    [
        ("mongodb://10.1.2.3/", [{"port": 27017}], [{"ipBlock": {"cidr": "10.1.2.3/32"}}]),
        ("mongodb://[fd00::3]:27018", [{"port": 27018}], [{"ipBlock": {"cidr": "fd00::3/128"}}]),
        ("mongodb://db.example.com:5000/?tls=true", [{"port": 5000}], None),
        ("mongodb://db/", [{"port": 27017}], [_ANY_POD]),
        ("mongodb+srv://u:p@db.example.com/", [{"port": 27015, "endPort": 27017}], None),
    ],
)
def test_a_mongodb_of_ones_own_is_opened_and_nothing_else(
    uri: str, ports: list[Mapping[str, Any]], to: list[Mapping[str, Any]] | None
) -> None:
    (rule,) = egress(f"mongodb.uri={uri}", "inventory-service")  # which calls nobody
    assert rule["ports"] == [{"protocol": "TCP", **each} for each in ports]
    assert rule.get("to") == to


def test_each_host_of_a_mongodb_is_opened() -> None:
    uri = r"mongodb://u:p@a.example.com:27017\,b.example.com:27018\,c.example.com/?replicaSet=rs"
    opened = [
        each["ports"][0]["port"] for each in egress(f"mongodb.uri={uri}", "inventory-service")
    ]
    assert opened == [27017, 27018, 27017]


@pytest.mark.parametrize(
    ("settings", "port"),
    [
        ({}, 587),
        ({"SMTP_IMPLICIT_TLS": "true"}, 465),
        ({"SMTP_IMPLICIT_TLS": "true", "SMTP_PORT": "2465"}, 2465),
    ],
)
def test_mail_leaves_by_the_port_that_notification_uses(
    settings: Mapping[str, str], port: int
) -> None:
    given = {"SMTP_HOST": "mail.example.com", **settings}
    values = ",".join(f"services.notification.environment.{key}={given[key]}" for key in given)
    opened = {"ports": [{"protocol": "TCP", "port": port}]}
    assert opened in list(egress(values, NOTIFICATION))
    others = set(WORKLOADS) - {NOTIFICATION}
    assert all(opened not in list(egress(values, workload)) for workload in others)


@pytest.mark.parametrize(
    ("base", "port"),
    [("https://egress.example.com", 443), ("http://egress.example.com:8080", 8080)],
)
def test_another_address_of_stripe_is_opened_to_payment(base: str, port: int) -> None:
    opened = {"ports": [{"protocol": "TCP", "port": port}]}
    assert opened in list(egress(f"stripe.apiBase={base}", PAYMENT))


@pytest.mark.parametrize(
    ("variable", "value", "workload", "port"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.example.com:4318", "user-service", 4318),
        ("STRIPE_API_BASE", "http://egress.example.com:8080", PAYMENT, 8080),
        ("DATABASE_URL", "mongodb://db.example.com:5000/", "user-service", 5000),
    ],
)
def test_what_a_services_environment_names_is_opened_to_it_alone(
    variable: str, value: str, workload: str, port: int
) -> None:
    """It stands in the place of what the chart says to all."""
    (name,) = (name for name, service in TOPOLOGY.services.items() if service.workload == workload)
    values = f"services.{name}.environment.{variable}={value}"
    opened = {"ports": [{"protocol": "TCP", "port": port}]}
    for each in WORKLOADS:
        assert (opened in list(egress(values, each))) == (each == workload), each


@pytest.mark.parametrize(
    "cidrs", ["169.254.20.10/32", r"169.254.20.10/32\,fd00::a/128"], ids=["IPv4", "both"]
)
def test_names_are_asked_for_at_addresses_too(cidrs: str) -> None:
    values = "networkPolicies.dnsAddresses={" + cidrs.replace("\\", "") + "}"
    (rule,) = egress(values, "dns")
    blocks = [each["ipBlock"]["cidr"] for each in rule["to"] if "ipBlock" in each]
    assert ",".join(blocks) == cidrs.replace("\\", "")
    assert {(each["protocol"], each["port"]) for each in rule["ports"]} == {
        ("UDP", 53),
        ("TCP", 53),
    }


def test_no_list_that_is_empty_lets_everybody_in() -> None:
    """An empty `from` would."""
    values = "mesh=istio,ingress.controllerNamespaces=null,observability.namespaces=null"
    for each in policies("--set", values):
        for rule in each["spec"].get("ingress", ()):
            assert rule.get("from") or each["metadata"]["name"] == FRONTEND.workload, each


class Stage:
    """Pods in the place of the shop's, and of others, that connect to each other."""

    def __init__(self) -> None:
        self._addresses = {
            pod: Namespace(namespace(pod)).object("pod", pod)["status"]["podIP"]
            for pod in (*SHOP, *OTHERS)
        }
        self._script = (HERE / "connector.py").read_text(encoding="utf-8")

    def address(self, pod: str) -> str:
        """Its IP address."""
        return self._addresses[pod]

    def apply(self, wanted: Sequence[Object]) -> None:
        """Puts these policies in the place of those before."""
        for name in {HOME, NAMESPACES[SANDBOX]}:
            Namespace(name).kubectl("delete", "networkpolicies", "--all")
        manifests = {"apiVersion": "v1", "kind": "List", "items": wanted}
        run("kubectl", "apply", "-f", "-", given=json.dumps(manifests))

    def passing(self) -> set[PodConnection]:
        """All connections that pass now."""
        with ThreadPoolExecutor(4) as threads:
            return set[PodConnection]().union(*threads.map(self.passing_from, (*SHOP, *OTHERS)))

    def passing_from(self, source: str) -> set[PodConnection]:
        """Those of one pod."""
        tried = [each for each in imaginable() if each.source == source]
        answers = Namespace(namespace(source)).kubectl(
            *("exec", "-i", source, "--", "python", "-c", self._script),
            given=json.dumps([(self._addresses[each.target], each.port) for each in tried]),
        )
        passed: list[bool] = json.loads(answers)
        return {each for each, has_passed in zip(tried, passed, strict=True) if has_passed}


@pytest.fixture(scope="module")
def stage() -> Generator[Stage]:
    names = sorted({HOME, *NAMESPACES.values()})
    run("kubectl", "delete", "namespace", *names, "--ignore-not-found", "--wait")
    script = (HERE / "listener.py").read_text(encoding="utf-8")
    listener = {
        "name": "listener",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", script, *map(str, PORTS)],
        "readinessProbe": {"tcpSocket": {"port": PORTS[-1]}, "periodSeconds": 1},
    }
    manifests = [
        *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names),
        *(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": pod, "namespace": namespace(pod), "labels": labels(pod)},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [listener]},
            }
            for pod in (*SHOP, *OTHERS)
        ),
    ]
    listed = {"apiVersion": "v1", "kind": "List", "items": manifests}
    try:
        run("kubectl", "apply", "-f", "-", given=json.dumps(listed))
        for name in names:
            ready = ("pods", "--all", "--for=condition=Ready", "--timeout=180s")
            Namespace(name).kubectl("wait", *ready)
        yield Stage()
    finally:
        run("kubectl", "delete", "namespace", *names, "--wait")


@pytest.fixture(scope="module")
def enforcing(stage: Stage) -> Stage:
    """Where the network does as NetworkPolicies say."""
    stage.apply(policies(*VALUES))
    forbidden = PodConnection(OUTSIDER, MONGODB, 27017)
    try:
        wait_until(
            lambda: forbidden not in stage.passing_from(OUTSIDER),
            "a forbidden connection is refused",
            _SETTLE_SECONDS,
        )
    except AssertionError:
        pytest.skip("this cluster's network does not enforce NetworkPolicies")
    return stage


@pytest.mark.parametrize("name", ["default", "istio", "linkerd", "settings"])
def test_by_traffic_they_mean_the_topology(enforcing: Stage, name: str) -> None:
    case = CASES_OF_POLICIES[name]
    enforcing.apply(policies(*VALUES, "--set", case.values))
    _passing_becomes(enforcing, case)


def test_by_traffic_an_address_may_bring_people_in(enforcing: Stage) -> None:
    """As a controller on a node's network does, or a load balancer that goes to pods."""
    case = CASES_OF_POLICIES["ingress"]
    values = f"{case.values},ingress.controllerAddresses={{{enforcing.address(OUTSIDER)}/32}}"
    enforcing.apply(policies(*VALUES, "--set", values))
    _passing_becomes(enforcing, PolicyCase(values, case.allowed | set(from_controllers(OUTSIDER))))


def _passing_becomes(stage: Stage, case: PolicyCase) -> None:
    found: Set[PodConnection] = set()

    def is_as_allowed() -> bool:
        nonlocal found
        found = stage.passing()
        return found == case.allowed

    try:
        wait_until(is_as_allowed, "the network knows of the change", _SETTLE_SECONDS)
    except AssertionError:
        pytest.fail(difference(found, case))
