"""Settings of auth that contradict each other stop the start."""

from __future__ import annotations

import pytest

from services.auth.settings import AuthSettings
from services.common.errors import ConfigurationError
from services.common.identity.access_tokens import JWKS_CACHE_SECONDS
from services.common.settings import read_settings


def test_a_key_is_published_for_longer_than_anybody_keeps_a_set_of_keys() -> None:
    settings = read_settings(AuthSettings)
    assert settings.key_publish_seconds > 20 * 60  # Istio's control plane
    assert settings.key_publish_seconds > JWKS_CACHE_SECONDS
    assert settings.key_publish_seconds < settings.key_rotation_seconds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEY_PUBLISH_SECONDS", "300"),
        ("KEY_ROTATION_SECONDS", "60"),
        ("ACCESS_TOKEN_SECONDS", "0"),
        ("REFRESH_TOKEN_SECONDS", "never"),
        ("PASSWORD_HASH_MEMORY_KIB", "8"),
        ("PASSWORD_HASH_THREADS", "0"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name):
        read_settings(AuthSettings)


def test_keys_cannot_be_published_for_longer_than_they_sign(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEY_PUBLISH_SECONDS", "1800")
    monkeypatch.setenv("KEY_ROTATION_SECONDS", "600")
    with pytest.raises(ConfigurationError, match="KEY_PUBLISH_SECONDS must not be longer"):
        read_settings(AuthSettings)
