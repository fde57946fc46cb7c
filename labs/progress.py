"""What a student has done so far: one small file of this user, not in the repository."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from labs.errors import LabError
from labs.lab import Place
from labs.report import Passed
from services.local.data import write_whole


class Attempt(BaseModel):
    """The lab under way.

    :ivar data: the folder of the shop on this machine, from the root on.
    :ivar ports: what that shop was given for --ports.
    :ivar mesh_options: those of ``tools.mesh render`` that describe the shop in a cluster.
    :ivar is_in_class: the runner reports to a teacher's board.
    :ivar seed: what a lab that draws by lot begins with.
    :ivar is_passed: a check has found it right.
    :ivar shop_pid: of a shop on this machine that the labs have started.
    """

    lab: str
    place: Place
    started_ms: int
    data: Path = Path(".data")
    ports: str = ""
    mesh_options: Sequence[str] = ()
    gateway_address: str = ""
    is_in_class: bool = False
    is_passed: bool = False
    seed: int = 0
    shop_pid: int | None = None
    hints: int = 0
    checks: int = 0
    was_solved: bool = False


class Progress(BaseModel):
    """All of it.

    :ivar passed: by :func:`name_of`.
    """

    under_way: Attempt | None = None
    passed: dict[str, Passed] = {}


def name_of(lab: str, place: Place) -> str:
    """A lab in a place: ``06-canary (istio)``."""
    return f"{lab} ({place})"


def default_file() -> Path:
    """Where the XDG Base Directory Specification puts what a program remembers of its user."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "meshmart" / "labs.json"


def read_progress(file: Path) -> Progress:
    """Returns what was remembered; nothing where there is no file.

    :raises LabError: it cannot be read.
    """
    try:
        return Progress.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return Progress()
    except (OSError, ValidationError) as error:
        raise LabError(f"The file {file} cannot be read; delete it to begin again.") from error


def write_progress(file: Path, progress: Progress) -> None:
    """Remembers it.

    :raises LabError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, progress.model_dump_json(indent=2))
    except OSError as error:
        raise LabError(
            f"The file {file} cannot be written ({error.strerror}): set XDG_STATE_HOME to a folder "
            "that you can write."
        ) from error
