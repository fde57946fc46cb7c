"""Every scenario of both meshes has a README.md that can be run, or one that says why there is
none; `tests/mesh/test_readmes.py` runs them.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from tests.mesh.readme import NotInForm, disagreement, read, says_there_is_none
from tests.testkit.elsewhere import ISTIO, LINKERD
from tools.certificate import SECRET_NAMESPACE, Certificate, secret
from tools.mesh import readme as elsewhere
from tools.mesh.__main__ import main
from tools.mesh.render import CannotRender

ROOT = Path(__file__).parents[3]
MESH = ROOT / "mesh"
SCENARIOS = sorted(MESH.glob("*/scenarios/*"))
STARTS = sorted(MESH.glob("*/start"))
# Those that send requests to the catalogue's second version.
NEED_V2 = {
    "istio": {"01", "02", "03", "07", "13", "16", "17"},
    "linkerd": {"01", "02", "03", "07", "17"},
}
_LINK = re.compile(r"\]\(((?!https?:)[^)#]+)")


def named(folder: Path) -> str:
    return str(folder.relative_to(MESH))


RUNNABLE = [
    folder for folder in [*SCENARIOS, *STARTS] if not says_there_is_none(folder / "README.md")
]


@pytest.mark.parametrize("folder", RUNNABLE, ids=named)
def test_it_is_in_the_form_and_about_its_own_folder(folder: Path) -> None:
    readme = read(folder / "README.md")
    changes = "".join(each.change for each in readme.rounds)
    own = re.escape(str(folder.relative_to(ROOT)))
    assert re.search(rf"^kubectl apply -[kf] {own}\b", changes, re.MULTILINE)
    assert readme.forwards or "kubectl" in readme.rounds[0].look
    assert all(each.look.strip() and each.sees for each in readme.rounds)


@pytest.mark.parametrize("folder", RUNNABLE, ids=named)
def test_what_is_taken_back_is_the_shops_own(folder: Path) -> None:
    back = read(folder / "README.md").take_back
    assert not re.search(r"--all-namespaces|-A\b|-k mesh/\w+/base\n|/stripe", back)
    for namespace, what in re.findall(r"kubectl -n (\S+) (.*)", back):
        if namespace != "ecommerce":  # what others use, too: what is of this shop bears its name
            assert re.fullmatch(r"delete \w+ ecommerce-[a-z-]+", what), what


@pytest.mark.parametrize("folder", SCENARIOS, ids=named)
def test_it_says_when_the_second_version_is_needed(folder: Path) -> None:
    mesh, _, scenario = folder.relative_to(MESH).parts
    if scenario[:2] not in NEED_V2[mesh]:
        return
    assert "services.product.variants.v2=1" in "".join(read(folder / "README.md").prepare)


@pytest.mark.parametrize("folder", [*SCENARIOS, *STARTS], ids=named)
def test_its_links_lead_somewhere(folder: Path) -> None:
    for target in _LINK.findall((folder / "README.md").read_text(encoding="utf-8")):
        assert (folder / target).exists(), target


@pytest.mark.parametrize("folder", STARTS, ids=named)
def test_the_first_hour_is_in_plain_block_style(folder: Path) -> None:
    for path in folder.glob("*.yaml"):
        lines = [line.partition("#")[0] for line in path.read_text(encoding="utf-8").splitlines()]
        assert not re.search(r"[\[\]{}]", "".join(lines)), path
        kinds = {line.removeprefix("kind: ").lower() for line in lines if line.startswith("kind: ")}
        assert kinds == {path.stem.partition("-")[0].removesuffix("s")}, path


@pytest.mark.parametrize("mesh", NEED_V2)
def test_the_meshs_page_leads_to_each(mesh: str) -> None:
    page = (MESH / mesh / "README.md").read_text(encoding="utf-8")
    targets = _LINK.findall(page)
    for folder in (MESH / mesh / "scenarios").iterdir():
        assert f"scenarios/{folder.name}/README.md" in targets
    assert "start/README.md" in targets


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        (["20 v1", "20 v2"], "     20 v1\n     20 v2\n"),
        (["about 90 of 100 v1", "about 10 of 100 v2"], "  94 v1\n   6 v2\n"),
        (["about 97 of 100 200", "about 3 of 100 503"], " 100 200\n"),
        (["at least 5 200", "at most 5 503"], "5 200\n"),
        (["1 payment-…-x"], "1 payment-service-x\n"),
        (["200"], "\n200\n\n"),
    ],
)
def test_what_is_as_people_should_see(expected: list[str], printed: str) -> None:
    assert disagreement(expected, printed) == ""


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        (["20 v1", "20 v2"], "20 v2\n20 v1\n"),
        (["20 v1"], "19 v1\n1 v2\n"),
        (["20 v1"], "20 v1\n1 v2\n"),
        (["20 v1"], ""),
        (["about 90 of 100 v1", "about 10 of 100 v2"], "75 v1\n25 v2\n"),
        (["about 90 of 100 v1", "about 10 of 100 v2"], "100 v1\n"),
        (["about 10 of 100 v2"], "10 v3\n"),
        (["at least 5 200"], "4 200\n"),
        (["at most 5 503"], "6 503\n"),
        (["1 payment-…-x"], "1 payment-service-y\n"),
    ],
)
def test_what_is_not(expected: list[str], printed: str) -> None:
    assert disagreement(expected, printed)


PAGES = [*RUNNABLE, MESH / "istio", MESH / "linkerd"]
_COMMANDS = re.compile(r"^```sh\n(.*?)^```$|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
# Places that speak of the files' own shop, or of what all shops share. istiod stays there, too.
_OF_THE_FILES = re.compile(
    r"(?<![\w./-])(?:ecommerce|istio-ingressgateway)\b|-n (?:stripe|istio-system|shop-ingress)\b"
)
_RENDERS = re.compile(r"\.venv/bin/python -m tools\.mesh render ([^|`\n]+) \|")


def for_another_shop(page: Path) -> str:
    mesh = page.relative_to(MESH).parts[0]
    shop = ISTIO if mesh == "istio" else LINKERD
    options = ["--mesh", mesh, "--namespace", shop.namespace]
    return elsewhere.for_shop(shop, options, str(page.relative_to(MESH / mesh)))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_its_commands_for_another_shop_speak_of_no_other(page: Path) -> None:
    for command in map("".join, _COMMANDS.findall(for_another_shop(page))):
        assert not _OF_THE_FILES.search(command), command
        assert not re.search(r"kubectl (?:apply|delete) (?:[^|\n]|\\\n)*-[fk] mesh/", command), (
            command
        )
        assert command.count("ecommerce.example.com") == 0


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_its_commands_for_another_shop_render_what_is_there(page: Path) -> None:
    mesh = page.relative_to(MESH).parts[0]
    found = _RENDERS.findall(for_another_shop(page))
    assert found
    for arguments in found:
        first, second, third, fourth, *paths = shlex.split(arguments)
        assert [first, second, third, fourth] == ["--mesh", mesh, "--namespace", "student-07"]
        for path in paths:
            assert (MESH / mesh / path).exists(), path


@pytest.mark.parametrize("folder", RUNNABLE, ids=named)
def test_for_another_shop_it_is_in_the_same_form(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(for_another_shop(folder), encoding="utf-8")
    here, there = read(folder / "README.md"), read(page)
    assert [port for _, port in there.forwards] == [port for _, port in here.forwards]
    assert [each.sees for each in there.rounds] == [each.sees for each in here.rounds]
    assert len(there.take_back.splitlines()) <= len(here.take_back.splitlines())


def test_the_commands_for_another_shop_keep_what_is_not_of_it() -> None:
    text = for_another_shop(MESH / "istio/start")
    assert "](gateway-ecommerce.yaml)" in text
    assert (
        "--set stripe.sandbox.namespace=student-07-stripe,gateway.address=edge-account.edge:443,"
        "gateway.host=student-07.example.org,mesh=istio,"
    ) in text
    page = for_another_shop(MESH / "istio")
    assert (
        "--namespace student-07 base | kubectl apply --selector 'meshmart/part!=stripe' -f -"
        in page
    )
    assert "make certificate ARGS='--namespace student-07 --host student-07.example.org" in page


def test_the_command_prints_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--namespace", "student-07", "--gateway-label", "istio=edge", "--stripe-key"]
    scenario = "scenarios/11-rate-limit-at-the-gateway"
    monkeypatch.setattr(sys, "argv", ["tools.mesh", "readme", scenario, *options])
    assert main() == 0
    text = capsys.readouterr().out
    assert f"tools.mesh render {' '.join(options)} {scenario} | kubectl apply -f -" in text
    assert "https://student-07.example.com/api" in text


@pytest.mark.parametrize("mesh", NEED_V2)
def test_what_a_shop_leaves_at_the_gateway_is_removed(mesh: str) -> None:
    page = (MESH / mesh / "README.md").read_text(encoding="utf-8")
    uninstall = page.partition("## Uninstall\n")[2].partition("\n## ")[0]
    made = json.loads(secret(Certificate(b"", b""), SECRET_NAMESPACE[mesh]))["metadata"]
    assert f"\nkubectl -n {made['namespace']} delete secret {made['name']}\n" in uninstall
    assert f"\nkubectl delete -k mesh/{mesh}/base --ignore-not-found\n" in uninstall


def test_the_table_counts_what_is_there() -> None:
    table = (MESH / "README.md").read_text(encoding="utf-8")
    row = re.search(
        r"\| (\d+) kinds of resources, all Istio's own, in about ([\d,]+) lines"
        r" \| (\d+) kinds, (\d+) of them the Gateway API's, in about ([\d,]+) lines \|",
        table,
    )
    assert row is not None
    istio, istio_lines, linkerd, of_gateway_api, linkerd_lines = (
        int(each.replace(",", "")) for each in row.groups()
    )
    for mesh, kinds, lines in (
        ("istio", istio, istio_lines),
        ("linkerd", linkerd, linkerd_lines),
    ):
        files = [
            path.read_text(encoding="utf-8")
            for path in (MESH / mesh / "base").rglob("*.yaml")
            if path.name != "kustomization.yaml"
        ]
        found = {
            (each["kind"], each["apiVersion"].partition("/")[0])
            for text in files
            for each in yaml.load_all(text, Loader=yaml.CSafeLoader)
        }
        assert len({kind for kind, _ in found}) == kinds, mesh
        assert abs(sum(text.count("\n") for text in files) - lines) <= 100, mesh
        groups = [group for _, group in found]
        own = groups.count("gateway.networking.k8s.io")
        assert own == (of_gateway_api if mesh == "linkerd" else 0)


def test_a_folder_without_one_is_refused() -> None:
    for folder in ("base", "../../docs", "scenarios/99"):
        with pytest.raises(CannotRender, match="has no README"):
            elsewhere.for_shop(ISTIO, [], folder)


SOUND = """# A title

## What must be there

```sh
kubectl -n x port-forward service/gateway 8443:443
```

```sh
helm upgrade
```

## Apply

```sh
kubectl apply
```

## Try it

```sh
curl
```

## You should see

```text
1 v1
```

## Take it back

```sh
kubectl delete
```
"""


def test_a_file_in_the_form_is_read(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(SOUND, encoding="utf-8")
    readme = read(path)
    assert [port for _, port in readme.forwards] == [8443]
    assert readme.prepare == ["helm upgrade\n"]
    assert readme.rounds == [("kubectl apply\n", "curl\n", ["1 v1"])]
    assert readme.take_back == "kubectl delete\n"


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("# A title\n", ""),
        ("## Try it", "## Try"),
        ("## Apply", "## Then"),
        ("```text", "```sh"),
        ("```sh\ncurl\n```\n", ""),
        ("## Take it back\n", ""),
    ],
)
def test_another_one_is_refused(tmp_path: Path, part: str, other: str) -> None:
    path = tmp_path / "README.md"
    path.write_text(SOUND.replace(part, other), encoding="utf-8")
    with pytest.raises(NotInForm):
        read(path)
