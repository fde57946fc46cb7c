"""The load test in a cluster: ``python -m tools.load_cluster``.

One Job is locust's master, another one its workers. They come in by the shop's gateway, as people
do, from a namespace of their own. The run's record comes back by the master's log, and its reports
are written here.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from loadtest import report
from loadtest.books import AuditResult
from loadtest.recording import RunRecord
from loadtest.thresholds import balance
from tools import cluster_audit
from tools.certificate import HOST, NAMESPACE
from tools.mesh.render import gateway_of
from tools.observability.settings import LOAD_PORT
from tools.programs import ToolCommands, ToolPrograms, give_up, need

MeshChoice = Literal["none", "istio", "linkerd"]
_NAME = "load"
_MASTER = f"{_NAME}-master"
_WORKER = f"{_NAME}-worker"
_LABELS = {"app.kubernetes.io/name": _NAME, "app.kubernetes.io/part-of": "meshmart"}
_COMPONENT = "app.kubernetes.io/component"
_IMAGE = "meshmart-load:0.1.0"
# locust's own, between the master and its workers.
_MASTER_PORT = 5557
_START_SECONDS = 180
_POLL_SECONDS = 1.0
_SCRAPED = {"prometheus.io/scrape": "true", "prometheus.io/port": str(LOAD_PORT)}


class LoadTarget(NamedTuple):
    """The way to a shop, from inside of its cluster.

    :ivar host: its public host, if `base_url` is the address of a gateway.
    """

    base_url: str
    host: str = ""

    @property
    def options(self) -> Sequence[str]:
        """The same as options of the load test."""
        host = ("--host-header", self.host, "--insecure") if self.host else ()
        return ("--host", self.base_url, *host)


def target_of(mesh: MeshChoice, namespace: str) -> LoadTarget:
    """Returns the way in: the mesh's gateway, or without a mesh the frontend."""
    if mesh == "none":
        return LoadTarget(f"http://frontend.{namespace}")
    gateway = gateway_of("traefik" if mesh == "linkerd" else "istioctl", namespace)
    host = HOST if namespace == NAMESPACE else f"{namespace}.example.com"
    return LoadTarget(f"https://{gateway.service}.{gateway.namespace}", host)


def manifests(
    *,
    namespace: str,
    image: str,
    workers: int,
    mesh: MeshChoice,
    is_meshed: bool,
    options: Sequence[str],
) -> list[dict[str, Any]]:
    """Returns the two Jobs, and what they need.

    :param mesh: the cluster's mesh.
    :param is_meshed: whether the pods have a proxy of the mesh.
    :param options: of the load test.
    """
    labels, annotations = _injection(mesh, is_meshed=is_meshed)
    # Only the master has the figures of the run, so only it is scraped.
    master = _pod(
        _MASTER,
        image,
        [
            *("--master", "--expect-workers", str(workers), "--expect-workers-max-wait", "120"),
            *("--metrics-port", str(LOAD_PORT), "--metrics-host", "0.0.0.0"),  # noqa: S104  for Prometheus
            *options,
        ],
        {"master": _MASTER_PORT, "metrics": LOAD_PORT},
        labels,
        {**annotations, **_SCRAPED},
    )
    arguments = ["--worker", "--master-host", _MASTER, *options]
    worker = _pod(_WORKER, image, arguments, {}, labels, annotations)
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": _MASTER, "namespace": namespace, "labels": _LABELS},
            "spec": {
                "clusterIP": "None",
                "publishNotReadyAddresses": True,
                "selector": {**_LABELS, _COMPONENT: _MASTER},
                "ports": [{"name": "tcp-master", "port": _MASTER_PORT}],
            },
        },
        _job(_MASTER, namespace, master, pods=1),
        _job(_WORKER, namespace, worker, pods=workers),
    ]


