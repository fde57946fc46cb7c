"""Which keys of Stripe's the payment service takes."""

from __future__ import annotations

import pytest

from services.common.errors import ConfigurationError
from services.common.settings import read_settings
from services.payment.settings import PaymentSettings


@pytest.mark.parametrize("key", ["sk_test_meshmart_sandbox", "rk_test_51Habc"])
def test_test_keys_are_taken(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", key)
    assert read_settings(PaymentSettings).stripe_api_key.get_secret_value() == key


@pytest.mark.parametrize(
    "key",
    ["sk_live_51Habcdef", "rk_live_51Habcdef", "pk_test_51Habcdef", "hunter2hunter2", "sk_test_"],
)
def test_any_other_key_stops_the_start(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", key)
    with pytest.raises(ConfigurationError) as refused:
        read_settings(PaymentSettings)
    assert str(refused.value) == (
        "The setting STRIPE_API_KEY is wrong: it is not a secret key of Stripe's test mode, "
        "which begins with sk_test_ or rk_test_."
    )
