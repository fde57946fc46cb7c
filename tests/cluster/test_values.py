"""The chart refuses values that would not work, before anything is installed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from services.common.topology import load_topology
from tests.cluster.test_goldens import CASES, HERE
from tests.cluster.test_hygiene import pods
from tests.testkit.cluster import CHART, CommandFailed, Object, render, run, run_chart

WRONG = [
    "image.tag=latest",
    "image.pulPolicy=Always",
    "image.pullPolicy=Sometimes",
    "image.digest=sha256:short",
    "imageRegistry=https://mirror.example.com",
    "imagePullSecrets=mirror",
    "imagePullSecrets={mirror,mirror}",
    "pod.priority=high",
    "pod.labels.team=two words",
    "pod.tolerations[0].effect=NoRun",
    "services.order.pod.nodeName=worker",
    "services.order.service.type=NodePort",
    "services.order.resources.requests.disk=1Gi",
    "defaults.replicas=-1",
    "defaults.autoscaling.targetCpuPercent=70",
    "defaults.replicas=two",
    "defaults.resources.requests.memory=lots",
    "services.product.variants.v2=many",
    "services.order.environment.log-level=debug",
    "frontend.service.type=Ingress",
    "frontend.service.nodePort=99999",
    "frontend.service.externalTrafficPolicy=local",
    "frontend.servesApi=perhaps",
    "proxiesInFront=-1",
    "proxiesInFront=some",
    "gateway.address=traefik:443",
    "gateway.host=https://shop.example.com",
    "ingress.kind=nginx",
    "ingress.annotations.a=1",
    "mongodb.image=mongo:latest",
    "mongodb.storage.size=big",
    "stripe.apiBase=api.stripe.com",
    "ingress.controllerNamespaces={Ingress}",
    "ingress.controllerAddresses={10.0.0.1}",
    "networkPolicies.dnsAddresses={dns}",
    "observability.namespaces={of all}",
    "observability.otlpEndpoint=jaeger",
    "observability.prometheusUrl=prometheus:9090",
    "observability.prometheusSelector=namespace=ecommerce",
    "observability.jaegerUrl=jaeger:16686",
    "mesh=consul",
    "nonsense=1",
]


@pytest.mark.parametrize("value", WRONG)
def test_a_wrong_value_is_refused_by_its_name(value: str) -> None:
    with pytest.raises(CommandFailed, match="values don't meet the specifications") as refused:
        render("--set", value)
    name = re.split(r"[.\[\]]+", value.partition("=")[0])
    assert any(part in str(refused.value) for part in name)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("frontend.secret=short", "frontend.secret needs at least 32 characters"),
        ("mongodb.password=p@ssword-with-signs", "mongodb.password needs at least 16 letters"),
        ("mongodb.password=tooshort", "mongodb.password needs at least 16 letters"),
        ("mongodb.uri=postgres://me:password@db", "mongodb.uri needs to begin with mongodb://"),
        ("stripe.apiKey=sk_live_of_mine", "stripe.apiKey takes Stripe's test keys only"),
        ("stripe.apiKey=sk_test_", "stripe.apiKey takes Stripe's test keys only"),
    ],
)
def test_a_refused_secret_is_not_printed(value: str, sentence: str) -> None:
    name, _, secret = value.partition("=")
    with pytest.raises(CommandFailed) as refused:
        render("--set", value)
    said = str(refused.value).replace(f"--set {value}", f"--set {name}")  # the command itself
    assert sentence in said
    assert secret == "sk_test_" or secret not in said


@pytest.mark.parametrize("value", ["services.checkout.replicas=2", "debug=checkout"])
def test_a_service_that_the_topology_does_not_declare_is_refused(value: str) -> None:
    declared = ", ".join(sorted(load_topology().services))
    sentence = f"topology.yaml declares no service checkout; it declares {declared}"
    with pytest.raises(CommandFailed, match=sentence):
        render("--set", value)


def test_a_variant_that_the_topology_does_not_know_is_refused() -> None:
    with pytest.raises(CommandFailed, match="product has no variant v3; it has v1, v2"):
        render("--set", "services.product.variants.v3=1")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            "mongodb.uri=mongodb://db/,mongodb.uriSecret=mine",
            "mongodb.uri and mongodb.uriSecret: only one of them can be set",
        ),
        (
            "mongodb.uri=mongodb://db/,mongodb.existingSecret=mine",
            "mongodb.uri and mongodb.existingSecret: only one",
        ),
        (
            "mongodb.uriSecret=mine,mongodb.password=0123456789abcdef",
            "mongodb.uriSecret and mongodb.password: only one",
        ),
        (
            "mongodb.existingSecret=mine,mongodb.password=0123456789abcdef",
            "mongodb.password and mongodb.existingSecret: only one",
        ),
        (
            f"frontend.existingSecret=mine,frontend.secret={'s' * 32}",
            "frontend.secret and frontend.existingSecret: only one",
        ),
        (
            "stripe.existingSecret=mine,stripe.apiKey=sk_test_mine",
            "stripe.apiKey and stripe.existingSecret: only one",
        ),
        (
            "ingress.kind=gateway,ingress.tlsSecretName=mine",
            "ingress.tlsSecretName is for ingress.kind=ingress",
        ),
        ("ingress.tlsSecretName=mine", "ingress.tlsSecretName is for ingress.kind=ingress"),
        (
            "defaults.autoscaling.enabled=true,services.order.replicas=0",
            "services.order: autoscaling cannot begin at 0 replicas",
        ),
        ("frontend.service.nodePort=30080", "frontend.service.nodePort needs"),
        ("services.product.variants.v1=2", "services.product.variants: v1 is the first"),
        (
            "stripe.sandbox.shared=true,stripe.sandbox.namespace=",
            "stripe.sandbox.shared needs the other release's stripe.sandbox.namespace",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused_by_a_sentence(
    values: str, sentence: str
) -> None:
    with pytest.raises(CommandFailed, match=re.escape(sentence)):
        render("--set", values)


def deployments(*arguments: str) -> Mapping[str, Object]:
    """The rendered Deployments, by name."""
    return {
        each["metadata"]["name"]: each
        for each in render(*arguments)
        if each["kind"] == "Deployment"
    }


def environment(deployment: Object) -> list[Mapping[str, Any]]:
    """What its container is told."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return container["env"]


