"""Every scenario of both meshes has a README.md that can be run, or one that says why there is
none; `tests/mesh/test_readmes.py` runs them.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.mesh.readme import NotInForm, disagreement, read, says_there_is_none

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
