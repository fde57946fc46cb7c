"""What the command line refuses, and in which words."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from services.__main__ import main
from services.common.serving.process import EXIT_CONFIGURATION


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--host", ""), "--host takes an address or a name, such as localhost or ::, and '' is"),
        (("--data", ""), "--data takes a folder, and '' is none."),
        (("--host", " "), "and ' ' is none."),
        (("--host", "http://localhost"), "and 'http://localhost' is none."),
        (("--host", "nonsense.invalid"), "and 'nonsense.invalid' is none ("),
        (("--host", "192.0.2.7"), "and '192.0.2.7' is none ("),
        (("--ports", "frontend=99999"), "with ports from 1 to 65535, and 'frontend=99999' is not"),
        (("--ports", "frontend=0"), "with ports from 1 to 65535, and 'frontend=0' is not"),
        (("--ports", "frontend"), "--ports takes NAME=VALUE,…"),
        (("--replicas", "order=10"), "with counts from 1 to 9, and 'order=10' is not"),
        (("--versions", "product"), "--versions takes NAME=VERSION,…, or "),
        (("--versions", "product=v1:9,v2"), "weights from 1 to 99, and 'v2' is not that."),
        (("--versions", "product=v1:9,v2:0"), "weights from 1 to 99, and 'v2:0' is not that."),
        (("--versions", "product=v1:9,v2:100"), "and 'v2:100' is not that."),
        (("--versions", "product=v1:9,v1:1"), "different versions and weights from 1 to 99, and "),
        (("--versions", "product=v1,product=v2"), "and 'product=v2' is not that."),
        (("--versions", "v1:9,v2:1"), "and 'v1:9' is not that."),
        (("--versions", "product=v 1"), "and 'v 1' is not that."),
    ],
)
def test_a_wrong_argument_is_refused_in_words_that_help(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: tuple[str, str],
    sentence: str,
) -> None:
    before = os.umask(0o077)
    data = tmp_path / "data"
    # It would start this very process again.
    monkeypatch.setattr("services.__main__.hide_secrets", lambda: None)
    monkeypatch.setattr(sys, "argv", ["services", "--data", str(data), *arguments])
    try:
        assert main() == EXIT_CONFIGURATION
    finally:
        os.umask(before)
    assert sentence in capsys.readouterr().err
    assert not data.exists()
