"""The Markdown files of the project, as their readers use them: links that lead somewhere, commands
that do what they say.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import io
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock
from urllib.parse import unquote

ROOT = Path(__file__).parents[2]
INDEX = "docs/README.md"
# The pages whose commands no other test reads from beginning to end. Those of the labs and of the
# meshes have one form, and tests of their own follow it.
_PAGES_WITH_COMMANDS = ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "loadtest/README.md")
_NOT_OURS = {"node_modules", "build", "dist", "__pycache__"}

_FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)|\b(?:src|href)=\"([^\"]+)\"")
_REFERENCE = re.compile(r"^\[[^\]]+\]: +(\S+)", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z][a-z+.-]*:|//", re.IGNORECASE)
_OPERATOR = re.compile(r"[|&;()<>]+")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=.*", re.DOTALL)
_PROGRAM = re.compile(r"(?:services|stand_ins|labs|tools|tests|classroom|loadtest)(?:\.\w+)*")

SHOP_TESTS = "tests/shop/test_docs.py"
# Who runs a block: by page, then by how the block begins.
RUN_BY: Mapping[str, Mapping[str, str]] = {
    "README.md": {
        "make run\n": SHOP_TESTS,
        'make run ARGS="--slow': SHOP_TESTS,
        "kill -9": SHOP_TESTS,
        ".venv/bin/python -m services audit": SHOP_TESTS,
        'make run ARGS="--versions': SHOP_TESTS,
        "for request in": SHOP_TESTS,
    },
    "docs/accounts.md": {"curl -s $shop/api/auth/password": SHOP_TESTS},
    "docs/api.md": {"shop=": SHOP_TESTS},
    "docs/backup.md": {".venv/bin/python -m services backup": SHOP_TESTS},
    "docs/chart.md": {"kubectl create namespace": "tests/cluster/test_secrets.py"},
    "docs/checkout.md": {"order=$(curl": SHOP_TESTS, "stripe=": SHOP_TESTS},
    "docs/develop.md": {
        ".venv/bin/python -m services --only frontend": SHOP_TESTS,
        ".venv/bin/python -m services --only order": SHOP_TESTS,
        "grep -hE": SHOP_TESTS,
    },
    "docs/gitops/README.md": {"kubectl create namespace": "tests/cluster/test_gitops.py"},
    "docs/kubernetes.md": {
        "make up ": ".github/workflows/ci.yaml",
        "helm install shop helm/": "tests/cluster/test_uninstall.py",
    },
    "docs/mesh-page.md": {".venv/bin/python -m services --versions": SHOP_TESTS},
    "docs/new-service.md": {
        "make mesh": "tests/shop/test_new_service.py",
        "curl -s": "tests/shop/test_new_service.py",
    },
    "docs/observability.md": {"curl -s -H 'accept: application/openmetrics-text'": SHOP_TESTS},
    "docs/settings.md": {
        ".venv/bin/python -m services --help": SHOP_TESTS,
        ".venv/bin/python -m services --slow": SHOP_TESTS,
    },
    "loadtest/README.md": {},
}
# Why nobody runs a block as it stands.
NOT_RUN: Mapping[str, Mapping[str, str]] = {
    "README.md": {"git clone": "needs the published repository"},
    "docs/backup.md": {
        "root=$(kubectl": "needs a cluster; tests/cluster/test_backup_docs.py reads its names",
        "kubectl -n ecommerce scale": "the same",
        "kubectl -n ecommerce exec -i mongodb-0": "the same",
    },
    "docs/bundle.md": {
        "make bundle ": "needs a network, Docker and kind; tests/unit/tools reads the commands",
        "git clone": "needs the published repository; tests/unit/tools/test_preflight.py runs it",
        "tar -xf": "needs a bundle, Docker and kind",
    },
    "docs/chart.md": {
        "helm uninstall": "needs a cluster; tests/cluster/test_uninstall.py uninstalls",
    },
    "docs/checkout.md": {
        "make chaos": "takes a quarter of an hour; tests/chaos/test_chaos.py runs shorter ones",
    },
    "docs/classroom.md": {
        "make class STUDENTS": "needs a cluster; tests/labs/class_of_three has three students",
        "export KUBECONFIG": "the same, and does a lab with a student's file",
        "make class-board": "the same, and shows the board",
        "make class-down": "the same, and looks whether anything is left",
    },
    "docs/develop.md": {"make test-unit": "would run the tests within a test"},
    "docs/kubernetes.md": {"helm install shop oci://": "needs a published release"},
    "docs/mesh-page.md": {"helm upgrade": "needs a cluster with a Prometheus"},
    "docs/new-service.md": {
        "make check": "takes minutes; tests/shop/test_new_service.py runs what knows the services",
    },
    "docs/observability.md": {
        "helm upgrade shop helm/ -n ecommerce --wait --reuse-values \\\n"
        "  --set observability.otlpEndpoint=http": "needs a cluster with Jaeger and Prometheus",
        "helm upgrade shop helm/ -n ecommerce --wait --reuse-values \\\n"
        "  --set observability.otlpEndpoint=,": "the same",
        "linkerd viz install": "needs Linkerd in a cluster",
    },
    "loadtest/README.md": {
        "make load\n": "sends load to a shop; `make load-check` runs all of it shortly",
        "make load-overload": "takes minutes; tests/unit/test_load_overload.py reads its verdict",
        "make load-compare": "needs two runs; `make load-check` compares two",
        "make load BASE_URL": "needs a mesh; `make load-check` sends the Host header",
        "make load-cluster": "needs a cluster; tests/unit/tools/test_load_cluster.py reads the Job",
    },
}


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    language: str
    text: str


@cache
def pages() -> Sequence[str]:
    """All Markdown files of the project, by their paths from its root."""
    found: list[str] = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name[0] != "." and name not in _NOT_OURS]
        found.extend(
            str((Path(folder) / name).relative_to(ROOT)) for name in files if name.endswith(".md")
        )
    return sorted(found)


def pages_with_commands() -> Sequence[str]:
    """Those whose every block is run, or has a reason not to be."""
    return sorted(
        str(path.relative_to(ROOT))
        for pattern in _PAGES_WITH_COMMANDS
        for path in ROOT.glob(pattern)
    )


def read(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str = "sh") -> Sequence[Block]:
    """Its fenced blocks in one language."""
    return [
        Block(page, *match.groups())
        for match in _FENCE.finditer(read(page))
        if match[1] == language
    ]


def block(page: str, begins: str, language: str = "sh") -> str:
    """The one block of a page that begins so.

    :raises ValueError: none does, or several.
    """
    (found,) = (each.text for each in blocks(page, language) if each.text.startswith(begins))
    return found


def wrong_links(text: str, at: Path) -> Iterator[str]:
    """The links of a page that lead nowhere inside the project.

    :param at: where the page is, or would be.
    """
    prose = _SPAN.sub("", _FENCE.sub("", text))
    targets = [first or second for first, second in _LINK.findall(prose)]
    for target in [*targets, *_REFERENCE.findall(prose)]:
        if _ELSEWHERE.match(target):
            continue
        path, _, anchor = unquote(target).partition("#")
        goal = (at.parent / path).resolve() if path else at
        if path and (not goal.exists() or not goal.is_relative_to(ROOT)):
            yield f"{target}: there is no such file"
        elif anchor and goal.suffix != ".md":
            yield f"{target}: only a page has headings"
        elif anchor and anchor not in anchors(text if goal == at else goal.read_text("utf-8")):
            yield f"{target}: there is no such heading"


def anchors(text: str) -> set[str]:
    """What links to a page may have behind `#`, as GitHub names its headings."""
    seen: dict[str, int] = {}
    names: set[str] = set()
    for match in _HEADING.finditer(_FENCE.sub("", text)):
        heading = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", match[1])
        name = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")
        number = seen.get(name, 0)
        seen[name] = number + 1
        names.add(f"{name}-{number}" if number else name)
    return names


def _typed(shell: str) -> Iterator[Sequence[str]]:
    """The commands for `make` and for programs of the project, as words.

    :raises ValueError: a line with such a command is no shell.
    """
    for line in shell.replace("\\\n", " ").splitlines():
        if "make " not in line and " -m " not in line:
            continue
        for words in _commands_of(line):
            if words[0] == "make" or _program(words) is not None:
                yield words


def _commands_of(line: str) -> Iterator[Sequence[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for token in [*lexer, ";"]:
        if not _OPERATOR.fullmatch(token):
            words.append(token)
            continue
        while words and _ASSIGNMENT.fullmatch(words[0]):
            words.pop(0)
        if words:
            yield words
        words = []


def _program(words: Sequence[str]) -> str | None:
    python = Path(words[0]).name
    if not re.fullmatch(r"python[\d.]*", python) or list(words[1:2]) != ["-m"] or len(words) < 3:
        return None
    return words[2] if _PROGRAM.fullmatch(words[2]) else None


def wrong_commands(text: str) -> Iterator[str]:
    """Commands in the `sh` blocks of a page, and in the code of its sentences, that cannot be typed
    so, and why not. In a sentence the name of a program may stand without what it needs.
    """
    for _, shell in (match.groups() for match in _FENCE.finditer(text) if match[1] == "sh"):
        yield from _wrong(shell)
    for span in _SPAN.findall(_FENCE.sub("", text)):
        yield from (said for said in _wrong(span) if "arguments are required" not in said)


def _wrong(shell: str) -> Iterator[str]:
    for words in _typed(shell):
        if words[0] == "make":
            yield from (f"{shlex.join(words)}: {why}" for why in _wrong_goals(words[1:]))
        elif (program := _program(words)) is not None:
            refusal = refused(program, words[3:])
            if refusal:
                yield f"{shlex.join(words)}: {refusal}"


@cache
def _makefile() -> tuple[set[str], str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    rules = re.findall(r"^([a-z$.(][^:=\n]*):(?![=:])", text, re.MULTILINE)
    expanded = " ".join(rules).replace("$(VENV)", ".venv")
    return set(expanded.split()), text


def _wrong_goals(words: Sequence[str]) -> Iterator[str]:
    targets, text = _makefile()
    for word in words:
        assigned = _ASSIGNMENT.fullmatch(word)
        if assigned and not re.search(rf"\b{assigned[1]}\b", text):
            yield f"the Makefile has no variable {assigned[1]}"
        elif not assigned and word not in targets and word != "…":
            yield f"the Makefile has no target {word}"


class _Read(Exception):
    pass


def refused(program: str, arguments: Sequence[str]) -> str:
    """What a program of the project says of a command line that it does not take; empty when it
    does. The program reads the command line, and does nothing else.
    """
    module = importlib.import_module(program)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{program}.__main__")
    if "argparse" not in inspect.getsource(module):  # it would begin its work
        return " ".join(arguments) and "it takes no arguments"
    real = argparse.ArgumentParser.parse_args

    def parse_args(self: Any, args: Any = None, namespace: Any = None) -> Any:
        real(self, args, namespace)
        raise _Read

    said = io.StringIO()
    umask = os.umask(0o077)
    try:
        with (
            mock.patch.object(argparse.ArgumentParser, "parse_args", parse_args),
            mock.patch.object(sys, "argv", [program, *arguments]),
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(said),
            warnings.catch_warnings(),
        ):
            status = module.main()
    except _Read:
        return ""
    except SystemExit as ended:
        status = ended.code
    finally:
        os.umask(umask)
    return "" if status in (0, None) else said.getvalue().strip().splitlines()[-1]
