"""What the environment can tell the sandbox, such as ``SANDBOX_PORT`` and ``SANDBOX_DATA_DIR``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from services.common.errors import ConfigurationError
from services.common.validation import first_wrong, lower_first
from stand_ins.stripe.faults import SandboxFaults

PREFIX = "SANDBOX_"
NESTED = "__"


class SandboxSettings(BaseSettings):
    """Where to listen, where to keep the books, and what to do wrong."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTED,
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
    )

    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: int = Field(default=12111, ge=0, le=65535, description="0 lets the system choose.")
    tls_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Another port, for HTTPS. Without it there is none.",
    )
    tls_certificate: Path | None = Field(
        default=None, description="A PEM file: the certificate for HTTPS, with its chain."
    )
    tls_key: Path | None = Field(
        default=None, description="A PEM file: its key, where the certificate's file lacks it."
    )
    data_dir: Path | None = Field(
        default=None, description="Where the books are kept; without it they end with the process."
    )
    faults: SandboxFaults = Field(
        default=SandboxFaults(),
        description="As JSON, or one by one: SANDBOX_FAULTS__DELAY_MS, SANDBOX_FAULTS__SEED, …",
    )
    allow_reset: bool = Field(default=False, description="Whether DELETE /sandbox/ledger works.")
    drain_seconds: int = Field(
        default=3, ge=1, le=60, description="How long a stop waits for requests in flight."
    )


def read_settings() -> SandboxSettings:
    """Reads the settings from the environment.

    :raises ConfigurationError: naming the variable and what is wrong with it.
    """
    try:
        return SandboxSettings()
    except ValidationError as error:
        wrong = first_wrong(error)
        name = PREFIX + NESTED.join(wrong.path).upper()
        raise ConfigurationError(
            f"The setting {name} is wrong: {lower_first(wrong.reason)}."
        ) from error
    except SettingsError as error:
        raise ConfigurationError(
            f"A setting is not the JSON that it should be: {error}."
        ) from error
