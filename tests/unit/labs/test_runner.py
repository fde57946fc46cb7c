"""Every command of the runner, with labs that are made here and a cluster that is none."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import pytest
from aiohttp import web

from labs.__main__ import described_shop, main
from labs.errors import LabError
from labs.finding import Finding, are_all_right, judged, right, wrong
from labs.lab import Lab, LocalExercise, MeshedExercise, Place, lab_named
from labs.local import LocalShop
from labs.meshed import MeshedShop
from labs.progress import Attempt, default_file, read_progress
from labs.readme import Language
from labs.runner import NOT_PASSED, Runner, Work
from tests.testkit.waiting import eventually
from tests.unit.labs.fake import FakeCluster
from tools.certificate import self_signed

README = """# {number} {title}

| | |
|---|---|
| minutes | 5 |
| lesson | x |
| scenario | x |
| read | x |
| watch | x |

## Goal
## Predict
## Steps
## Your turn
## What happened, and why
## Questions
## Clean up
"""
RULE = ("DestinationRule", "ecommerce", "lab")


class Here(LocalExercise):
    """Needs no shop at all."""

    def __init__(self) -> None:
        self.is_solved = False

    async def start(self, shop: LocalShop) -> None:
        self.is_solved = False

    async def solve(self, shop: LocalShop) -> None:
        self.is_solved = True

    async def check(self, shop: LocalShop) -> AsyncIterator[Finding]:
        yield judged(self.is_solved, "it is solved", "it is not solved", "the solution")


class There(MeshedExercise):
    """Wants a rule in the cluster that the start makes, and another value in it."""

    seeds: ClassVar[list[int]] = []

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        self.seeds.append(shop.seed)
        found = await shop.objects("destinationrules")
        hosts = {each["metadata"]["name"]: each["spec"].get("host") for each in found}
        is_right = hosts.get("lab") == "right"
        yield judged(is_right, "the host is right", f"it is {hosts.get('lab')}", "the rule")


@dataclass
class StudentSession:
    """A student with two labs."""

    runner: Runner
    cluster: FakeCluster
    said: list[str] = field(default_factory=list[str])

    async def start(self, lab: str, mesh: Place | None = None) -> None:
        options = Attempt(lab="", place="local", started_ms=0, mesh_options=["--mesh", "istio"])
        await self.runner.start(lab, mesh, options)

    async def reset(self, mesh: Place | None = None) -> None:
        await self.runner.reset(mesh, Attempt(lab="", place="local", started_ms=0))

    def took(self) -> str:
        """What was said since it was last asked."""
        text = "\n".join(self.said)
        self.said.clear()
        return text


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncGenerator[str]:
    """Where the shop is open."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({})

    certificate = self_signed("ecommerce.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    application = web.Application()
    application.router.add_get("/api/products", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    file = tmp_path / "certificate.pem"
    file.write_bytes(certificate.certificate_and_key)
    context.load_cert_chain(file)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port: int = runner.addresses[0][1]
    yield f"127.0.0.1:{port}"
    await runner.cleanup()


@pytest.fixture
def desk(tmp_path: Path, gateway: str) -> StudentSession:
    local, meshed = tmp_path / "00-here", tmp_path / "03-there"
    for folder, title in ((local, "Here"), (meshed, "There")):
        folder.mkdir()
        number = folder.name.partition("-")[0]
        text = README.format(number=number, title=title)
        (folder / "README.md").write_text(text, encoding="utf-8")
    for state, host in (("start", "wrong"), ("solution", "right")):
        folder = meshed / state / "istio"
        folder.mkdir(parents=True)
        (folder / "rule.yaml").write_text(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
            f"metadata: {{name: lab, namespace: ecommerce}}\nspec: {{host: {host}}}\n",
            encoding="utf-8",
        )
    labs = [
        Lab(local, ("look", "look there"), local=Here(), not_in={"istio": "it is about here"}),
        Lab(
            meshed,
            ({"istio": "in Istio", "linkerd": "in Linkerd"},),
            meshed=There(meshed),
            not_in={"linkerd": "Linkerd has no such rule"},
        ),
    ]
    cluster = FakeCluster(gateway=gateway)
    said: list[str] = []
    runner = Runner(
        labs,
        tmp_path / "state" / "labs.json",
        cluster,
        described_shop,
        said.append,
        settle_seconds=0,
    )
    return StudentSession(runner, cluster, said)


async def test_a_lab_without_a_cluster_from_start_to_reset(desk: StudentSession) -> None:
    desk.runner.list_labs()
    assert "00  Here, 5 minutes: local\n03  There, 5 minutes: istio" in desk.took()

    await desk.start("0")
    assert "Begin with labs/00-here/README.md" in desk.took()
    assert await desk.runner.check(None) == NOT_PASSED
    assert desk.took() == (
        "  WRONG  it is not solved. Look at the solution.\n"
        "Not yet. A hint: .venv/bin/python -m labs hint"
    )

    desk.runner.hint("00")
    assert desk.took() == "Hint 1 of 2: look"
    for _ in range(2):
        desk.runner.hint(None)
        assert desk.took().startswith("Hint 2 of 2: look there\nThere are no more.")

    await desk.runner.solve("here")
    assert await desk.runner.check("00-here") == 0
    assert "  right  it is solved\nLab 00 is passed." in desk.took()

    desk.runner.progress()
    assert "Under way: 00-here (local)" in (said := desk.took())
    assert "00-here (local): solved by the runner after 0 minutes, 2 checks, 2 hints" in said
    await desk.reset()
    assert "Everything is as it was before the labs" in desk.took()
    desk.runner.list_labs()
    assert "local (passed)" in desk.took()


@pytest.mark.needs_programs("kubectl")
async def test_a_lab_in_a_mesh_from_start_to_reset(desk: StudentSession) -> None:
    await desk.start("03", "istio")
    assert desk.cluster.objects[RULE]["spec"] == {"host": "wrong"}
    assert await desk.runner.check(None) == NOT_PASSED
    assert "WRONG  it is wrong. Look at the rule." in desk.took()
    desk.runner.hint(None)
    assert "Hint 1 of 1: in Istio" in desk.took()

    await desk.runner.solve(None)
    assert await desk.runner.check(None) == 0

    await desk.reset("istio")
    assert RULE not in desk.cluster.objects
    assert read_progress(desk.runner.file).under_way is None
    assert any(
        line == "port-forward istio-system service/istio-ingressgateway 443"
        for line in desk.cluster.said
    )


@pytest.mark.needs_programs("kubectl")
async def test_a_check_waits_for_a_change_to_take_effect(
    desk: StudentSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labs.runner._LOOK_AGAIN_SECONDS", 0.01)
    patient = replace(desk.runner, settle_seconds=30.0)
    await desk.start("03", "istio")
    desk.took()
    checking = asyncio.create_task(patient.check(None))

    async def looks_again() -> bool:
        return bool(desk.said)

    await eventually(looks_again, "the check looks again")
    await patient.solve(None)
    assert await checking == 0
    assert "WRONG" not in desk.took()


@dataclass
class _StopsShort(Here):
    """Finds something, and then its check cannot go on."""

    finding: Finding

    async def check(self, shop: LocalShop) -> AsyncIterator[Finding]:
        yield self.finding
        raise LabError("The pod is gone:\nstart again.")


async def test_what_is_known_to_be_wrong_is_told_though_the_check_stops(tmp_path: Path) -> None:
    known = wrong("it is not solved", "the solution")
    findings = await Work(_StopsShort(known), LocalShop(tmp_path)).check()

    assert findings[0] == known
    assert [str(each) for each in findings[1:]] == [
        "  WRONG  the check stops here: The pod is gone: start again. "
        "Look at the wrong lines above, and fix those first."
    ]


async def test_a_check_that_stops_and_knows_of_no_mistake_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="The pod is gone"):
        await Work(_StopsShort(right("so far")), LocalShop(tmp_path)).check()


@pytest.mark.parametrize(
    ("looks", "status"),
    [
        ([True], 0),
        ([False, True, True], 0),
        ([False, True, False, True, True], 0),
        ([False, True, False, True, False], NOT_PASSED),
        ([False, False, True, False], NOT_PASSED),
    ],
)
async def test_a_wrong_share_that_looks_right_once_does_not_pass(
    desk: StudentSession, monkeypatch: pytest.MonkeyPatch, looks: list[bool], status: int
) -> None:
    monkeypatch.setattr("labs.runner._LOOK_AGAIN_SECONDS", 0)
    await desk.start("00")
    left = iter(looks)
    monkeypatch.setattr(Here, "is_solved", property(lambda _: next(left, False)), raising=False)
    patient = replace(desk.runner, settle_seconds=0.2)

    assert await patient.check(None) == status
    assert status or next(left, None) is None, "no look more than it takes"


@pytest.mark.needs_programs("kubectl")
async def test_what_was_drawn_by_lot_is_remembered(desk: StudentSession) -> None:
    There.seeds.clear()
    options = Attempt(lab="", place="local", started_ms=0, mesh_options=["--mesh", "istio"], seed=7)
    await desk.runner.start("03", "istio", options)
    await desk.runner.check(None)

    assert set(There.seeds) == {7}


@pytest.mark.usefixtures("process_as_before")
def test_the_seed_is_given_or_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    async def start(_: Runner, lab: str, mesh: Place | None, options: Attempt) -> None:
        assert (lab, mesh) == ("17", "istio")
        seeds.append(options.seed)

    monkeypatch.setattr(Runner, "start", start)
    for more in (["--seed", "7"], ["--seed", "0"], *([[]] * 4)):
        assert main(["start", "17", "--mesh", "istio", *more]) == 0

    assert seeds[:2] == [7, 0]
    assert len(set(seeds[2:])) > 1


@pytest.mark.usefixtures("process_as_before")
@pytest.mark.parametrize(
    ("lang", "file"),
    [("nl_NL.UTF-8", "README.nl.md"), ("en_GB.UTF-8", "README.md"), ("", "README.md")],
)
async def test_it_names_the_hand_out_in_the_users_language(
    desk: StudentSession, monkeypatch: pytest.MonkeyPatch, lang: str, file: str
) -> None:
    languages: list[Language] = []

    def progress(runner: Runner) -> None:
        languages.append(runner.language)

    monkeypatch.setattr(Runner, "progress", progress)
    monkeypatch.setenv("LANG", lang)
    assert await asyncio.to_thread(main, ["progress"]) == 0
    (language,) = languages

    desk.runner = replace(desk.runner, language=language)
    await desk.start("00")
    assert f"Begin with labs/00-here/{file};" in desk.took()
    await desk.runner.solve(None)
    assert f"labs/00-here/{file} explains why." in desk.took()


async def test_what_cannot_be_done_is_said_in_one_sentence(desk: StudentSession) -> None:
    with pytest.raises(
        LabError, match=r"No lab is under way: .venv/bin/python -m labs start 00 begins one"
    ):
        await desk.runner.check(None)
    with pytest.raises(LabError, match="No lab is under way; to bring the base of a mesh back"):
        await desk.reset()
    with pytest.raises(LabError, match="There is no lab '7'; there are 00, 03"):
        await desk.start("7")
    with pytest.raises(LabError, match="Lab 00 is not in Istio: it is about here"):
        await desk.start("00", "istio")
    with pytest.raises(LabError, match="Lab 00 is not in Linkerd: it needs none"):
        await desk.start("00", "linkerd")
    with pytest.raises(LabError, match="Lab 03 needs a mesh; say which: --mesh istio"):
        await desk.start("03")
    with pytest.raises(LabError, match="Lab 03 is not in Linkerd: Linkerd has no such rule"):
        await desk.start("03", "linkerd")
    await desk.start("00")
    with pytest.raises(
        LabError, match=r"Under way is 00-here \(local\): .venv/bin/python -m labs start 03"
    ):
        await desk.runner.check("03")
    desk.runner.file.write_text("{", encoding="utf-8")
    with pytest.raises(LabError, match="cannot be read; delete it to begin again"):
        await desk.runner.check(None)


def test_a_check_that_has_looked_at_nothing_passes_nobody() -> None:
    assert not are_all_right([])
    assert are_all_right([right("this")])


def test_a_lab_is_meant_by_its_number_or_its_name(desk: StudentSession) -> None:
    for given in ("3", "03", "there", "03-there"):
        assert lab_named(desk.runner.labs, given).number == "03"


@pytest.mark.usefixtures("process_as_before")
def test_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_file() == tmp_path / "meshmart" / "labs.json"

    assert main(["list"]) == 0
    assert "00  Kill what you like, pay once" in capsys.readouterr().out
    assert main(["progress"]) == 0
    assert "Nothing yet" in capsys.readouterr().out
    assert main(["check"]) == 2
    assert capsys.readouterr().err == (
        "No lab is under way: .venv/bin/python -m labs start 00 begins one.\n"
    )
    assert main(["start", "03"]) == 2
    assert "say which: --mesh istio or --mesh linkerd" in capsys.readouterr().err
    assert main(["start", "00", "--mesh", "istio"]) == 2
    assert "Lab 00 is not in Istio" in capsys.readouterr().err
    assert main(["reset", "--mesh", "linkerd", "--namespace", "No_Name"]) == 2
    assert "'No_Name' is no name of a namespace." in capsys.readouterr().err


async def test_the_first_of_several_checks_that_pass_counts(desk: StudentSession) -> None:
    await desk.start("00")
    await desk.runner.solve(None)
    for _ in range(2):
        assert await desk.runner.check(None) == 0
    (passed,) = read_progress(desk.runner.file).passed.values()
    assert passed.checks == 1

    await desk.start("00")
    assert await desk.runner.check(None) == NOT_PASSED
    await desk.runner.solve(None)
    assert await desk.runner.check(None) == 0
    (passed,) = read_progress(desk.runner.file).passed.values()
    assert passed.checks == 2


def test_a_reader_that_has_read_enough_ends_it_without_a_word(tmp_path: Path) -> None:
    told = tmp_path / "stderr"
    command = f"{sys.executable} -m labs readme 00 2> {told} | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)

    assert done.stdout == "# 00 Kill what you like, pay once\n"
    assert told.read_text(encoding="utf-8") == ""
