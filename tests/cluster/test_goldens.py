"""What the chart makes of some values, as files: a change of it is seen in a review.

`make goldens` writes them again.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.testkit.cluster import run_chart
from tests.testkit.goldens import BASE, differences, file_of, golden, manifests_of

HERE = Path(__file__).parent
CASES = sorted(path.stem for path in (HERE / "values").glob("*.yaml"))

_GENERATED = re.compile(
    r"\b[A-Za-z0-9]{40}\b|(?<=\.(?:crt|key): ).+|(?<=checksum/secrets: ).+"
    r"|(?<=checksum/certificate: ).+|(?<=name: mongodb-users-)[0-9a-f]{8}"
)


def text_of(case: str) -> str:
    """The manifests as YAML, with generated secrets taken out."""
    output = run_chart("--values", str(HERE / "values" / f"{case}.yaml"))
    return _GENERATED.sub("GENERATED", output)


@pytest.mark.parametrize("case", CASES)
def test_it_is_what_was_reviewed(case: str) -> None:
    rendered = manifests_of(text_of(case))
    assert rendered == golden(case), "if that is meant: make goldens, and read the difference"


if __name__ == "__main__":
    file_of(BASE).write_text(text_of(BASE), encoding="utf-8")
    for each in CASES:
        if each != BASE:
            text = differences(manifests_of(text_of(each)))
            file_of(each).write_text(text, encoding="utf-8")
