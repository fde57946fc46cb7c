"""Settings: read from the environment once, at the start, and typed. A wrong setting stops the
process with a sentence that says what to fix.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from services.common.errors import ConfigurationError
from services.common.validation import first_wrong, lower_first

MAX_FAULT_LATENCY_SECONDS = 10.0


class Settings(BaseSettings):
    """Base of all settings: environment variables in upper case, frozen once read."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)


class Addresses(Settings):
    """Where each callee listens when that is not its name in the cluster: ``{"order":
    ["127.0.0.1:3006"]}``.
    """

    http_addresses: dict[str, tuple[str, ...]] = {}
    grpc_addresses: dict[str, tuple[str, ...]] = {}


class ProcessSettings(Addresses):
    """Settings of every service's process."""

    host: str = Field(
        default="::",
        description="Where to listen: an address, `localhost`, or `::` for all addresses of both "
        "families, as a container does.",
    )
    http_port: int | None = Field(default=None, ge=1, le=65535)
    internal_host: str | None = Field(
        default=None, description="The address for `internal_port`; without it that of the rest."
    )
    internal_port: int | None = Field(default=None, ge=1, le=65535)
    grpc_port: int | None = Field(default=None, ge=1, le=65535)
    database_url: str = Field(
        default="sqlite:///.data",
        description="sqlite:///DIRECTORY or mongodb://…; each service has its own database in it.",
    )
    database_wait_seconds: float = Field(
        default=0.0,
        ge=0,
        le=600,
        description="How long a start waits for a database, and for its user, that are being made.",
    )
    version: str = Field(default="v1", pattern=r"^[A-Za-z0-9._-]{1,32}$")
    variant: str | None = None
    instance: str = Field(default_factory=socket.gethostname, max_length=64)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_file: Path | None = None
    otel_exporter_otlp_endpoint: str | None = None
    trace_sampling_ratio: float | None = Field(default=None, ge=0, le=1)
    trace_user_id: bool = Field(
        default=False,
        description="Whether spans name the user whose token was verified, by the account's id "
        "(`user.id`). Traces then say whose requests were whose.",
    )
    behind_gateway: bool = Field(
        default=False,
        description="True where a mesh's gateway is in front of what people reach: whether a trace "
        "is kept, and a request's id, are then its word, not that of people.",
    )
    serve_recent: bool = Field(
        default=False,
        description="Answer /recent, /traces and /spans beside /metrics: the latest calls, "
        "counted, and the latest traces, for the mesh page of a shop on one machine.",
    )
    clock_skew_seconds: float = Field(
        default=0.0,
        description="Added to the wall clock of documents: shows that a wrong clock does no harm.",
    )
    fault_latency_seconds: float = Field(
        default=0.0,
        ge=0,
        le=MAX_FAULT_LATENCY_SECONDS,
        description="For a demonstration: how much longer each request takes.",
    )
    fault_error_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="For a demonstration: the share of the requests that fail with 503.",
    )
    fault_operations: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Whom these faults are for, by the names of the metrics, with commas between "
        "them: `GET /api/products,InventoryService/Reserve`. Without it for all.",
    )
    linger_seconds: float = Field(
        default=0.0,
        ge=0,
        le=60,
        description="How long an ending process leaves idle connections open, so that their "
        "clients hear that it ends.",
    )
    drain_seconds: float = Field(default=10.0, ge=0, le=120)
    request_timeout_seconds: float = Field(
        default=15.0, gt=0, le=120, description="The longest that one request may take in all."
    )
    head_seconds: float = Field(
        default=10.0, gt=0, le=120, description="How long a client may take to send the headers."
    )
    body_seconds: float = Field(
        default=10.0, gt=0, le=120, description="How long a client may take to send the body."
    )
    max_body_bytes: int = Field(default=256 * 1024, ge=1024)
    proxies_in_front: int = Field(
        default=0,
        ge=0,
        le=10,
        description="How many proxies are in front, each of which appends the address that it sees "
        "to X-Forwarded-For. 0 believes nobody: the client is whoever opened the connection.",
    )

    @field_validator("fault_operations", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return [part.strip() for part in value.split(",") if part.strip()]


def _secrets_folder() -> Path | None:
    folder = os.environ.get("SECRETS_FOLDER")
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise ConfigurationError(f"The setting SECRETS_FOLDER is wrong: {folder} is not a folder.")
    return Path(folder)


SettingsType = TypeVar("SettingsType", bound=BaseSettings)


def read_settings(kind: type[SettingsType]) -> SettingsType:
    """Reads one group of settings from the environment, and from the files of the folder that
    ``SECRETS_FOLDER`` names: each bears the name of a setting, ``smtp_password`` say. A variable
    takes the place of a file.

    :raises ConfigurationError: naming the environment variable and what is wrong with it.
    """
    try:
        return kind(_secrets_dir=_secrets_folder())
    except OSError as error:
        raise ConfigurationError(
            f"The setting SECRETS_FOLDER is wrong: {error.filename} cannot be read "
            f"({error.strerror})."
        ) from error
    except ValidationError as error:
        wrong = first_wrong(error)
        name = "_".join(wrong.path[:1]).upper()
        if not name:  # about several settings together, which the reason names
            raise ConfigurationError(f"The settings are wrong: {wrong.reason}.") from error
        if wrong.is_missing:
            raise ConfigurationError(
                f"The setting {name} is missing: set that environment variable."
            ) from error
        raise ConfigurationError(
            f"The setting {name} is wrong: {lower_first(wrong.reason)}."
        ) from error
    except ValueError as error:  # pydantic-settings: a complex value that is not JSON
        cause = error.__cause__
        reason = cause.msg if isinstance(cause, json.JSONDecodeError) else str(error)
        raise ConfigurationError(f"A setting could not be read: {error} ({reason}).") from error
