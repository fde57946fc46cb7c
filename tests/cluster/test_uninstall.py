"""What is left of the shop when it has gone, and that the commands of the docs bring it back.

These run after the other tests of the same shop, which they remove.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

from tests.cluster.release import IMAGE, Release, uninstall
from tests.testkit.cluster import CHART, ROOT, render, run
from tests.testkit.waiting import wait_until

_ALL_KINDS = "--verbs=list"
# What Kubernetes makes by itself in every namespace, and Istio, where the cluster has it.
_ALWAYS = {
    "configmap/kube-root-ca.crt",
    "serviceaccount/default",
    "configmap/istio-ca-crl",
    "configmap/istio-ca-root-cert",
}


def left_in(namespace: str) -> set[str]:
    kinds = run("kubectl", "api-resources", _ALL_KINDS, "--namespaced", "-o", "name").split()
    wanted = ",".join(kind for kind in kinds if not kind.startswith("events"))
    found = run("kubectl", "get", wanted, "-n", namespace, "--ignore-not-found", "-o", "name")
    return set(found.split()) - _ALWAYS


def test_what_it_leaves_behind_is_said() -> None:
    """Helm keeps these; docs/chart.md names each, with the command that removes it."""
    text = (ROOT / "docs/chart.md").read_text(encoding="utf-8")
    said = text.partition("## Uninstall\n")[2].partition("\n## ")[0]
    left: set[str] = set()
    for each in render("--set", "mongodb.storage.retain=true"):
        name = each["metadata"]["name"]
        annotations = each["metadata"].get("annotations", {})
        is_kept = annotations.get("helm.sh/resource-policy") == "keep"
        is_left_by_failure = "hook-failed" not in annotations.get("helm.sh/hook-delete-policy", "")
        if is_kept or ("helm.sh/hook" in annotations and is_left_by_failure):
            left.add(re.sub(r".+(?=-database$)", "…", name))
        policy = each.get("spec", {}).get("persistentVolumeClaimRetentionPolicy", {})
        if policy.get("whenDeleted") == "Retain":
            left |= {
                f"{claim['metadata']['name']}-{name}-0"
                for claim in each["spec"]["volumeClaimTemplates"]
            }
    assert left == {"purchase-test", "mongodb", "…-database", "data-mongodb-0"}
    assert {name for name in left if f"`{name}`" not in said} == set()


def test_it_leaves_nothing_behind(release: Release) -> None:
    release.namespace.helm("uninstall", "shop", "--wait")
    name = release.namespace.name

    def is_empty() -> bool:
        return not left_in(name)

    wait_until(is_empty, f"{name} is empty", 120)
    namespaces = json.loads(run("kubectl", "get", "namespaces", "-o", "json"))["items"]
    assert release.stripe.name not in {
        namespace["metadata"]["name"]
        for namespace in namespaces
        if namespace["status"]["phase"] == "Active"
    }


def test_the_commands_of_the_docs_bring_a_shop_that_sells(release: Release) -> None:
    uninstall(release)
    text = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (commands,) = (block for block in blocks if block.startswith("helm install shop helm/"))
    repository, _, tag = IMAGE.rpartition(":")
    image = f"--set image.repository={repository},image.tag={tag}"
    commands = commands.replace("--create-namespace", f"--create-namespace {image}", 1)
    run("bash", "-euo", "pipefail", "-c", commands)
    with release.namespace.forwarded("service/frontend", 80) as address:
        purchase = str(CHART / "files/purchase.py")
        bought = subprocess.run(
            [sys.executable, purchase, f"http://{address}"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert "confirmed" in bought.stdout, bought.stderr
    uninstall(release)