def variables_of_the_chart() -> Iterator[tuple[str, str, str]]:
    """Each that it sets by itself: by case, service and name."""
    workloads = {each.workload: name for name, each in load_topology().services.items()}
    for case in CASES:
        made = deployments("--values", str(HERE / "values" / f"{case}.yaml"))
        for name, deployment in made.items():
            if name in workloads:
                for variable in environment(deployment):
                    yield case, workloads[name], variable["name"]


def test_a_variable_that_the_chart_sets_is_replaced_and_not_doubled() -> None:
    """Helm 3 loses one that is there twice, at the next upgrade."""
    every = list(variables_of_the_chart())
    assert {"DATABASE_URL", "STRIPE_API_BASE", "SERVE_API", "VERSION"} <= {
        each[2] for each in every
    }
    for case in CASES:
        own = [(service, variable) for of, service, variable in every if of == case]
        values = ",".join(
            f"services.{service}.environment.{variable}=mine" for service, variable in own
        )
        made = deployments(
            *("--values", str(HERE / "values" / f"{case}.yaml")),
            *("--set", values, "--set", "defaults.environment.LOG_LEVEL=debug"),
        )
        workloads = {name: each.workload for name, each in load_topology().services.items()}
        for service, variable in own:
            told = environment(made[workloads[service]])
            assert [each for each in told if each["name"] == variable] == [
                {"name": variable, "value": "mine"}
            ]
        for deployment in made.values():
            names = [each["name"] for each in environment(deployment)]
            assert len(names) == len(set(names)), deployment["metadata"]["name"]


