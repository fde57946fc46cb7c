"""The labs in a mesh, on the cluster that KUBECONFIG points at: `make test-labs`.

``--mesh istio`` or ``linkerd``. The shop and the cluster are those of tests/mesh.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from labs.lab import Lab
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
# A lab is started four times, and each start brings the base back.
_LAB_SECONDS = 1800


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    need_a_cluster(config, items, HERE)
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(_LAB_SECONDS), append=False)
    if half := config.option.half:
        left_out = [
            item for item in items if item.path.is_relative_to(HERE) and not _is_in(half, item)
        ]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _is_in(half: str, item: pytest.Item) -> bool:
    """Whether it does a lab with an even number, or an odd one."""
    if not isinstance(item, pytest.Function) or item.originalname != "test_from_start_to_reset":
        return False
    lab = item.callspec.params["lab"]
    assert isinstance(lab, Lab)
    return int(lab.number) % 2 == ("even", "odd").index(half)
