"""The golden files of the chart fit each other."""

from __future__ import annotations

import pytest

from tests.testkit.goldens import BASE, FOLDER, differences, file_of, golden

_OTHERS = sorted(file.stem for file in FOLDER.glob("*.diff"))


@pytest.mark.parametrize("case", _OTHERS)
def test_the_differences_are_those_to_the_base(case: str) -> None:
    assert differences(golden(case)) == file_of(case).read_text(encoding="utf-8")


def test_what_is_there_in_one_of_two_is_added_or_left_out() -> None:
    assert "Namespace/stripe" in golden(BASE)
    assert "Namespace/stripe" not in golden("own-namespace")
    assert "NetworkPolicy/observers" not in golden(BASE)
    assert "metrics" in golden("linkerd")["NetworkPolicy/observers"]
