"""The load test's files: what is wrong with one is said in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.settings import JOURNEYS, THRESHOLDS, BadFile, read_journeys, read_limits

KNOWN = {"Browser": ["open_home", "search"]}


def test_the_files_of_the_project_are_right():
    assert read_journeys().root["Browser"].weight > 0
    assert read_limits().groups["pages"].p95_ms == 1500


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Browser: {weight: 1, think_seconds: 1}", "Browser.journeys: field required."),
        (
            "Browser: {weight: -1, think_seconds: 1, journeys: {search: 1}}",
            "Browser.weight: input should be greater than or equal to 0.",
        ),
        (
            "Browser: {weight: 1, think_seconds: 1, journeys: {search: 0}}",
            "Browser: at least one journey needs a weight above 0.",
        ),
        (
            "Browser: {weight: 0, think_seconds: 1, journeys: {search: 1}}",
            "the file: at least one kind of shopper needs a weight above 0.",
        ),
        (
            "Browser: {weight: 1, think: 1, think_seconds: 1, journeys: {search: 1}}",
            "Browser.think: extra inputs are not permitted.",
        ),
        ("Browser: [", "this is not YAML"),
    ],
)
def test_a_mistake_in_the_journeys_is_told(tmp_path: Path, text: str, said: str):
    file = tmp_path / "journeys.yaml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(BadFile) as told:
        read_journeys(file)

    assert str(told.value).startswith(f"{file}: {said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "Browser: {weight: 1, think_seconds: 1, journeys: {serch: 1}}",
            "Browser has no journey 'serch'; it has open_home, search.",
        ),
        (
            "Bowser: {weight: 1, think_seconds: 1, journeys: {search: 1}}",
            "there is no 'Bowser'; there are Browser.",
        ),
    ],
)
def test_a_name_that_does_not_exist_is_told(tmp_path: Path, text: str, said: str):
    file = tmp_path / "journeys.yaml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(BadFile) as told:
        read_journeys(file).check_against(KNOWN, file)

    assert str(told.value) == f"{file}: {said}"


def test_a_kind_that_is_missing_is_told():
    with pytest.raises(BadFile, match="'Pilot' is missing; weight: 0 leaves it out"):
        read_journeys().check_against(
            {name: list(kind.journeys) for name, kind in read_journeys().root.items()}
            | {"Pilot": []},
            JOURNEYS,
        )


def test_a_file_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(BadFile, match="the file cannot be read"):
        read_journeys(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("pages", "--threshold pages: write it as pages.p95_ms=800."),
        ("page.p95_ms=1", "--threshold page.p95_ms=1: there is no 'page'; there are requests,"),
        ("pages.p96_ms=1", f"{THRESHOLDS}: groups.pages.p96_ms: extra inputs are not permitted."),
        ("failures.max_ratio=2", f"{THRESHOLDS}: failures.max_ratio: input should be less than"),
        ("requests.min=many", f"{THRESHOLDS}: requests.min: input should be a valid integer"),
    ],
)
def test_a_wrong_change_of_a_threshold_is_told(change: str, said: str):
    with pytest.raises(BadFile) as told:
        read_limits(changes=[change])

    assert str(told.value).startswith(said)


def test_a_change_replaces_one_value():
    limits = read_limits(changes=["pages.p99_ms=2000", "visits.p95_ms=9000"])

    assert (limits.groups["pages"].p95_ms, limits.groups["pages"].p99_ms) == (1500, 2000)
    assert limits.groups["visits"].p95_ms == 9000
