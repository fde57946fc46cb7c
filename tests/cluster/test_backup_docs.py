"""The commands of docs/backup.md for a cluster name what the chart makes, in whichever mesh."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from tests.testkit.cluster import ROOT, Object, render

_TEXT = (ROOT / "docs/backup.md").read_text(encoding="utf-8").partition("## On Kubernetes\n")[2]
_COMMANDS = "".join(re.findall(r"^```sh\n(.*?)^```$", _TEXT, re.MULTILINE | re.DOTALL))
_PART_OF = "app.kubernetes.io/part-of"
_NAME = "app.kubernetes.io/name"


@pytest.fixture(params=["none", "istio", "linkerd"])
def made(request: pytest.FixtureRequest) -> list[Object]:
    return render("--set", f"mesh={request.param}")


def workload(made: list[Object], name: str) -> Object:
    """By ``deployment/NAME``, or the name of a StatefulSet's first pod."""
    _, slash, own = name.partition("/")
    wanted = ("deployment", own) if slash else ("statefulset", name.removesuffix("-0"))
    return next(each for each in made if (each["kind"].lower(), each["metadata"]["name"]) == wanted)


def test_each_pod_has_the_container_and_its_variables(made: list[Object]) -> None:
    commands = re.findall(
        r"kubectl -n (\S+) exec (?:-i )?(\S+) (?:-c (\S+) )?-- ((?:.|\\\n)*)", _COMMANDS
    )
    assert len(commands) == 4
    for namespace, name, container_name, command in commands:
        found = workload(made, name)
        assert found["metadata"].get("namespace", "ecommerce") == namespace
        (container,) = found["spec"]["template"]["spec"]["containers"]
        assert container["name"] == container_name, "kubectl may choose a mesh's proxy"
        variables = set(re.findall(r"\$(MONGO_\w+)", command))
        assert variables <= {each["name"] for each in container["env"]}
        assert not variables or len(variables) == 2


def test_the_root_users_address_is_in_the_secret(made: list[Object]) -> None:
    (secret, key) = re.findall(r"get secret (\S+) -o jsonpath='\{\.data\.(\w+)\}'", _COMMANDS)[0]
    (found,) = (
        each for each in made if (each["kind"], each["metadata"]["name"]) == ("Secret", secret)
    )
    assert re.fullmatch(r"mongodb://root:\w+@mongodb:27017/", found["stringData"][key])


def test_who_may_write_is_stopped_and_waited_for(made: list[Object]) -> None:
    words = shlex.split(_COMMANDS.replace("\\\n", " "), comments=True)
    scaled, waited = (words[index + 1] for index, each in enumerate(words) if each == "-l")
    assert scaled == f"{_PART_OF}=meshmart"
    part, _, others = waited.partition(",")
    assert part == scaled
    names = re.fullmatch(rf"{re.escape(_NAME)} notin \((.+)\)", others)
    assert names is not None
    left_out = set(names[1].split(","))
    of_pods = {
        each["spec"]["template"]["metadata"]["labels"][_NAME]: each["kind"]
        for each in made
        if "template" in each.get("spec", {})
    }
    of_pods["purchase-test"] = "Pod"
    for each in made:
        if each["kind"] == "Deployment":
            assert each["metadata"]["labels"][_PART_OF] == "meshmart", json.dumps(each)
    assert left_out == {name for name, kind in of_pods.items() if kind != "Deployment"}


def test_the_services_of_a_database_may_be_audited_from_payment(made: list[Object]) -> None:
    """Its pod reaches MongoDB and Stripe's sandbox."""
    (policy,) = (
        each
        for each in made
        if (each["kind"], each["metadata"]["name"]) == ("NetworkPolicy", "payment-service")
    )
    reached = {
        target["podSelector"]["matchLabels"][_NAME]
        for rule in policy["spec"]["egress"]
        for target in rule["to"]
    }
    assert {"mongodb", "stripe-sandbox"} <= reached
