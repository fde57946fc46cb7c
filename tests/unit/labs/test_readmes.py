"""Each lab's README.md has the one form, and says what the runner does."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from labs.lab import LABS, Lab, Place, all_labs
from labs.readme import FORMS, Language, NotInForm, read
from services.common.topology import load_topology
from tools.mesh import render
from tools.mesh.render import Shop

ALL = all_labs()
MESHED = [(lab, place) for lab in ALL for place in lab.places if place != "local"]
_WORDS: Mapping[Language, Mapping[int, str]] = {
    "en": {5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten"},
    "nl": {5: "vijf", 6: "zes", 7: "zeven", 8: "acht", 9: "negen", 10: "tien"},
}
_SHOP = load_topology().services
_CALLED_BY_FRONTEND = len({edge.callee for edge in _SHOP["frontend"].calls})
# No order waits for its message. The rest, and order itself; auth's keys come over HTTP.
_IN_AN_ORDER = 1 + len(
    {edge.callee for edge in _SHOP["order"].calls if edge.grpc} - {"notification"}
)
# By lab and language, what is counted in words there; {} is the number.
_COUNTED: Sequence[tuple[str, Language, str, int]] = [
    ("00-pay-once", "en", "{} services on a network", len(_SHOP)),
    ("00-pay-once", "nl", "{} services op een netwerk", len(_SHOP)),
    ("00-pay-once", "en", "a shop of {} processes", len(_SHOP)),
    ("00-pay-once", "nl", "een winkel met {} processen", len(_SHOP)),
    ("00-pay-once", "en", "with {} services and", len(_SHOP)),
    ("00-pay-once", "nl", "met {} services en", len(_SHOP)),
    ("01-see-the-mesh", "en", "a shop of {} services", len(_SHOP)),
    ("01-see-the-mesh", "nl", "een winkel van {} services", len(_SHOP)),
    ("03-who-may-call-whom", "en", "`frontend` call {} services", _CALLED_BY_FRONTEND),
    ("03-who-may-call-whom", "nl", "`frontend` {} services", _CALLED_BY_FRONTEND),
    ("14-one-trace", "en", "one purchase through {} services", _IN_AN_ORDER),
    ("14-one-trace", "nl", "één aankoop door {} services", _IN_AN_ORDER),
    ("14-one-trace", "en", "{} services have a part in an order", _IN_AN_ORDER),
    ("14-one-trace", "nl", "doen {} services mee", _IN_AN_ORDER),
    ("14-one-trace", "en", "each of {} services decided", _IN_AN_ORDER),
    ("14-one-trace", "nl", "een trace door {} services", _IN_AN_ORDER),
    ("17-incident", "en", "one fault among {} services", len(_SHOP)),
    ("17-incident", "nl", "één fout tussen {} services", len(_SHOP)),
]
_LINK = re.compile(r"\]\(((?!https?:)[^)#]+)")


def named(value: object) -> str:
    return value.name if isinstance(value, Lab) else str(value)


@pytest.mark.parametrize("lab", ALL, ids=named)
def test_it_has_the_form(lab: Lab) -> None:
    readme = lab.readme
    assert readme.number == lab.number
    assert 10 <= readme.minutes <= 25
    assert readme.facts["lesson"].count("docs/lesson.md")
    assert readme.sections["Questions"].count("<details><summary>") >= 3
    assert readme.sections["Questions"].count("</details>") == readme.sections["Questions"].count(
        "<details>"
    )
    assert "labs check" in readme.sections["Your turn"]
    assert readme.sections["Predict"].count("\n3. "), "three things to predict"
    assert len(lab.hints) >= 2


@pytest.mark.parametrize("lab", [lab for lab in ALL if lab.meshed], ids=named)
def test_its_task_says_how_an_object_is_changed(lab: Lab) -> None:
    task = " ".join(lab.readme.sections["Your turn"].split())
    assert re.search(r"`kubectl -n \S+ edit [^`]+`|`helm upgrade [^`]+`", task)


# Kinds of the meshes and of the Gateway API, as commands name them.
_KINDS: Mapping[str, str] = {
    kind.lower(): kind
    for kind in (
        *("VirtualService", "DestinationRule", "Sidecar", "ServiceEntry", "EnvoyFilter"),
        *("PeerAuthentication", "RequestAuthentication", "AuthorizationPolicy"),
        *("HTTPRoute", "GRPCRoute", "EgressNetwork", "HTTPLocalRateLimitPolicy"),
        *("MeshTLSAuthentication", "NetworkAuthentication"),
    )
}
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_KIND_IN_COMMAND = re.compile(r"(?<!\.)\b[a-z]+\b")


def kinds_in(commands: str) -> set[str]:
    words = {
        re.sub("policies$", "policy", word).removesuffix("s")
        for word in _KIND_IN_COMMAND.findall(commands)
    }
    return {kind for name, kind in _KINDS.items() if name in words}


@pytest.mark.parametrize("lab", ALL, ids=named)
def test_it_explains_each_kind_of_object_before_its_first_command(lab: Lab) -> None:
    text = lab.readme.sections["Predict"] + lab.readme.sections["Steps"]
    explained = ""
    end = 0
    for block in _FENCED.finditer(text):
        explained += text[end : block.start()]
        end = block.end()
        assert {kind for kind in kinds_in(block[0]) if f"*{kind}*" not in explained} == set()


def test_kinds_are_found_in_commands() -> None:
    commands = "kubectl get sidecar/x authorizationpolicies.security.istio.io,httproutes -o yaml"
    assert kinds_in(commands) == {"Sidecar", "AuthorizationPolicy", "HTTPRoute"}


@pytest.mark.parametrize("lab", ALL, ids=named)
def test_its_links_lead_somewhere(lab: Lab) -> None:
    text = (lab.folder / "README.md").read_text(encoding="utf-8")
    for target in _LINK.findall(text):
        assert (lab.folder / target).exists(), target


@pytest.mark.parametrize(
    ("lab", "place"), [(lab, place) for lab in ALL for place in lab.places], ids=named
)
def test_its_commands_are_complete_in_each_place(lab: Lab, place: Place) -> None:
    steps = lab.readme.steps(place)
    (start,) = [step.commands for step in steps if "labs start" in step.commands]
    wanted = f"start {lab.number}" + ("" if place == "local" else f" --mesh {place}")
    assert start == f".venv/bin/python -m labs {wanted}\n"
    assert steps[0].commands == start, "all else needs the first state"
    assert any(step.sees is not None for step in steps), "something is to be seen"
    assert lab.readme.clean_up(place) == ".venv/bin/python -m labs reset\n"
    for step in steps:
        subprocess.run(["bash", "-n", "-c", step.commands], check=True)
    assert lab.hints_in(place)


@pytest.mark.parametrize(("lab", "language", "phrase", "count"), _COUNTED)
def test_what_it_counts_is_what_the_topology_declares(
    lab: str, language: Language, phrase: str, count: int
) -> None:
    text = (LABS / lab / FORMS[language].file).read_text(encoding="utf-8")
    assert phrase.format(_WORDS[language][count]).lower() in " ".join(text.split()).lower()


@pytest.mark.needs_programs("kubectl")
@pytest.mark.parametrize(("lab", "place"), MESHED, ids=named)
def test_its_manifests_are_built_for_any_shop(lab: Lab, place: Place) -> None:
    assert place != "local"
    shop = Shop(mesh=place, namespace="student-07", host="student-07.example.com")
    for state in ("start", "solution"):
        folder = lab.folder / state / place
        if folder.exists():
            made = render.text_of(render.placed(shop, folder))
            assert "namespace: student-07" in made
            assert "ecommerce" not in made


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (("# 00 ", "# "), "no `# NN Title`"),
        (("| minutes | 15 |", "| minutes | a while |"), "its table has"),
        (("| watch |", "| see |"), "its table has"),
        (("## Predict", "## Guess"), "its headings are"),
    ],
)
def test_another_form_is_refused(tmp_path: Path, spoil: tuple[str, str], told: str) -> None:
    text = (LABS / "00-pay-once/README.md").read_text(encoding="utf-8")
    assert spoil[0] in text
    (tmp_path / "README.md").write_text(text.replace(*spoil, 1), encoding="utf-8")

    with pytest.raises(NotInForm, match=told):
        read(tmp_path / "README.md")
