"""A wrong setting stops the start with one sentence that names the environment variable."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import pytest
from pydantic import Field, SecretStr, model_validator

from services.common.errors import ConfigurationError
from services.common.settings import ProcessSettings, Settings, read_settings


class ShopSettings(Settings):
    shop_key: SecretStr = Field(min_length=8)
    shop_size: int = Field(default=3, ge=1)
    shop_min: int = 0

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.shop_min > self.shop_size:
            raise ValueError("SHOP_MIN is more than SHOP_SIZE")
        return self


def refusal(kind: type[Settings]) -> str:
    with pytest.raises(ConfigurationError) as refused:
        read_settings(kind)
    sentence = str(refused.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_a_secret_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRETS_FOLDER", str(tmp_path))
    (tmp_path / "shop_key").write_text("a-long-key-in-a-file\n", encoding="utf-8")
    assert read_settings(ShopSettings).shop_key.get_secret_value() == "a-long-key-in-a-file"
    monkeypatch.setenv("SHOP_KEY", "a-long-key")
    assert read_settings(ShopSettings).shop_key.get_secret_value() == "a-long-key"


def test_a_folder_of_secrets_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_KEY", "a-long-key")
    monkeypatch.setenv("SECRETS_FOLDER", str(tmp_path / "none"))
    assert "The setting SECRETS_FOLDER is wrong" in refusal(ShopSettings)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", "a-long-key")
    monkeypatch.setenv("SHOP_SIZE", "7")
    settings = read_settings(ShopSettings)
    assert settings.shop_key.get_secret_value() == "a-long-key"
    assert settings.shop_size == 7


def test_a_missing_one_is_named() -> None:
    assert refusal(ShopSettings) == (
        "The setting SHOP_KEY is missing: set that environment variable."
    )


def test_an_empty_one_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", "")
    assert "SHOP_KEY is missing" in refusal(ShopSettings)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "SHOP_SIZE",
            "0",
            "The setting SHOP_SIZE is wrong: input should be greater than or equal to 1.",
        ),
        ("SHOP_MIN", "8", "The settings are wrong: SHOP_MIN is more than SHOP_SIZE."),
    ],
)
def test_wrong_ones_are_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv("SHOP_KEY", "a-long-key")
    monkeypatch.setenv(name, value)
    assert refusal(ShopSettings) == sentence


def test_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", "hunter2")
    sentence = refusal(ShopSettings)
    assert "SHOP_KEY is wrong" in sentence
    assert "hunter2" not in sentence


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP_PORT", "0"),
        ("HTTP_PORT", "http"),
        ("GRPC_PORT", "65536"),
        ("VERSION", "v 1"),
        ("LOG_LEVEL", "loud"),
        ("TRACE_SAMPLING_RATIO", "1.5"),
        ("DRAIN_SECONDS", "-1"),
        ("FAULT_LATENCY_SECONDS", "10.5"),
        ("FAULT_ERROR_SHARE", "20"),
        ("REQUEST_TIMEOUT_SECONDS", "0"),
        ("MAX_BODY_BYTES", "10"),
        ("INSTANCE", "x" * 65),
    ],
)
def test_each_process_setting_has_its_bounds(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert f"The setting {name} is wrong: " in refusal(ProcessSettings)


def test_addresses_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_ADDRESSES", '{"order": ["127.0.0.1:3006"]}')
    assert read_settings(ProcessSettings).http_addresses == {"order": ("127.0.0.1:3006",)}
    monkeypatch.setenv("HTTP_ADDRESSES", "127.0.0.1:3006")
    assert "http_addresses" in refusal(ProcessSettings)


def test_settings_do_not_change_once_read() -> None:
    settings = read_settings(ProcessSettings)
    with pytest.raises(ValueError, match="frozen"):
        settings.version = "v2"
