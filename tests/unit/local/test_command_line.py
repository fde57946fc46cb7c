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
        (("--host", ""), "--host takes an address or a name, such as localhost or ::, not ''."),
        (("--data", ""), "--data takes a folder, not ''."),
        (("--host", " "), "or ::, not ' '."),
        (("--host", "http://localhost"), "or ::, not 'http://localhost'."),
        (("--host", "nonsense.invalid"), "or a name for one, not 'nonsense.invalid' ("),
        (("--host", "192.0.2.7"), "or a name for one, not '192.0.2.7' ("),
        (("--ports", "frontend=99999"), "with ports from 1 to 65535, not 'frontend=99999'."),
        (("--ports", "frontend=0"), "with ports from 1 to 65535, not 'frontend=0'."),
        (("--ports", "frontend"), "--ports takes NAME=VALUE,…"),
        (("--replicas", "order=10"), "with counts from 1 to 9, not 'order=10'."),
        (("--versions", "product"), "--versions takes NAME=VERSION,…, or "),
        (("--versions", "product=v1:9,v2"), "weights from 1 to 99, not 'v2'."),
        (("--versions", "product=v1:9,v2:0"), "weights from 1 to 99, not 'v2:0'."),
        (("--versions", "product=v1:9,v2:100"), "from 1 to 99, not 'v2:100'."),
        (("--versions", "product=v1:9,v1:1"), "different versions and weights from 1 to 99, not "),
        (("--versions", "product=v1,product=v2"), "from 1 to 99, not 'product=v2'."),
        (("--versions", "v1:9,v2:1"), "from 1 to 99, not 'v1:9'."),
        (("--versions", "product=v 1"), "from 1 to 99, not 'v 1'."),
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
