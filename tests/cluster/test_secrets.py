"""Where the chart's secrets come from, what starts again when they change, and that nothing else
does.
"""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.common.topology import load_topology
from tests.cluster.test_hygiene import WORKLOADS
from tests.testkit.cluster import CHART, ROOT, CommandFailed, Object, render, run, run_chart

TOPOLOGY = load_topology()
DATABASE_USERS = {service.workload for service in TOPOLOGY.services.values() if service.database}
GIVEN = (
    "frontend.secret=0123456789abcdef0123456789abcdef,mongodb.password=0123456789abcdef",
    "frontend.existingSecret=mine,mongodb.existingSecret=mine",
    "frontend.existingSecret=mine,mongodb.existingSecret=mine,stripe.existingSecret=mine",
    "frontend.existingSecret=mine,mongodb.uriSecret=mine,stripe.existingSecret=mine",
    "frontend.existingSecret=mine,mongodb.uri=mongodb://shop:secret@db/,stripe.apiKey=sk_test_mine",
    "mesh=linkerd,frontend.existingSecret=mine,mongodb.existingSecret=mine",
    "mesh=istio,frontend.existingSecret=mine,mongodb.existingSecret=mine,"
    "stripe.sandbox.tlsSecret=mine",
)


@pytest.mark.parametrize("values", GIVEN)
def test_with_secrets_that_are_given_or_named_two_renders_are_equal(values: str) -> None:
    assert run_chart("--set", values) == run_chart("--set", values)


@pytest.mark.parametrize("mesh", ["none", "istio"])
def test_a_secret_that_another_render_draws_again_says_so(mesh: str) -> None:
    renders = (run_chart("--set", f"mesh={mesh}"), run_chart("--set", f"mesh={mesh}"))
    secrets = [
        [document for document in text.split("\n---\n") if "\nkind: Secret\n" in document]
        for text in renders
    ]
    drawn = [once for once, again in zip(*secrets, strict=True) if once != again]
    assert len(drawn) == len(DATABASE_USERS) + len(("mongodb", "frontend")) + (mesh == "istio")
    assert [each for each in secrets[0] if "# Drawn by lot" in each] == drawn


def test_a_named_secret_is_read_by_the_keys_that_values_yaml_names() -> None:
    made = render("--set", "frontend.existingSecret=mine,mongodb.existingSecret=mine")
    read = {
        reference["key"]
        for pod in pods(made).values()
        for container in pod["spec"]["containers"]
        for variable in container.get("env", ())
        if (reference := variable.get("valueFrom", {}).get("secretKeyRef", {})).get("name")
        == "mine"
    }
    users = {name for name, service in TOPOLOGY.services.items() if service.database}
    assert read == {"secret", "root", *users}
    secrets = {each["metadata"]["name"] for each in made if each["kind"] == "Secret"}
    assert secrets == {"stripe"}


def test_the_command_of_the_documentation_makes_a_password_for_every_user() -> None:
    text = (ROOT / "docs/chart.md").read_text(encoding="utf-8")
    (users,) = re.findall(r"for user in ([a-z ]+); do", text)
    expected = {name for name, service in TOPOLOGY.services.items() if service.database}
    assert set(users.split()) == {"root", *expected}


def test_a_service_learns_nothing_of_the_password_that_its_own_follows_from() -> None:
    password = "0123456789abcdef"
    secrets = {
        each["metadata"]["name"]: each["stringData"]
        for each in render("--set", f"mongodb.password={password}")
        if each["kind"] == "Secret"
    }
    assert secrets["mongodb"]["password"] == password
    own = {secrets[f"{workload}-database"]["password"] for workload in DATABASE_USERS}
    assert len(own) == len(DATABASE_USERS)
    assert not any(password in each for each in own)


_BASE = GIVEN[0]


@pytest.mark.parametrize(
    ("before", "after", "restarted"),
    [
        (_BASE, f"{_BASE},frontend.secret={'f' * 32}", {"frontend"}),
        (_BASE, f"{_BASE},mongodb.password={'f' * 32}", {*DATABASE_USERS, "mongodb-users"}),
        (
            "mongodb.uri=mongodb://a:b@db/,frontend.existingSecret=mine",
            "mongodb.uri=mongodb://a:c@db/,frontend.existingSecret=mine",
            DATABASE_USERS,
        ),
        (
            f"{_BASE},stripe.apiKey=sk_test_before",
            f"{_BASE},stripe.apiKey=sk_test_afterwards",
            {"payment-service"},
        ),
        (
            GIVEN[1],
            GIVEN[1].replace("frontend.existingSecret=mine", "frontend.existingSecret=new"),
            {"frontend"},
        ),
    ],
)
def test_a_changed_secret_starts_again_those_who_read_it(
    before: str, after: str, restarted: Set[str]
) -> None:
    assert changed(render("--set", before), render("--set", after)) == restarted


def test_another_certificate_starts_again_the_sandbox_and_who_verifies_it() -> None:
    values = f"{_BASE},mesh=istio"
    assert changed(render("--set", values), render("--set", values)) == {
        "stripe-sandbox",
        "payment-service",
    }


def test_a_new_version_of_the_chart_starts_nothing_again(tmp_path: Path) -> None:
    chart = copied(tmp_path)
    file = chart / "Chart.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("\nversion: 0.", "\nversion: 99."), encoding="utf-8")
    manifests = run("helm", "template", "shop", str(chart), "--set", _BASE)
    assert "helm.sh/chart: meshmart-99." in manifests
    newer = objects(manifests)
    older = objects(run("helm", "template", "shop", str(CHART), "--set", _BASE))
    assert pods(newer).keys() == pods(older).keys()  # a job that is another would run again
    assert changed(older, newer) == set()


def test_a_checkout_without_symbolic_links_is_refused_by_a_sentence(tmp_path: Path) -> None:
    chart = copied(tmp_path)
    (chart / "topology.yaml").write_text("../services/topology.yaml", encoding="utf-8")
    with pytest.raises(CommandFailed, match=r"copy services/topology\.yaml over it"):
        run("helm", "template", "shop", str(chart))


def test_a_packaged_chart_holds_the_topology(tmp_path: Path) -> None:
    run("helm", "package", str(CHART), "--destination", str(tmp_path))
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        packed = archive.extractfile("meshmart/topology.yaml")
        assert packed is not None
        assert packed.read() == (ROOT / "services/topology.yaml").read_bytes()


def copied(folder: Path) -> Path:
    """A copy of the chart, with the file in the place of its link."""
    return Path(shutil.copytree(CHART, folder / "helm"))


def objects(manifests: str) -> list[Object]:
    """Rendered manifests, parsed."""
    return [each for each in yaml.load_all(manifests, Loader=yaml.CSafeLoader) if each]


def pods(made: list[Object]) -> Mapping[str, Mapping[str, Any]]:
    """The pod of each workload."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]
        for each in made
        if each["kind"] in WORKLOADS - {"Pod"}
    }


def changed(before: list[Object], after: list[Object]) -> set[str]:
    """The workloads whose pods are others, jobs by the names that they share."""
    old, new = pods(before), pods(after)
    names = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    return {"mongodb-users" if name.startswith("mongodb-users-") else name for name in names}
