"""What holds for all tests: nothing of the machine matters, and on CI no test is skipped."""

import os
from collections.abc import Generator
from typing import TypeVar

import hypothesis
import pytest
import structlog

from tests.harness.ports import give_back_ports

ON_CI = bool(os.environ.get("CI"))
# Settings of the person who runs the tests: a real key must not be charged, no real mail sent.
SETTINGS_OF_OTHERS = ("STRIPE_", "SMTP_", "OTEL_")

# Examples are the same in each run; how long one takes depends on what else the machine does.
hypothesis.settings.register_profile("meshmart", deadline=None, derandomize=True)
hypothesis.settings.load_profile("meshmart")


# Tracebacks in colour, with all locals, cost a second each.
structlog.configure(
    processors=[
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


def pytest_configure() -> None:
    for name in [name for name in os.environ if name.startswith(SETTINGS_OF_OTHERS)]:
        del os.environ[name]


@pytest.fixture(autouse=True)
def no_port_is_kept() -> Generator[None]:
    """Ports that a test has taken are others' again after it."""
    yield
    give_back_ports()


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
