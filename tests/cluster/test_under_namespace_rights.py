"""A second shop in the same cluster, of somebody who may act in one namespace only.

It pays through the first one's sandbox, where its payments stay: this file's name comes after
test_under_load, which compares the sandbox's books with the first shop's orders.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.cluster.release import IMAGE, Release
from tests.cluster.test_uninstall import left_in
from tests.testkit.cluster import CHART, CommandFailed, Namespace, run
from tests.testkit.waiting import wait_until

_NAME = "student"
_REPOSITORY, _, _TAG = IMAGE.rpartition(":")
_HERE = ("--set", "stripe.sandbox.namespace=")


class NamespaceAdministrator:
    """What they ask the cluster for is asked in their name.

    :param kubeconfig: the file that says who they are.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = str(kubeconfig)

    def kubectl(self, *arguments: str) -> str:
        """What ``kubectl`` prints."""
        return run("kubectl", "--kubeconfig", self._kubeconfig, *arguments)

    def helm(self, *arguments: str) -> str:
        """What ``helm`` prints."""
        return run("helm", "--kubeconfig", self._kubeconfig, "-n", _NAME, *arguments)

    def install(self, *arguments: str) -> None:
        """Installs the shop, and waits until it is ready."""
        self.helm(
            *("install", "shop", str(CHART), "--wait", "--timeout", "300s"),
            *("--set", f"image.repository={_REPOSITORY},image.tag={_TAG}", *arguments),
        )

    def buys(self) -> bool:
        """Whether `helm test` buys something."""
        return "Succeeded" in self.helm("test", "shop", "--timeout", "120s")


@pytest.fixture
def student(tmp_path: Path) -> Generator[NamespaceAdministrator]:
    """With the rights of a namespace's administrator, and that namespace."""
    namespace = Namespace(_NAME)
    run("kubectl", "delete", "namespace", _NAME, "--ignore-not-found", "--wait")
    run("kubectl", "create", "namespace", _NAME)
    namespace.kubectl("label", "namespace", _NAME, "pod-security.kubernetes.io/enforce=restricted")
    namespace.kubectl("create", "serviceaccount", _NAME)
    namespace.kubectl(
        *("create", "rolebinding", _NAME, "--clusterrole=admin"),
        f"--serviceaccount={_NAME}:{_NAME}",
    )
    config = json.loads(
        run("kubectl", "config", "view", "--raw", "--minify", "--flatten", "-o", "json")
    )
    token = namespace.kubectl("create", "token", _NAME, "--duration=2h").strip()
    config["users"] = [{"name": _NAME, "user": {"token": token}}]
    config["contexts"][0]["context"].update(user=_NAME, namespace=_NAME)
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(config), encoding="utf-8")
    file.chmod(0o600)
    yield NamespaceAdministrator(file)
    run("kubectl", "delete", "namespace", _NAME, "--wait")


def test_who_may_act_in_one_namespace_has_a_shop_there(
    release: Release, student: NamespaceAdministrator
) -> None:
    with pytest.raises(CommandFailed, match="cannot get resource"):
        student.kubectl("get", "namespace", "kube-system")
    with pytest.raises(CommandFailed, match='namespaces "stripe" is forbidden'):
        student.install()

    before = left_in(_NAME)
    student.install(*_HERE)
    assert student.buys()
    assert "Succeeded" in release.namespace.helm("test", "shop", "--timeout", "120s")

    # Through the other shop's sandbox: as soon as that one lets them in.
    release.upgrade(f"stripe.sandbox.sharedWith={{{_NAME}}}")
    student.helm(
        *("upgrade", "shop", str(CHART), "--reuse-values", "--wait", "--timeout", "300s"),
        *("--set", "stripe.sandbox.shared=true,stripe.sandbox.namespace=stripe"),
    )
    assert not student.kubectl("get", "statefulset", "stripe-sandbox", "--ignore-not-found")
    assert student.buys()

    student.helm("uninstall", "shop", "--wait")
    wait_until(lambda: left_in(_NAME) == before, f"{_NAME} is as it was", 120)
    assert "Succeeded" in release.namespace.helm("test", "shop", "--timeout", "120s")


def test_a_second_shop_does_not_take_the_first_ones_sandbox(release: Release) -> None:
    with pytest.raises(CommandFailed) as refused:
        run(
            *("helm", "install", "shop", str(CHART), "--namespace", _NAME, "--create-namespace"),
            "--dry-run=server",
        )
    owner = f"{release.namespace.name}/shop"
    assert f"namespace stripe is there already and not this release's ({owner})" in str(
        refused.value
    )
    assert "stripe.sandbox.shared=true" in str(refused.value)
