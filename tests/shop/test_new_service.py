"""A tenth service is what docs/new-service.md says, and nothing else has to be edited for it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Generator, Mapping
from pathlib import Path

import aiohttp
import pytest

from tests.shop.test_mesh_page import calls
from tests.testkit.docs import ROOT, block, blocks, read
from tests.testkit.shop import Shop
from tests.testkit.waiting import eventually

PAGE = "docs/new-service.md"
NAME = "recommendation"
WORKLOAD = f"{NAME}-service"
ROUTE = "/api/recommendations"
# Who may call it, whom it may call, and where it is found at the edge.
RULES = (
    ("istio/base/authorization.yaml", f"              - {ROUTE}\n"),
    ("istio/base/authorization.yaml", f"cluster.local/ns/ecommerce/sa/{WORKLOAD}"),
    ("istio/base/egress.yaml", f"app.kubernetes.io/name: {WORKLOAD}"),
    ("istio/base/routes.yaml", f"uri: {{exact: {ROUTE}}}"),
    ("linkerd/base/authorization.yaml", f"value: {ROUTE}}}"),
    ("linkerd/base/callers.yaml", f"{{kind: ServiceAccount, name: {WORKLOAD}}}"),
    ("linkerd/base/servers.yaml", f"name: {WORKLOAD}-http\n"),
)
MAX_LINES = 30
_BIN = Path(sys.executable).parent
# What the page's commands read and write.
_TREE = (
    *("services", "stand_ins", "tools", "labs", "classroom", "mesh", "observability", "helm"),
    *("docs", "Makefile", "pyproject.toml", "compose.yaml"),
)
_FILE = re.compile(r"^`(services/\S+\.py)`:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.timeout(300)


class Checkout:
    """A copy of the project, to which the page can be applied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in _TREE:
            if (ROOT / name).is_file():
                shutil.copy2(ROOT / name, folder / name)
            else:
                ignored = shutil.ignore_patterns("__pycache__", ".*")
                shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)

    def add_service(self) -> None:
        """Does what the page says to edit."""
        with (self.folder / "services/topology.yaml").open("a", encoding="utf-8") as topology:
            topology.write(f"\n{entry()}")
        for name, content in modules().items():
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_text(content, encoding="utf-8")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command there to its end."""
        environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    def make(self, command: str) -> None:
        """Runs a command of the page that begins with `make`, in this environment."""
        installed = [f"--assume-old=.venv/.{stamp}" for stamp in ("runtime", "check")]
        made = self.run("make", f"BIN={_BIN}", *installed, *shlex.split(command)[1:])
        assert made.returncode == 0, made

    def check_mesh(self) -> subprocess.CompletedProcess[str]:
        """Compares the generated manifests with the topology."""
        return self.run(sys.executable, "-m", "tools.mesh", "--check")


def entry() -> str:
    """The lines for the topology."""
    (found,) = blocks(PAGE, "yaml")
    return found.text


def modules() -> Mapping[str, str]:
    """The Python files, by their paths."""
    found = dict(_FILE.findall(read(PAGE)))
    assert len(found) == len(blocks(PAGE, "python")), "each block has a line with its path"
    return found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy of the project with the tenth service, and what is generated for it."""
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    checkout.add_service()
    before = checkout.check_mesh()
    assert before.returncode == 1
    assert f"mesh/istio/base/destinations/{NAME}/destination.yaml" in before.stderr
    checkout.make(block(PAGE, "make mesh"))
    return checkout


@pytest.fixture(scope="module")
def ten(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Generator[Shop]:
    """A shop from that copy: the service, whom it needs, and the way in."""
    run = (
        f"import runpy, sys; sys.path.insert(0, {str(checkout.folder)!r}); "
        "runpy.run_module('services', run_name='__main__', alter_sys=True)"
    )
    only = f"frontend,product,inventory,{NAME}"
    with Shop(tmp_path_factory.mktemp("ten"), "--only", only, program=("-c", run)) as shop:
        yield shop


def test_it_is_short() -> None:
    written = "\n".join([entry(), *modules().values()])
    lines = sum(1 for line in written.splitlines() if line.strip())
    assert lines < MAX_LINES
    assert re.search(rf"You write {lines}\s+lines of YAML and Python", read(PAGE))


async def test_it_answers_behind_the_gateway(ten: Shop) -> None:
    command = block(PAGE, "curl -s")
    done = await asyncio.create_subprocess_exec(
        *shlex.split(command.replace("http://127.0.0.1:8080", ten.url)), stdout=subprocess.PIPE
    )
    printed, _ = await done.communicate()
    products = json.loads(printed)
    ratings = [product["rating"] for product in products]
    assert len(products) == 3
    assert ratings == sorted(ratings, reverse=True)
    assert all(product["available"] > 0 for product in products)


async def test_it_says_who_does_not_answer(ten: Shop, http: aiohttp.ClientSession) -> None:
    ten.pause("product")
    try:
        async with http.get(f"{ten.url}{ROUTE}") as answer:
            assert (answer.status, (await answer.json())["code"]) == (504, "product-timeout")
    finally:
        ten.resume("product")


async def test_it_stands_on_the_mesh_page(ten: Shop, http: aiohttp.ClientSession) -> None:
    async def is_drawn() -> bool:
        async with http.get(f"{ten.url}{ROUTE}") as answer:
            await answer.read()
        seen = await calls(http, ten.url)
        return bool(seen.get(("visitors", NAME)) and seen.get((NAME, "product")))

    await eventually(is_drawn, "both calls are in the table")
    async with http.get(f"{ten.url}/mesh") as answer:
        assert re.search(rf"<text [^>]*>{NAME}</text>", await answer.text()), "its box"


@pytest.mark.parametrize(("file", "rule"), RULES)
def test_its_rules_are_generated_for_both_meshes(checkout: Checkout, file: str, rule: str) -> None:
    path = Path("mesh") / file
    assert rule not in (ROOT / path).read_text(encoding="utf-8")
    assert rule in (checkout.folder / path).read_text(encoding="utf-8")


def test_the_generated_rules_are_up_to_date(checkout: Checkout) -> None:
    after = checkout.check_mesh()
    assert after.returncode == 0, after


def test_the_contracts_of_imports_hold_without_an_edit(checkout: Checkout) -> None:
    for name in ("pyproject.toml", "tools/import_contracts.py"):
        assert (checkout.folder / name).read_bytes() == (ROOT / name).read_bytes()
    linted = checkout.run(str(_BIN / "lint-imports"), "--no-cache")
    assert linted.returncode == 0, linted
    (checkout.folder / f"services/{NAME}/rules.py").touch()
    try:
        linted = checkout.run(str(_BIN / "lint-imports"), "--no-cache")
        assert f"services.{NAME}.rules" in linted.stdout, "the contracts know the new service"
        assert linted.returncode == 1
    finally:
        (checkout.folder / f"services/{NAME}/rules.py").unlink()


def test_its_code_is_in_the_projects_form(checkout: Checkout) -> None:
    folder = f"services/{NAME}"
    for command in (("format", "--check"), ("check", "--no-cache")):
        done = checkout.run(str(_BIN / "ruff"), *command, folder)
        assert done.returncode == 0, done
