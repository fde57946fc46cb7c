"""Files that follow from topology.yaml: written, or compared with what is there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def written(files: Mapping[Path, str], make: str, *, is_check: bool) -> int:
    """Writes files, or says which are not what they would be; gives the exit status.

    :param make: the target that writes them.
    """
    status = 0
    for path, text in files.items():
        if not is_check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            name = path.relative_to(ROOT)
            print(f"{name} is not what topology.yaml says; run `make {make}`", file=sys.stderr)
            status = 1
    return status
