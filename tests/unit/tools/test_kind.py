"""`make up`, with programs in the tools' places that answer as the real ones do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.testkit.programs import Machine, Rules
from tools.needs import ISTIO_VERSION, KIND_VERSION, LINKERD_VERSION, NODE_IMAGE

ROOT = Path(__file__).parents[3]

_EXISTS: Rules = ((("kind get clusters",), (0, "other\nmeshmart")),)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("mesh", ["none", "istio", "linkerd"])
def test_it_makes_a_cluster_with_the_shop(machine: Machine, mesh: str) -> None:
    run = machine.up("--mesh", mesh)
    assert run.status == 0, run.said
    (create,) = run.called("kind create cluster --name meshmart", NODE_IMAGE)
    install, *_ = run.called("upgrade --install shop helm", f"mesh={mesh}")
    assert create < install
    assert not run.called("kind delete")


@pytest.mark.parametrize(
    ("mesh", "folder"), [("none", "plain"), ("istio", "istio"), ("linkerd", "linkerd")]
)
def test_it_brings_what_observes_the_shop(machine: Machine, mesh: str, folder: str) -> None:
    run = machine.up("--mesh", mesh, "--observability")
    assert run.status == 0, run.said
    (applied,) = run.called("kubectl", f"apply -k observability/{folder}")
    assert (ROOT / "observability" / folder / "kustomization.yaml").exists()
    installs = run.called("upgrade --install shop helm")
    # Where the shop sends its spans is there before the shop is.
    assert applied < installs[0]
    sent = run.called("observability.otlpEndpoint=http://jaeger.observability:4317")
    assert sent == installs
    asked = run.called("observability.prometheusUrl=http://prometheus.observability:9090")
    assert asked == installs
    assert run.called("observability.jaegerUrl=http://127.0.0.1:16686") == installs
    assert run.called("-n observability wait deployments")
    assert "docs/observability.md" in run.said


def test_without_being_asked_it_brings_none(machine: Machine) -> None:
    run = machine.up()
    assert not run.called("observability")


def test_a_missing_tool_is_named(machine: Machine) -> None:
    machine.lose("helm")
    run = machine.up()
    assert run.status != 0
    assert "helm is missing. How to install it: https://" in run.said
    assert not run.calls


@pytest.mark.parametrize(
    ("mesh", "command", "found", "is_taken"),
    [
        ("istio", "istioctl version", "client version: 1.31.4", True),
        ("istio", "istioctl version", "1.31.12", True),
        ("istio", "istioctl version", "client version: 1.30.0", False),
        ("istio", "istioctl version", "client version: 1.310.0", False),
        ("istio", "istioctl version", "client version: 11.31.0", False),
        ("linkerd", "linkerd version", "edge-26.6.5", True),
        ("linkerd", "linkerd version", "edge-26.7.1", False),
        ("linkerd", "linkerd version", "stable-2.14.10", False),
    ],
)
def test_another_last_number_of_a_version_is_fine(
    machine: Machine, mesh: str, command: str, found: str, *, is_taken: bool
) -> None:
    run = machine.up("--mesh", mesh, rules=[((command,), (0, found))])
    assert (run.status == 0) is is_taken, run.said
    assert is_taken or f"is {found}; the shop is tried with" in run.said


def test_a_whole_cluster_is_taken_up(machine: Machine) -> None:
    run = machine.up(rules=_EXISTS)
    assert run.status == 0, run.said
    assert run.called("docker start meshmart-control-plane")
    assert run.called("kind export kubeconfig --name meshmart")
    assert not run.called("kind create")
    assert not run.called("kind delete")


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param((("kind export kubeconfig",), (1, "")), id="without an API server"),
        pytest.param((("wait nodes",), (1, "")), id="without a network"),
    ],
)
def test_a_cluster_whose_making_was_interrupted_is_made_again(
    machine: Machine, rule: tuple[Sequence[str], tuple[int, str]]
) -> None:
    run = machine.up(rules=[*_EXISTS, rule])
    assert run.status == 0, run.said
    (delete,) = run.called("kind delete cluster --name meshmart")
    (create,) = run.called("kind create cluster --name meshmart")
    assert delete < create


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param((("get namespace ecommerce",), (0, "namespace/ecommerce")), id="with a shop"),
        pytest.param((("kubectl", "version"), (1, "")), id="that does not answer"),
    ],
)
def test_a_sick_cluster_is_not_deleted(
    machine: Machine, rule: tuple[Sequence[str], tuple[int, str]]
) -> None:
    run = machine.up(rules=[*_EXISTS, (("wait nodes",), (1, "")), rule])
    assert run.status != 0
    assert "`make down KIND_CLUSTER=meshmart` removes it" in run.said
    assert not run.called("kind delete")
    assert not run.called("kind create")


@pytest.mark.parametrize(("mesh", "release"), [("none", "shop"), ("linkerd", "traefik")])
def test_an_interrupted_installation_does_not_forbid_the_next(
    machine: Machine, mesh: str, release: str
) -> None:
    run = machine.up("--mesh", mesh)
    (forget,) = run.called("delete secrets --selector", f"name={release},", "pending-install")
    install, *_ = run.called(f"upgrade --install {release} ")
    assert forget < install


def test_an_installed_linkerd_is_upgraded(machine: Machine) -> None:
    there = (("get --ignore-not-found", "secret/linkerd-config-overrides"), (0, "secret/…"))
    run = machine.up("--mesh", "linkerd", rules=[there])
    assert run.status == 0, run.said
    assert len(run.called("linkerd --context kind-meshmart upgrade")) == 2
    assert not run.called("linkerd --context kind-meshmart install")
    assert not run.called("delete", "configmap/linkerd-config")


def test_half_a_linkerd_is_installed_again(machine: Machine) -> None:
    run = machine.up("--mesh", "linkerd")
    (forget,) = run.called("delete", "configmap/linkerd-config")
    installs = run.called("linkerd --context kind-meshmart install")
    assert len(installs) == 2
    assert forget < installs[0]


@pytest.mark.parametrize("mesh", ["none", "istio", "linkerd"])
def test_its_namespace_admits_pods_with_proxies(machine: Machine, mesh: str) -> None:
    run = machine.up("--mesh", mesh)
    (namespace,) = (
        json.loads(text) for text in run.given.values() if '"kind": "Namespace"' in text
    )
    labels = namespace["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"
    assert labels["pod-security.kubernetes.io/warn"] == "restricted"
    assert labels.get("istio-injection") == ("enabled" if mesh == "istio" else None)


def test_the_first_failure_ends_it(machine: Machine) -> None:
    run = machine.up(rules=[(("docker build",), (7, ""))])
    assert run.status == 7
    assert run.calls[-1].startswith("docker build")


def test_continuous_integration_installs_these_versions() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text(encoding="utf-8"))
    settings = workflow["jobs"]["cluster"]["env"]
    # The installers of Istio and of Linkerd read these names.
    assert settings["ISTIO_VERSION"] == ISTIO_VERSION
    assert settings["LINKERD2_VERSION"] == LINKERD_VERSION
    assert settings["KIND_VERSION"] == KIND_VERSION
