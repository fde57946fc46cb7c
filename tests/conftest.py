"""What holds for all tests: nothing of the machine matters, and on CI no test is skipped."""

import functools
import logging
import os
import shutil
import subprocess
from collections.abc import AsyncGenerator, Generator
from typing import TypeVar

import aiohttp
import hypothesis
import pytest
import structlog

from tests.testkit.hunt import Hunter, SecretTold
from tests.testkit.parts import Part, part
from tests.testkit.ports import give_back_ports

ON_CI = bool(os.environ.get("CI"))
# Settings of the person who runs the tests: a real key must not be charged, no real mail sent.
SETTINGS_OF_OTHERS = ("STRIPE_", "SMTP_", "OTEL_")
# Programs that only developers of a part have, and no package registry of Python or Debian brings.
PROGRAMS_OF_SOME = (
    "actionlint",
    "docker compose",
    "helm",
    "kubectl",
    "prometheus",
    "promtool",
    "skaffold",
)

# Examples are the same in each run; how long one takes depends on what else the machine does.
hypothesis.settings.register_profile("meshmart", deadline=None, derandomize=True)
hypothesis.settings.load_profile("meshmart")

# Searches what the tests' own process logs, traces and counts.
HUNTER = Hunter()
HUNTER.watch()
logging.getLogger().addHandler(HUNTER)

# Tracebacks in colour, with all locals, cost a second each.
structlog.configure(
    processors=[
        HUNTER,
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--mesh",
        choices=("istio", "linkerd", "none"),
        default="istio",
        help="which mesh tests/mesh is about",
    )
    parser.addoption(
        "--checkouts",
        type=int,
        default=2000,
        help="how many checkouts a run of the long tests has: chaos, a backlog",
    )
    parser.addoption(
        "--part",
        type=part,
        metavar="K/N",
        help="of the tests marked in_turn only every Nth from the Kth on",
    )


def pytest_configure() -> None:
    for name in [name for name in os.environ if name.startswith(SETTINGS_OF_OTHERS)]:
        del os.environ[name]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is about a program that is not there, of which the summary tells, and what
    other parts run.
    """
    part: Part | None = config.option.part
    in_turn = [item for item in items if item.get_closest_marker("in_turn")]
    left_out = [] if part is None else [item for item in in_turn if item not in part.of(in_turn)]
    left_out += [
        item
        for item in items
        for marker in item.iter_markers("needs_programs")
        if not set(_missing_programs()).isdisjoint(marker.args)
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if missing := _missing_programs():
        terminalreporter.write_line(
            f"Not here, so the tests that need them are not run: {', '.join(missing)}"
        )


@functools.cache
def _missing_programs() -> list[str]:
    return [name for name in PROGRAMS_OF_SOME if not _is_there(*name.split())]


def _is_there(program: str, *plugin: str) -> bool:
    if shutil.which(program) is None:
        return False
    return (
        not plugin
        or not subprocess.run(
            [program, *plugin, "version"], capture_output=True, check=False
        ).returncode
    )


@pytest.fixture(scope="session")
def checkouts(pytestconfig: pytest.Config) -> int:
    """How many checkouts a run of a long test has."""
    return pytestconfig.option.checkouts


@pytest.fixture
async def http() -> AsyncGenerator[aiohttp.ClientSession]:
    """HTTP connections of the test, as many as it wants."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


@pytest.fixture(autouse=True)
def no_port_is_kept() -> Generator[None]:
    """Ports that a test has taken are others' again after it."""
    yield
    give_back_ports()


@pytest.fixture(autouse=True)
def no_secret_is_told() -> Generator[None]:
    """What a test makes the shop say in this process tells no secret (tests/testkit/hunt.py)."""
    yield
    if told := HUNTER.take():
        raise SecretTold("\n".join(told))
    assert HUNTER in logging.getLogger().handlers, "the test has turned the hunt for secrets off"
    assert HUNTER in structlog.get_config()["processors"], "the test has turned the hunt off"


@pytest.fixture
def process_as_before() -> Generator[None]:
    """For tests of what sets up its process: the next test finds logs and umask as they were."""
    root = logging.getLogger()
    handlers, level, config = root.handlers, root.level, structlog.get_config()
    umask = os.umask(0o077)
    os.umask(umask)
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers, root.level = handlers, level
    structlog.configure(**config)
    os.umask(umask)


@pytest.fixture
def hunter() -> Hunter:
    """For tests that plant a secret: takes what was found."""
    return HUNTER


Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def _refuse_skip(report: Report) -> Report:
    if ON_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: something it needs is missing: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _refuse_skip((yield))
