"""The base comes back from any state: what a lab has made, and what a student has mistyped."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator

import pytest

from labs.errors import LabError
from labs.lab import LABS
from labs.restoring import merged, restore
from labs.seat import CLASS_LABEL
from tests.unit.labs.fake import FakeLabCluster, Key, Object
from tools.mesh import render
from tools.mesh.render import Shop, rendered

pytestmark = pytest.mark.needs_programs("kubectl")
SHOP = Shop()
DESTINATION: Key = ("DestinationRule", "ecommerce", "payment-service")


@pytest.fixture(scope="module", autouse=True)
def rendered_once() -> Generator[None]:
    """The base is the same in all tests, and takes a second."""
    made = {folder: rendered(SHOP, folder) for folder in ("base", "gateway-api")}

    def copied(shop: Shop, folder: str) -> list[Object]:
        assert shop == SHOP
        return copy.deepcopy(made[folder])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "rendered", copied)
        yield


@pytest.fixture
async def cluster() -> FakeLabCluster:
    """A shop in Istio, in the state of the base."""
    cluster = FakeLabCluster(values={"mesh": "istio", "image": {"tag": "0.1.0"}})
    await restore(cluster, SHOP, {})
    pod_labels = {
        "app.kubernetes.io/name": "payment-service",
        "version": "v1",
        "pod-template-hash": "abc",
        "security.istio.io/tlsMode": "istio",
    }
    cluster.add(
        "Pod",
        "payment-service-abc",
        labels=pod_labels,
        metadata={"ownerReferences": [{"kind": "ReplicaSet"}]},
    )
    cluster.add("ConfigMap", "of-somebody-else")
    cluster.add("Deployment", "of-somebody-else", spec={"template": {"metadata": {"labels": {}}}})
    cluster.add("Service", "owned", metadata={"ownerReferences": [{"kind": "Gateway"}]})
    cluster.said.clear()
    return cluster


def _adds_a_route_of_another_name(cluster: FakeLabCluster) -> None:
    cluster.add("VirtualService", "prodct-service", spec={"hosts": ["product-service"]})


def _edits_a_rule(cluster: FakeLabCluster) -> None:
    cluster.objects[DESTINATION]["spec"]["subsets"] = [{"name": "v2"}]


def _deletes_policies(cluster: FakeLabCluster) -> None:
    for key in [key for key in cluster.objects if key[0] == "AuthorizationPolicy"]:
        del cluster.objects[key]


def _opens_the_network(cluster: FakeLabCluster) -> None:
    cluster.add("NetworkPolicy", "open", spec={"ingress": [{}]})


def _leaves_a_scenarios_filter_at_the_gateway(cluster: FakeLabCluster) -> None:
    labels = {"meshmart/scenario": "11", "meshmart/shop": "ecommerce"}
    cluster.add("EnvoyFilter", "limit", namespace="istio-system", labels=labels)


def _opens_a_second_way_in(cluster: FakeLabCluster) -> None:
    cluster.add("Gateway", "ecommerce-gateway", namespace="shop-ingress")
    cluster.add("ReferenceGrant", "ecommerce-tls-secret", namespace="istio-system")
    cluster.add("HTTPRoute", "shop")
    labels = {"meshmart/lab": "15", "meshmart/shop": "ecommerce"}
    cluster.add("Secret", "ecommerce-old-tls-secret", namespace="shop-ingress", labels=labels)


def _stands_in_for_payment(cluster: FakeLabCluster) -> None:
    labels = {"app.kubernetes.io/name": "payment-service"}
    cluster.add("Deployment", "faulty", spec={"template": {"metadata": {"labels": labels}}})
    cluster.add("Service", "payment-service-canery", spec={"selector": labels})
    cluster.add("Pod", "debug", labels={"meshmart/lab": "03"})


def _scales_and_annotates(cluster: FakeLabCluster) -> None:
    cluster.objects["Deployment", "ecommerce", "frontend"]["spec"]["replicas"] = 0
    service = cluster.objects["Service", "ecommerce", "payment-service"]
    service["metadata"]["annotations"]["balancer.linkerd.io/failure-accrual"] = "consecutive"


def _reads_along(cluster: FakeLabCluster) -> None:
    """As lab 02 does: one more container, and an annotation."""
    template = cluster.objects["Deployment", "ecommerce", "frontend"]["spec"]["template"]
    template["spec"] = {"containers": [{"name": "wire"}]}
    template["metadata"]["annotations"] = {"config.linkerd.io/skip-inbound-ports": "3000"}


def _labels_a_pod(cluster: FakeLabCluster) -> None:
    pod = cluster.objects["Pod", "ecommerce", "payment-service-abc"]
    pod["metadata"]["labels"]["sick"] = "true"


def _changes_values(cluster: FakeLabCluster) -> None:
    cluster.values = {"mesh": "istio", "services": {"payment": {"replicas": 3}}}


def _deletes_a_deployment(cluster: FakeLabCluster) -> None:
    del cluster.objects["Deployment", "ecommerce", "payment-service"]


@pytest.mark.parametrize(
    "spoil",
    [
        _adds_a_route_of_another_name,
        _edits_a_rule,
        _deletes_policies,
        _opens_the_network,
        _leaves_a_scenarios_filter_at_the_gateway,
        _opens_a_second_way_in,
        _stands_in_for_payment,
        _scales_and_annotates,
        _reads_along,
        _labels_a_pod,
        _changes_values,
        _deletes_a_deployment,
    ],
)
async def test_whatever_was_done_is_taken_back(
    cluster: FakeLabCluster, spoil: Callable[[FakeLabCluster], None]
) -> None:
    before, values = _state(cluster), cluster.values
    spoil(cluster)
    assert (_state(cluster), cluster.values) != (before, values)

    await restore(cluster, SHOP, {})

    assert _state(cluster) == before
    assert cluster.values == values


async def test_all_of_the_base_is_there_and_waited_for(cluster: FakeLabCluster) -> None:
    await restore(cluster, SHOP, {})

    base = {(each["kind"], each["metadata"]["name"]) for each in rendered(SHOP, "base")}
    assert base <= {(kind, name) for kind, _, name in cluster.objects}
    waited = [line for line in cluster.said if "rollout status" in line]
    assert len(waited) == 2, waited


async def test_a_labs_values_come_on_top_of_those_of_the_base(cluster: FakeLabCluster) -> None:
    more = {"services": {"payment": {"replicas": 2}}, "image": {"tag": "other"}}
    await restore(cluster, SHOP, more)
    assert cluster.values == {"mesh": "istio", **more}

    await restore(cluster, SHOP, {})
    assert cluster.values == {"mesh": "istio", "image": {"tag": "0.1.0"}}


async def test_who_has_no_rights_at_the_gateway_leaves_it_alone(cluster: FakeLabCluster) -> None:
    gateways = {key for key in cluster.objects if key[0] == "Gateway" or key[1] != "ecommerce"}
    assert gateways == {
        ("Gateway", "ecommerce", "ecommerce-gateway"),
        ("EnvoyFilter", "istio-system", "ecommerce-edge-headers"),
    }
    cluster.rules_the_gateway = False
    for key in gateways:
        cluster.objects[key]["spec"] = {"left": "alone"}
    cluster.add("VirtualService", "mistyped", spec={"hosts": ["product-service"]})

    await restore(cluster, SHOP, {})

    assert all(cluster.objects[key]["spec"] == {"left": "alone"} for key in gateways)
    assert ("VirtualService", "ecommerce", "mistyped") not in cluster.objects
    assert not [line for line in cluster.said if "-n istio-system" in line]


async def test_what_is_the_classes_stays(cluster: FakeLabCluster) -> None:
    cluster.add("NetworkPolicy", "class", labels={CLASS_LABEL: "istio"}, spec={"ingress": []})

    await restore(cluster, SHOP, {})

    assert ("NetworkPolicy", "ecommerce", "class") in cluster.objects


def test_values_are_merged_as_helm_merges_them() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "d": [2]}) == {
        "a": {"b": 3, "c": 2},
        "d": [2],
    }


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (None, "No shop is installed in the namespace ecommerce: make up MESH=istio"),
        ({}, r"The shop in ecommerce is not in Istio \(its chart has mesh=none\)"),
        ({"mesh": "linkerd"}, r"is not in Istio \(its chart has mesh=linkerd\)"),
    ],
)
async def test_a_cluster_without_such_a_shop_is_left_alone(
    values: Object | None, told: str
) -> None:
    cluster = FakeLabCluster(values=values)

    with pytest.raises(LabError, match=told):
        await restore(cluster, SHOP, {})

    assert not cluster.objects


def _state(cluster: FakeLabCluster) -> dict[Key, Object]:
    return copy.deepcopy(cluster.objects)


def test_a_folder_of_a_lab_moves_with_its_shop() -> None:
    shop = Shop(namespace="student-07", host="student-07.example.com")
    made = render.placed(shop, LABS / "03-who-may-call-whom/start/istio")

    text = render.text_of(made)
    assert "ecommerce" not in text
    assert "cluster.local/ns/student-07/sa/order-service" in text
