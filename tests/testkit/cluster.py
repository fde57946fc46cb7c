"""A Kubernetes cluster, whichever KUBECONFIG points at, through the commands that people use."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm"

_COMMAND_SECONDS = 300.0
# Charts are rendered for the oldest Kubernetes that they are for, whatever the cluster is.
_KUBERNETES = "1.32.0"

Object = Mapping[str, Any]


class CommandFailed(AssertionError):
    """A command ended with an error; the message is what it said."""


def run(*command: str, given: str | None = None, within_seconds: float = _COMMAND_SECONDS) -> str:
    """What a command prints.

    :param given: its standard input.
    :raises CommandFailed: it ended with an error.
    """
    done = subprocess.run(
        command,
        input=given,
        capture_output=True,
        text=True,
        timeout=within_seconds,
        cwd=ROOT,
        check=False,
    )
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(command)}: {done.stderr.strip()} {done.stdout.strip()}")
    return done.stdout


def run_chart(*arguments: str) -> str:
    """What the chart makes of values, as YAML, hooks and tests included; no cluster is asked."""
    return run(
        *("helm", "template", "shop", str(CHART), "--namespace", "ecommerce"),
        *("--kube-version", _KUBERNETES),
        *arguments,
    )


def render(*arguments: str) -> list[Object]:
    """The same, as objects."""
    documents = yaml.load_all(run_chart(*arguments), Loader=yaml.CSafeLoader)
    return [document for document in documents if document]


class Namespace:
    """One namespace of the cluster."""

    def __init__(self, name: str) -> None:
        self.name = name

    def kubectl(
        self, *arguments: str, given: str | None = None, within_seconds: float = _COMMAND_SECONDS
    ) -> str:
        """What ``kubectl`` prints."""
        return run(
            "kubectl", "-n", self.name, *arguments, given=given, within_seconds=within_seconds
        )

    def helm(self, *arguments: str) -> str:
        """What ``helm`` prints."""
        return run("helm", "-n", self.name, *arguments)

    def objects(self, kind: str, selector: str = "") -> Sequence[Any]:
        """All objects of a kind, or of several: ``pods,services``."""
        labels = ["-l", selector] if selector else []
        return json.loads(self.kubectl("get", kind, *labels, "-o", "json"))["items"]

    def object(self, kind: str, name: str) -> Any:
        """One object."""
        return json.loads(self.kubectl("get", kind, name, "-o", "json"))

    def secret(self, name: str, key: str) -> str:
        """One value of a Secret."""
        template = f"{{{{index .data {json.dumps(key)} | base64decode}}}}"
        return self.kubectl("get", "secret", name, "-o", f"go-template={template}")

    def roll_out(self, workload: str) -> None:
        """Waits until all pods of a workload, ``deployment/NAME`` say, are those wanted now."""
        self.kubectl("rollout", "status", workload, f"--timeout={_COMMAND_SECONDS:.0f}s")

    @contextmanager
    def forwarded(self, target: str, port: int) -> Generator[str]:
        """``127.0.0.1:PORT`` of this machine that leads to a port of a service or pod."""
        process = subprocess.Popen(
            ["kubectl", "-n", self.name, "port-forward", target, f":{port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.search(r"127\.0\.0\.1:\d+", line)
            assert match is not None, f"kubectl port-forward {target}: {line}"
            yield match.group()
        finally:
            process.terminate()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
