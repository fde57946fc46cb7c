"""What the chart makes of some values, as files: a change of it is seen in a review.

`make goldens` writes them anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.testkit.cluster import run_chart

HERE = Path(__file__).parent
CASES = sorted(path.stem for path in (HERE / "values").glob("*.yaml"))

_GENERATED = re.compile(
    r"\b[A-Za-z0-9]{40}\b|(?<=\.(?:crt|key): ).+|(?<=checksum/secrets: ).+"
    r"|(?<=checksum/certificate: ).+|(?<=name: mongodb-users-)[0-9a-f]{8}"
)


def rendered(case: str) -> str:
    """The manifests, with generated secrets taken out."""
    output = run_chart("--values", str(HERE / "values" / f"{case}.yaml"))
    return _GENERATED.sub("GENERATED", output)


@pytest.mark.parametrize("case", CASES)
def test_it_is_what_was_reviewed(case: str) -> None:
    golden = (HERE / "goldens" / f"{case}.yaml").read_text(encoding="utf-8")
    assert rendered(case) == golden, "if that is meant: make goldens, and read the difference"


if __name__ == "__main__":
    for each in CASES:
        (HERE / "goldens" / f"{each}.yaml").write_text(rendered(each), encoding="utf-8")