def test_a_number_in_the_environment_is_written_as_it_was(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(
        "defaults: {environment: {MAX_BODY_BYTES: 1048576, SMTP_STARTTLS: false}}\n", "utf-8"
    )
    told = environment(deployments("--values", str(values))["order-service"])
    assert {"name": "MAX_BODY_BYTES", "value": "1048576"} in told
    assert {"name": "SMTP_STARTTLS", "value": "false"} in told


def test_no_replicas_are_none() -> None:
    made = deployments("--set", "services.order.replicas=0,services.product.variants.v2=0")
    assert made["order-service"]["spec"]["replicas"] == 0
    assert made["auth-service"]["spec"]["replicas"] == 1
    assert "product-service-v2" not in made


def test_autoscaling_goes_by_what_the_service_itself_uses() -> None:
    made = render("--set", "services.order.autoscaling.enabled=true,mesh=istio")
    (scaler,) = (each for each in made if each["kind"] == "HorizontalPodAutoscaler")
    (metric,) = scaler["spec"]["metrics"]
    assert metric["containerResource"]["container"] == "order"
    assert metric["containerResource"]["target"] == {"type": "AverageValue", "averageValue": "350m"}


@pytest.mark.parametrize(
    ("values", "secure"),
    [
        ("ingress.kind=ingress", "false"),
        ("ingress.kind=ingress,ingress.tlsSecretName=shop-tls", "true"),
        ("frontend.secureCookies=true", "true"),
    ],
)
def test_cookies_are_secure_where_the_ingress_has_a_certificate(values: str, secure: str) -> None:
    told = environment(deployments("--set", values)["frontend"])
    assert {"name": "SECURE_COOKIES", "value": secure} in told


_CHOSEN = "own-namespace"


def test_every_image_comes_from_the_registry_that_is_chosen() -> None:
    for manifest, pod in pods(_CHOSEN):
        assert pod["imagePullSecrets"] == [{"name": "mirror"}], manifest["metadata"]["name"]
        for container in pod["containers"]:
            name, _, version = (
                container["image"]
                .removeprefix("mirror.example.com/shop/")
                .partition(":" if container["name"] == "mongodb" else "@")
            )
            assert name == ("mongo" if container["name"] == "mongodb" else "meshmart")
            assert version.startswith("8" if name == "mongo" else "sha256:")


def test_every_pod_runs_where_it_is_told_to() -> None:
    placed = {manifest["metadata"]["name"]: pod for manifest, pod in pods(_CHOSEN)}
    assert {"mongodb", "stripe-sandbox", "purchase-test", "order-service"} < placed.keys()
    for name, pod in placed.items():
        # Of the default one, too: a pod for Linux is not for a node of another kind.
        expected = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64"}
        if name == "mongodb":
            expected["example.com/disk"] = "ssd"
        assert pod["nodeSelector"] == expected, name
        assert pod["priorityClassName"] == "shop", name
        assert [each["key"] for each in pod["tolerations"]] == ["kubernetes.io/arch"], name
        assert ("affinity" in pod) == (name == "frontend"), name


def test_pods_and_services_bear_what_they_are_given_besides_their_own() -> None:
    made = render("--values", str(HERE / "values" / f"{_CHOSEN}.yaml"))
    for each in made:
        template = each if each["kind"] == "Pod" else each.get("spec", {}).get("template")
        if template is not None:
            name = template["metadata"]["labels"]["app.kubernetes.io/name"]
            assert each["metadata"]["name"].startswith(name)
            assert template["metadata"]["labels"]["team"] == "shop"
            assert template["metadata"]["annotations"]["example.com/owner"] == "shop"
    of = {(each["kind"], each["metadata"]["name"]): each["metadata"] for each in made}
    assert of["Service", "order-service"]["labels"]["team"] == "shop"
    assert "annotations" not in of["Service", "order-service"]
    annotations = of["Service", "frontend"]["annotations"]
    assert annotations == {"example.com/load-balancer": "internal"}
    assert of["Ingress", "shop"]["annotations"] == {"example.com/body-size": "1m"}


def test_a_label_that_selectors_go_by_stays() -> None:
    made = deployments("--set", r"pod.labels.app\.kubernetes\.io/name=mine,pod.labels.version=mine")
    labels = made["order-service"]["spec"]["template"]["metadata"]["labels"]
    assert (labels["app.kubernetes.io/name"], labels["version"]) == ("order-service", "v1")


def test_without_a_namespace_for_the_sandbox_all_is_in_the_release_s() -> None:
    made = render("--set", "stripe.sandbox.namespace=")
    assert "Namespace" not in {each["kind"] for each in made}
    assert {each["metadata"].get("namespace", "ecommerce") for each in made} == {"ecommerce"}
    told = environment(deployments("--set", "stripe.sandbox.namespace=")["payment-service"])
    base = "http://stripe-sandbox.ecommerce:12111"
    assert {"name": "STRIPE_API_BASE", "value": base} in told


def test_a_shared_sandbox_is_not_made_again() -> None:
    made = render("--set", "stripe.sandbox.shared=true,stripe.sandbox.namespace=pay")
    assert "stripe-sandbox" not in {each["metadata"]["name"] for each in made}
    assert {each["metadata"].get("namespace", "ecommerce") for each in made} == {"ecommerce"}


@pytest.mark.parametrize("kind", ["ingress", "gateway"])
def test_what_is_for_operators_is_routed_to_no_service(kind: str) -> None:
    """The frontend, to which all other paths go, answers it at a port of its own."""
    text = run_chart("--set", f"ingress.kind={kind}")
    paths = re.findall(r"(?:- path: (?=/)|type: PathPrefix, value: )(/[^\s}]*)", text)
    assert len(paths) > 10
    for path in ("/metrics", "/docs", "/docs/start.js", "/openapi.json", "/livez", "/readyz"):
        assert [
            each for each in paths if path.startswith(each.rstrip("/") + "/") or path == each
        ] in (
            [],
            ["/"],
        ), path


@pytest.mark.parametrize(
    ("values", "gateway", "host"),
    [
        ("mesh=istio", "istio-ingressgateway.istio-system:443", "ecommerce.example.com"),
        ("mesh=linkerd", "traefik.shop-ingress:443", "ecommerce.example.com"),
        (
            "mesh=istio,gateway.address=istio-ingress.istio-ingress:443,gateway.host=shop.example",
            "istio-ingress.istio-ingress:443",
            "shop.example",
        ),
        (
            "ingress.kind=ingress,gateway.address=nginx.ingress-nginx:443",
            "nginx.ingress-nginx:443",
            "shop.localhost",
        ),
    ],
)
def test_helms_test_comes_as_people_do_where_only_they_are_let_in(
    values: str, gateway: str, host: str
) -> None:
    made = render("--set", f"frontend.servesApi=false,{values}")
    (pod,) = (each for each in made if each["kind"] == "Pod")
    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    assert pod["metadata"]["annotations"]["linkerd.io/inject"] == "disabled"
    (container,) = pod["spec"]["containers"]
    assert container["command"][-1] == f"https://{host}"
    assert container["env"] == [{"name": "GATEWAY", "value": gateway}]
    (policy,) = (
        each
        for each in made
        if (each["kind"], each["metadata"]["name"]) == ("NetworkPolicy", "purchase-test")
    )
    namespace = gateway.partition(".")[2].partition(":")[0]
    named = {"kubernetes.io/metadata.name": namespace}
    assert policy["spec"]["egress"] == [{"to": [{"namespaceSelector": {"matchLabels": named}}]}]


@pytest.mark.parametrize(
    ("values", "says", "does_not_say"),
    [
        ("mesh=none", "port-forward service/frontend 8080:80", "istio-ingressgateway"),
        (
            "mesh=istio,frontend.servesApi=false",
            "port-forward service/istio-ingressgateway 8443:443",
            "service/frontend",
        ),
        (
            "mesh=istio,frontend.servesApi=false",
            "`helm test shop -n ecommerce` buys something through the gateway",
            "finds nothing",
        ),
        (
            "ingress.kind=ingress,frontend.servesApi=false",
            "`helm test` finds nothing to do: with gateway.address",
            "helm test shop",
        ),
        (
            "mesh=linkerd,frontend.servesApi=false",
            "port-forward service/traefik 8443:443",
            "service/frontend",
        ),
        (
            "ingress.kind=ingress,ingress.tlsSecretName=mine",
            "Open https://shop.localhost",
            "port-forward",
        ),
        (
            "stripe.sandbox.namespace=",
            "the sandbox in the namespace\necommerce",
            "namespace\nstripe",
        ),
        ("stripe.existingSecret=mine", "one of Stripe's test cards", "sandbox"),
        ("mesh=none", "kubectl label namespace ecommerce istio-injection=enabled", "mesh=none"),
    ],
)
def test_the_notes_lead_to_the_shop(values: str, says: str, does_not_say: str) -> None:
    said = run(
        *("helm", "install", "shop", str(CHART), "--namespace", "ecommerce"),
        *("--dry-run=client", "--set", values),
    ).partition("\nNOTES:\n")[2]
    assert says in said
    assert does_not_say not in said


@pytest.mark.parametrize(
    ("values", "frontend", "auth"),
    [
        ("frontend.servesApi=true", "0", "1"),
        ("frontend.servesApi=false", "1", "1"),
        ("ingress.kind=ingress", "1", "1"),
        ("ingress.kind=gateway,proxiesInFront=2", "2", "2"),
        ("ingress.kind=ingress,proxiesInFront=0", "0", "1"),
    ],
)
def test_each_service_knows_how_many_proxies_to_believe(
    values: str, frontend: str, auth: str
) -> None:
    """The frontend is a proxy in front of `auth`."""
    believing = {
        manifest["metadata"]["name"]: variable["value"]
        for manifest in render("--set", values)
        if manifest["kind"] == "Deployment"
        for container in manifest["spec"]["template"]["spec"]["containers"]
        for variable in container.get("env", ())
        if variable["name"] == "PROXIES_IN_FRONT"
    }
    assert believing == {"frontend": frontend, "auth-service": auth}


def test_linkerd_looks_for_no_http_in_mongodbs_bytes() -> None:
    """`linkerd check --proxy` wants it of the Service as of its pods."""
    (service,), (pods,) = (
        [
            manifest
            for manifest in render("--set", "mesh=linkerd")
            if (manifest["kind"], manifest["metadata"]["name"]) == (kind, "mongodb")
        ]
        for kind in ("Service", "StatefulSet")
    )
    for metadata in (service["metadata"], pods["spec"]["template"]["metadata"]):
        assert metadata["annotations"]["config.linkerd.io/opaque-ports"] == "27017"


def test_linkerd_leaves_a_pod_alone_only_where_others_take_its_place() -> None:
    values = "mesh=linkerd,services.payment.replicas=2,services.product.variants.v2=1"
    left_alone = {
        manifest["metadata"]["name"]
        for manifest in render("--set", values)
        if manifest["kind"] == "Service"
        and "balancer.linkerd.io/failure-accrual" in manifest["metadata"].get("annotations", {})
    }
    assert left_alone == {"payment-service"}


@pytest.mark.parametrize(
    ("values", "policy"),
    [
        ("", None),
        ("frontend.service.type=NodePort", "Cluster"),
        (
            "frontend.service.type=LoadBalancer,frontend.service.externalTrafficPolicy=Local",
            "Local",
        ),
    ],
)
def test_clients_addresses_may_be_kept_on_their_way_in(values: str, policy: str | None) -> None:
    (service,) = (
        manifest
        for manifest in render("--set", values)
        if (manifest["kind"], manifest["metadata"]["name"]) == ("Service", "frontend")
    )
    assert service["spec"].get("externalTrafficPolicy") == policy


def test_one_service_is_debugged() -> None:
    services = {
        manifest["metadata"]["name"]: manifest["spec"]["template"]["spec"]["containers"][0]
        for manifest in render("--set", "development=true,debug=order")
        if manifest["kind"] == "Deployment"
    }
    debugged = {
        name
        for name, service in services.items()
        if any(variable["name"] == "DEBUG_PORT" for variable in service["env"])
    }
    unasked = {name for name, service in services.items() if "livenessProbe" not in service}
    assert debugged == unasked == {"order-service"}


def test_only_what_watches_its_code_is_debugged() -> None:
    with pytest.raises(CommandFailed, match="debug is for a shop with development=true"):
        render("--set", "debug=order")
