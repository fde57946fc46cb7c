"""The docs can be used: their links lead somewhere, their commands exist, and each of these is run
by a test or has a reason not to be.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.testkit import docs
from tests.testkit.docs import ROOT


@pytest.mark.parametrize("page", docs.pages())
def test_every_link_leads_somewhere(page: str) -> None:
    assert not list(docs.wrong_links(docs.read(page), ROOT / page))


@pytest.mark.parametrize("page", docs.pages())
def test_every_command_is_one_that_its_program_takes(page: str) -> None:
    assert not list(docs.wrong_commands(docs.read(page)))


@pytest.mark.parametrize("page", docs.pages())
def test_every_test_exists(page: str) -> None:
    """By its path, or by that below tests/mesh in the pages about the meshes."""
    for name in re.findall(r"`([\w/]*test_\w+\.py)`", docs.read(page)):
        assert (ROOT / name).is_file() or (ROOT / "tests/mesh" / name).is_file(), name


def test_every_page_of_the_docs_is_in_the_index() -> None:
    index = docs.read(docs.INDEX)
    for page in docs.pages():
        if page.startswith("docs/") and page != docs.INDEX:
            assert f"({page.removeprefix('docs/')})" in index, page


def test_every_block_is_run_or_has_a_reason() -> None:
    for page in docs.pages_with_commands():
        told = {**docs.RUN_BY.get(page, {}), **docs.NOT_RUN.get(page, {})}
        for each in docs.blocks(page):
            found = [begins for begins in told if each.text.startswith(begins)]
            assert len(found) == 1, f"{page}, {len(found)} entries for:\n{each.text}"
    for page, reasons in docs.NOT_RUN.items():
        for begins, reason in reasons.items():
            print(f"{page}: {begins.splitlines()[0]} … is not run: {reason}")  # noqa: T201  what is left out is said


@pytest.mark.parametrize(
    ("page", "begins"),
    [
        (page, begins)
        for told in (docs.RUN_BY, docs.NOT_RUN)
        for page in told
        for begins in told[page]
    ],
)
def test_every_entry_is_about_a_block(page: str, begins: str) -> None:
    docs.block(page, begins)


def _used(test: str) -> set[tuple[str, str]]:
    """The blocks that a file of tests takes by ``block(PAGE, BEGINS)``."""
    tree = ast.parse((ROOT / test).read_text(encoding="utf-8"))
    return {
        (ast.literal_eval(node.args[0]), ast.literal_eval(node.args[1]))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "block"
        and len(node.args) == 2
    }


def test_every_block_that_is_said_to_be_run_is_run() -> None:
    told = {
        (page, begins): test
        for page, found in docs.RUN_BY.items()
        for begins, test in found.items()
    }
    here = {entry for entry, test in told.items() if test == docs.SHOP_TESTS}
    assert _used(docs.SHOP_TESTS) == here
    for (page, begins), test in told.items():
        if test.startswith(".github/"):
            assert begins.strip() in (ROOT / test).read_text(encoding="utf-8")
        elif test != docs.SHOP_TESTS:
            assert Path(page).name in (ROOT / test).read_text(encoding="utf-8"), (page, test)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a](checkout.md)", ""),
        ("[a](checkout.md#the-steps) <https://example.com> [b](https://example.com#x)", ""),
        ("# Over `there`\n[a](#over-there)", ""),
        ("## Twice\n## Twice\n[a](#twice-1)", ""),
        ("`[a](gone.md)`\n```sh\n[b](gone.md)\n```\n", ""),
        ("[a](gone.md)", "gone.md: there is no such file"),
        ('<img src="gone.png">', "gone.png: there is no such file"),
        ("[a][1]\n\n[1]: gone.md", "gone.md: there is no such file"),
        ("[a](../../outside.md)", "../../outside.md: there is no such file"),
        ("[a](checkout.md#gone)", "checkout.md#gone: there is no such heading"),
        ("# Here\n[a](#there)", "#there: there is no such heading"),
        ("```\n# Here\n```\n[a](#here)", "#here: there is no such heading"),
        ("[a](../Makefile#run)", "../Makefile#run: only a page has headings"),
    ],
)
def test_a_link_that_leads_nowhere_is_told(text: str, said: str) -> None:
    assert list(docs.wrong_links(text, ROOT / "docs/made-up.md")) == ([said] if said else [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("`make run` `make test-all` `make .venv/.check`", ""),
        (
            "```sh\nmake sbom audit    # not make x\nmake up MESH=istio && make down\n```",
            "",
        ),
        ("make sure of it", ""),
        ("`make everything`", "make everything: the Makefile has no target everything"),
        ("```sh\ntrue && make nothing\n```", "make nothing: the Makefile has no target nothing"),
        ("```sh\nmake up NET=istio\n```", "make up NET=istio: the Makefile has no variable NET"),
        ("`python -m services --slow product=1s`", ""),
        ("`X=1 .venv/bin/python -m services backup DIR --data DIR`", ""),
        ("```sh\nx=$(python -m tools.mesh render \\\n  --mesh istio base) | less\n```", ""),
        ("`python -m services --sloow product=1s`", "unrecognized arguments: --sloow"),
        ("`python -m services backup`", ""),
        ("```sh\npython -m services backup\n```", "the following arguments are required: DIR"),
        ("`python -m services audit --repair`", "unrecognized arguments: --repair"),
        ("```sh\npython -m labs begin 00 | cat\n```", "invalid choice: 'begin'"),
        ("`python -m tools.mesh render --mesh consul base`", "invalid choice: 'consul'"),
        ("`python -m tests.browser.screenshots --phone`", "it takes no arguments"),
    ],
)
def test_a_command_that_does_not_exist_is_told(text: str, said: str) -> None:
    found = list(docs.wrong_commands(text))
    assert len(found) == bool(said), found
    assert said in "".join(found)
