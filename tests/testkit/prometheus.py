"""A real Prometheus with rules of ours and a past that it has not lived through."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml

from services.common.listening import LOOPBACK
from tests.testkit.ports import free_port
from tests.testkit.process import ServerProcess

_TARGETS = "targets.json"
_ANSWER_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Target:
    """Whom it reads: ``host:port`` and the labels that every series of it gets."""

    address: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Counted:
    """A counter that has grown evenly for a long time."""

    metric: str
    labels: Mapping[str, str]
    per_second: float


class Prometheus:
    """One process, found as ``prometheus`` and ``promtool`` on the PATH.

    :param folder: where its data and its log are.
    :param rules: the contents of its files of rules.
    :param interval_seconds: how often it reads its targets and judges the rules.
    """

    def __init__(
        self,
        folder: Path,
        rules: Sequence[Mapping[str, Any]],
        *,
        interval_seconds: float,
    ) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._process = ServerProcess("Prometheus", folder / "log")
        self.address = f"{LOOPBACK}:{free_port()}"
        for number, content in enumerate(rules):
            (folder / f"rules-{number}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        interval = f"{round(interval_seconds * 1000)}ms"
        configuration = {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "evaluation_interval": interval,
            },
            "rule_files": ["rules-*.yaml"],
            "scrape_configs": [{"job_name": "shops", "file_sd_configs": [{"files": [_TARGETS]}]}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")

    def __enter__(self) -> Self:
        self._process.start(
            [
                _program("prometheus"),
                f"--config.file={self._folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self._data}",
                "--storage.tsdb.retention.time=15d",
                f"--web.listen-address={self.address}",
            ],
            self._is_ready,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    def remember(self, past: Sequence[Counted], *, seconds: float, step_seconds: float) -> None:
        """Gives it a past that ends now; before it is started."""
        now = time.time()
        lines: list[str] = []
        for metric in dict.fromkeys(counted.metric for counted in past):
            lines.append(f"# TYPE {metric.removesuffix('_total')} {_kind(metric)}")
            for counted in past:
                if counted.metric == metric:
                    lines.extend(_samples(counted, now - seconds, now, step_seconds))
        file = self._folder / "past"
        file.write_text("\n".join([*lines, "# EOF", ""]), encoding="utf-8")
        subprocess.run(
            [_program("promtool"), "tsdb", "create-blocks-from", "openmetrics", file, self._data],
            check=True,
            capture_output=True,
        )

    def read(self, targets: Iterable[Target]) -> None:
        """Tells it whom to read from now on."""
        groups = [
            {"targets": [target.address], "labels": dict(target.labels)} for target in targets
        ]
        written = self._folder / "targets.new"
        written.write_text(json.dumps(groups), encoding="utf-8")
        written.replace(self._folder / _TARGETS)

    async def firing(self) -> list[Mapping[str, str]]:
        """The labels of each alert that fires now, its name among them."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{self.address}/api/v1/alerts") as response,
        ):
            body = await response.json()
        return [each["labels"] for each in body["data"]["alerts"] if each["state"] == "firing"]

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(self.address, timeout=_ANSWER_SECONDS)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == 200
        return False

    @property
    def _data(self) -> Path:
        return self._folder / "data"


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is not on the PATH"
    return found


def _kind(metric: str) -> str:
    return "counter" if metric.endswith("_total") else "unknown"


def _samples(counted: Counted, begin: float, end: float, step_seconds: float) -> Iterable[str]:
    labels = ",".join(f'{name}="{value}"' for name, value in counted.labels.items())
    steps = int((end - begin) / step_seconds)
    for step in range(steps + 1):
        at = begin + step * step_seconds
        yield f"{counted.metric}{{{labels}}} {step * step_seconds * counted.per_second} {at:.3f}"