def _pod(
    component: str,
    image: str,
    arguments: Sequence[str],
    ports: Mapping[str, int],
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
) -> dict[str, Any]:
    """Returns the template of a pod.

    :param ports: those that it opens, by name.
    """
    container = {
        "name": _NAME,
        "image": image,
        "command": ["locust", "--config", "loadtest/locust.conf"],
        "args": list(arguments),
        "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"cpu": "1", "memory": "512Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108  the pod's own
    }
    return {
        "metadata": {
            "labels": {**_LABELS, _COMPONENT: component, **labels},
            "annotations": dict(annotations),
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }


def _job(name: str, namespace: str, pod: Mapping[str, Any], *, pods: int) -> dict[str, Any]:
    """Returns a Job that runs some equal pods at once, and none of them again."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "labels": _LABELS},
        "spec": {"completions": pods, "parallelism": pods, "backoffLimit": 0, "template": pod},
    }


def _injection(mesh: MeshChoice, *, is_meshed: bool) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Returns labels and annotations that a mesh reads. The pods among themselves need no proxy."""
    if not is_meshed or mesh == "none":
        return {"sidecar.istio.io/inject": "false"}, {"linkerd.io/inject": "disabled"}
    ports = f"{_MASTER_PORT},{LOAD_PORT}"
    if mesh == "istio":
        return {"sidecar.istio.io/inject": "true"}, {
            "traffic.sidecar.istio.io/excludeInboundPorts": ports,
            "traffic.sidecar.istio.io/excludeOutboundPorts": str(_MASTER_PORT),
            "prometheus.istio.io/merge-metrics": "false",
        }
    return {}, {
        "linkerd.io/inject": "enabled",
        "config.linkerd.io/skip-inbound-ports": ports,
        "config.linkerd.io/skip-outbound-ports": str(_MASTER_PORT),
        # A proxy that is not a native sidecar would keep the Job from ending.
        "config.beta.linkerd.io/proxy-enable-native-sidecar": "true",
    }


class LoadJobs:
    """The Jobs in a cluster.

    :param namespace: its own.
    """

    def __init__(self, commands: ToolCommands, namespace: str) -> None:
        self._commands = commands
        self._namespace = namespace

    def start(self, objects: Sequence[Mapping[str, Any]]) -> None:
        """Starts them, instead of those of a run before, and waits for the master.

        :raises subprocess.CalledProcessError: they do not start.
        """
        kubectl = ("kubectl", "-n", self._namespace)
        selector = f"app.kubernetes.io/name={_NAME}"
        self._commands.run(*kubectl, "delete", "jobs", "-l", selector, "--wait")
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self._commands.run("kubectl", "apply", "-f", "-", given=json.dumps(listed))
        until = time.monotonic() + _START_SECONDS
        while not self._master():
            if time.monotonic() > until:
                give_up(f"The master has no pod after {_START_SECONDS} s.")
            time.sleep(_POLL_SECONDS)
        ready = ("--for=condition=Ready", f"--timeout={_START_SECONDS}s")
        self._commands.run(*kubectl, "wait", "pod", self._master(), *ready)

    def follow(self) -> RunRecord:
        """Prints what the master prints, but for the record, which it returns."""
        kubectl = ["kubectl", "-n", self._namespace, "logs", "-f", self._master(), "-c", _NAME]
        record: RunRecord | None = None
        with subprocess.Popen(kubectl, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None, "it is a pipe"
            for line in process.stdout:
                if line.startswith('{"label":'):
                    record = RunRecord.model_validate_json(line)
                else:
                    print(line, end="", flush=True)
        if record is None:
            give_up(f"The run left no record: kubectl -n {self._namespace} describe pods")
        return record

    def remove(self) -> None:
        """Removes them with their namespace."""
        self._commands.run("kubectl", "delete", "namespace", self._namespace, "--wait=false")

    def _master(self) -> str:
        """Returns the name of the master's pod; empty while there is none."""
        return self._commands.output(
            *("kubectl", "-n", self._namespace, "get", "pods", "-l", f"job-name={_MASTER}"),
            *("-o", "jsonpath={.items[*].metadata.name}"),
        ).strip()


def audited(run: RunRecord, namespace: str) -> RunRecord:
    """Returns the record with one more threshold: that the shop's books agree.

    :raises subprocess.CalledProcessError: the shop cannot be audited.
    """

    def kubectl(command: Sequence[str], given: str = "") -> str:
        return subprocess.run(
            ["kubectl", "-n", namespace, *command],
            input=given,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout

    secret = kubectl(cluster_audit.SECRET_COMMAND)
    status, lines = cluster_audit.outcome(
        kubectl(cluster_audit.AUDIT_COMMAND, cluster_audit.given(secret))
    )
    books = AuditResult(is_balanced=status == 0, said=lines[-1])
    return run.judged_further(balance(books), f"books: {books.said}")


def main() -> int:
    """Returns the exit status: 1 if a threshold is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.load_cluster",
        description="Runs the load test in the cluster of KUBECONFIG. More options are "
        "those of the load test.",
    )
    parser.add_argument(
        "--mesh", choices=["none", "istio", "linkerd"], default="none", help="the shop's mesh"
    )
    parser.add_argument(
        "--meshed", action="store_true", help="the load test's own pods have a proxy, too"
    )
    parser.add_argument(
        "--workers", type=int, default=4, metavar="NUMBER", help="pods that send load (4)"
    )
    parser.add_argument(
        "--namespace", default=NAMESPACE, help=f"the namespace of the shop ({NAMESPACE})"
    )
    parser.add_argument("--base-url", default="", metavar="URL", help="another way to the shop")
    parser.add_argument(
        "--host", default="", help="with --base-url: the shop's public host, if it is a gateway's"
    )
    parser.add_argument("--image", default=_IMAGE, help=f"the load test's image ({_IMAGE})")
    parser.add_argument(
        "--no-audit", action="store_true", help="do not audit the shop's books after the run"
    )
    parser.add_argument("--keep", action="store_true", help="leave the Jobs in the cluster")
    arguments, options = parser.parse_known_args()
    commands = ToolPrograms()
    need(commands, "kubectl")
    target = (
        LoadTarget(arguments.base_url, arguments.host)
        if arguments.base_url
        else target_of(arguments.mesh, arguments.namespace)
    )
    name = f"{arguments.namespace}-{_NAME}"
    jobs = LoadJobs(commands, name)
    print(f"The shop is {target.base_url}; the load test: {shlex.join(options) or 'as usual'}")
    jobs.start(
        manifests(
            namespace=name,
            image=arguments.image,
            workers=arguments.workers,
            mesh=arguments.mesh,
            is_meshed=arguments.meshed,
            options=[*target.options, "--no-report", "--print-record", *options],
        )
    )
    run = jobs.follow()
    if not arguments.no_audit:
        run = audited(run, arguments.namespace)
    folder = report.new_folder(run.began_at, f"{run.shape}-cluster")
    report.keep(run, folder)
    print(f"{report.summary(run)}\nreports: {folder}")
    if not arguments.keep:
        jobs.remove()
    return 0 if run.verdict.is_met else 1


if __name__ == "__main__":
    sys.exit(main())
