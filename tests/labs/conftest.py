"""The labs in a mesh, on the cluster that KUBECONFIG points at: `make test-labs`.

``--mesh istio`` or ``linkerd``. The shop and the cluster are those of tests/mesh.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mesh.shops import (
    mesh,
    need_a_cluster,
    proxied,
    pytest_sessionfinish,
    pytest_terminal_summary,
)

# pytest finds hooks and fixtures here by their names.
__all__ = ["mesh", "proxied", "pytest_sessionfinish", "pytest_terminal_summary"]

HERE = Path(__file__).parent
# A test starts a lab up to four times, and each start restores the base.
_LAB_SECONDS = 1800


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    need_a_cluster(config, items, HERE)
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(_LAB_SECONDS), append=False)
