"""A student of a class: the kubeconfig says where the shop is, and the runner reports to the
teacher's board.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labs.__main__ import described_shop
from labs.commands import Programs
from labs.errors import CommandFailed, LabError
from labs.finding import Finding, right, wrong
from labs.lab import Lab, Place, all_labs, lab_named
from labs.membership import Membership, membership_of
from labs.meshed import MeshedShop
from labs.progress import Attempt
from labs.readme import Language
from labs.report import CheckLine, line_of, report_of
from labs.runner import NOT_PASSED, Runner
from tests.unit.labs.fake import FakeCluster

OPTIONS = ("--mesh", "istio", "--namespace", "student-01", "--stripe-namespace", "student-01")
MEMBERSHIP = Membership(mesh="istio", options=OPTIONS, gateway_address="192.0.2.7:443")


def kubeconfig(folder: Path, extensions: Sequence[Any]) -> Path:
    file = folder / "kubeconfig"
    context = {"cluster": "there", "user": "me", "extensions": list(extensions)}
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "there", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [{"name": "here", "context": context}, {"name": "other", "context": {}}],
        "current-context": "here",
    }
    file.write_text(json.dumps(config), encoding="utf-8")
    return file


@pytest.mark.needs_programs("kubectl")
async def test_the_kubeconfig_says_where_the_shop_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_class = {"name": "meshmart", "extension": MEMBERSHIP.model_dump()}
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, [of_class])))
    membership = await membership_of(Programs())
    assert membership is not None
    assert (membership.mesh, tuple(membership.options), membership.gateway_address) == (
        "istio",
        OPTIONS,
        "192.0.2.7:443",
    )

    of_somebody_else = {"name": "minikube.sigs.k8s.io", "extension": {"version": "1"}}
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, [of_somebody_else])))
    assert await membership_of(Programs()) is None
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert await membership_of(Programs()) is None


class ReportingCluster(FakeCluster):
    """Keeps the reports for the board."""

    def __init__(self, *, forbids: bool = False) -> None:
        super().__init__()
        self.reports: list[Any] = []
        self._forbids = forbids

    async def run(self, *command: str, given: str | None = None, within_seconds: float = 0) -> str:
        if given and "meshmart-lab" in given:
            assert command[:3] == ("kubectl", "-n", "student-01")
            if self._forbids:
                raise CommandFailed("configmaps is forbidden")
            self.reports.append(json.loads(given))
            return ""
        return await super().run(*command, given=given, within_seconds=within_seconds)


def in_class(lab: Lab, *, place: str = "istio") -> Attempt:
    return Attempt.model_validate(
        {
            "lab": lab.name,
            "place": place,
            "started_ms": 1000,
            "mesh_options": OPTIONS,
            "gateway_address": "192.0.2.7:443",
            "is_in_class": True,
            "seed": 7,
        }
    )


async def checked(
    runner: Runner, findings: Sequence[Finding], monkeypatch: pytest.MonkeyPatch
) -> int:
    """Judges lab 06 with what its check is said to find."""
    lab = lab_named(runner.labs, "06")
    assert lab.meshed is not None

    async def check(_: object, shop: MeshedShop) -> Any:
        assert shop.where.namespace == "student-01"
        for finding in findings:
            yield finding

    monkeypatch.setattr(type(lab.meshed), "check", check)
    return await runner.check(None)


def runner_of(folder: Path, cluster: FakeCluster, said: list[str]) -> Runner:
    runner = Runner(
        all_labs(), folder / "labs.json", cluster, described_shop, said.append, settle_seconds=0
    )
    attempt = in_class(lab_named(runner.labs, "06"))
    runner.file.write_text(json.dumps({"under_way": json.loads(attempt.model_dump_json())}))
    return runner


async def test_every_check_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = ReportingCluster()
    runner = runner_of(tmp_path, cluster, [])

    findings = [right("it is open"), wrong("v2 gets nothing", "the routes")]
    assert await checked(runner, findings, monkeypatch) == NOT_PASSED

    report = report_of(cluster.reports[-1])
    assert (report.lab, report.place, report.checks, report.started_ms, report.seed) == (
        "06-canary",
        "istio",
        1,
        1000,
        7,
    )
    assert list(report.lines) == [
        CheckLine(is_right=True, what="it is open"),
        CheckLine(is_right=False, what="v2 gets nothing"),
    ]
    assert report.checked_ms is not None
    assert not report.passed

    assert await checked(runner, [right("all is right")], monkeypatch) == 0
    assert report_of(cluster.reports[-1]).passed["06-canary (istio)"].checks == 2
    # Not a lab's: what brings the base back leaves it there.
    assert cluster.reports[-1]["metadata"]["labels"] == {"meshmart/class": "report"}


async def test_a_check_counts_without_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    runner = runner_of(tmp_path, ReportingCluster(forbids=True), said)

    assert await checked(runner, [right("all is right")], monkeypatch) == 0
    assert said[-1] == "The report for the teacher's board was not written: configmaps is forbidden"


def test_a_long_line_is_cut() -> None:
    assert line_of(wrong("x" * 5000, "there")).what == "x" * 300 + " …"


def test_what_is_no_report_is_refused() -> None:
    for data in (None, {}, {"report.json": "{"}, {"report.json": '{"checks": "many"}'}):
        with pytest.raises(ValueError, match="validation error"):
            report_of({"data": data})


_ELSEWHERE = re.compile(
    r"ecommerce|istio-system|shop-ingress|127\.0\.0\.1:8443|-n stripe|stripe-sandbox\.stripe\b"
)


def student_in(mesh: Place, lab: Lab) -> Attempt:
    attempt = in_class(lab, place=mesh)
    attempt.mesh_options = ["--mesh", mesh, *OPTIONS[2:]]
    return attempt


def lines_with(pattern: re.Pattern[str], said: Sequence[str]) -> list[str]:
    return [line for text in said for line in text.splitlines() if pattern.search(line)]


@pytest.mark.parametrize("language", ["en", "nl"])
@pytest.mark.parametrize("mesh", ["istio", "linkerd"])
def test_what_readmes_have_students_type_is_about_their_own_shop(
    mesh: Place, language: Language
) -> None:
    said: list[str] = []
    runner = Runner(
        all_labs(),
        Path("none"),
        ReportingCluster(),
        described_shop,
        said.append,
        language=language,
    )
    for lab in runner.labs:
        if mesh in lab.places and not lab.changes_the_gateway:
            runner.readme(lab.number, None, student_in(mesh, lab))
    assert len(said) > 8
    assert lines_with(_ELSEWHERE, said) == []


@pytest.mark.parametrize("mesh", ["istio", "linkerd"])
def test_pages_about_the_gateway_are_about_the_shop_that_the_options_describe(mesh: Place) -> None:
    said: list[str] = []
    runner = Runner(all_labs(), Path("none"), ReportingCluster(), described_shop, said.append)
    at_gateway = [lab for lab in runner.labs if lab.changes_the_gateway]
    for lab in at_gateway:
        shop = student_in(mesh, lab).model_copy(update={"is_in_class": False})
        runner.readme(lab.number, mesh, shop)
    assert len(said) == len(at_gateway) > 0
    assert lines_with(re.compile("ecommerce"), said) == []


_HINTED = re.compile(r"`((?:kubectl|helm) [^`]+)`")


@pytest.mark.parametrize("mesh", ["istio", "linkerd"])
def test_hints_are_about_the_students_own_shop(mesh: Place, tmp_path: Path) -> None:
    said: list[str] = []
    runner = replace(runner_of(tmp_path, ReportingCluster(), said), settle_seconds=0)
    for lab in runner.labs:
        if mesh not in lab.places:
            continue
        attempt = student_in(mesh, lab)
        runner.file.write_text(json.dumps({"under_way": json.loads(attempt.model_dump_json())}))
        for _ in lab.hints:
            runner.hint(None)
    assert len(said) > 30
    assert lines_with(re.compile("ecommerce|-n stripe| -k mesh/"), said) == []


@pytest.mark.parametrize("lab", all_labs(), ids=lambda lab: lab.name)
def test_commands_of_hints_work_as_they_stand(lab: Lab) -> None:
    """They stand between backquotes, where they are rewritten, and name the namespace unless the
    files that they apply do.
    """
    for place in lab.places:
        for hint in lab.hints_in(place):
            commands = _HINTED.findall(hint)
            assert hint.count("kubectl ") + hint.count("helm ") == sum(
                each.count("kubectl ") + each.count("helm ") for each in commands
            ), hint
            for command in commands:
                assert "-n ecommerce" in command or " -k mesh/" in command, command


@pytest.mark.parametrize("lab", all_labs(), ids=lambda lab: lab.name)
def test_a_lab_names_no_namespace_but_in_its_hints(lab: Lab) -> None:
    """What a check says, and what a solution changes, is about the shop that it is given."""
    code = ast.parse((lab.folder / "lab.py").read_text(encoding="utf-8"))
    hints = {
        part
        for each in ast.walk(code)
        if isinstance(each, ast.keyword) and each.arg == "hints"
        for part in ast.walk(each)
    }
    texts = [
        each.value
        for each in ast.walk(code)
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and each not in hints
    ]
    assert [text for text in texts if "ecommerce" in text] == []


async def test_in_a_class_the_mesh_need_not_be_said(tmp_path: Path) -> None:
    said: list[str] = []
    runner = Runner(
        all_labs(), tmp_path / "labs.json", ReportingCluster(), described_shop, said.append
    )
    lab = lab_named(runner.labs, "06")

    runner.readme("06", None, in_class(lab))

    text = said[-1]
    assert "kubectl -n student-01 get pods" in text
    assert "--connect-to student-01.example.com:443:192.0.2.7:443" in text
    assert "the line `192.0.2.7 student-01.example.com`" in text
    assert "the mesh page `https://student-01.example.com:443/mesh`" in text
    for other in (
        "ecommerce",
        "second terminal",
        "<details>",
        "port-forward",
        "```sh linkerd",
        "traefik",
        "127.0.0.1:8443",
    ):
        assert other not in text, other
    assert all(title in text for title in lab.readme.sections)

    with pytest.raises(LabError, match="Lab 06 needs a mesh"):
        runner.readme("06", None, Attempt(lab="", place="local", started_ms=0))
    with pytest.raises(LabError, match="Lab 15 changes the gateway, which all of your class"):
        runner.readme("15", None, in_class(lab))
    runner.readme("00", None, in_class(lab))
    assert said[-1].startswith("# 00 ")

    runner.readme("01", None, in_class(lab))
    assert "On this machine" not in said[-1].partition("## Your turn")[0]
    before, answers = said[-1].split("## Answers")
    assert "1. One in ten of a hundred requests" in before
    assert "1. On one machine each caller takes turns" in answers


async def test_in_a_class_start_names_the_command_that_prints_the_hand_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    runner = replace(runner_of(tmp_path, ReportingCluster(), said), settle_seconds=0)
    lab = lab_named(runner.labs, "06")
    assert lab.meshed is not None

    async def nothing(*_: object) -> None:
        """The shop is in any state."""

    async def check(*_: object) -> Any:
        yield wrong("v2 gets nothing", "the routes")

    for name in ("start", "solve"):
        monkeypatch.setattr(type(lab.meshed), name, nothing)
    monkeypatch.setattr(type(lab.meshed), "check", check)
    await runner.start("06", None, in_class(lab))
    await runner.solve(None)

    (begins,) = [line for line in said if line.startswith("Begin with")]
    assert begins.startswith("Begin with .venv/bin/python -m labs readme 06; then")
    assert ".venv/bin/python -m labs readme 06 explains why" in said[-1]
