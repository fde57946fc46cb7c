"""The stock that the shop starts with."""

import asyncio
from pathlib import Path

import pytest
import yaml

from services.common.documents import Documents, SqliteStore
from services.common.errors import ConfigurationError
from services.common.settings import read_settings
from services.inventory.model import Stock
from services.inventory.seed import read_stock_file
from services.inventory.settings import InventorySettings
from services.inventory.store import STOCK, StockStore

CATALOGUE = Path("services/product/catalogue")


def test_there_is_stock_for_just_the_products_of_the_catalogue(
    pytestconfig: pytest.Config,
) -> None:
    directory = pytestconfig.rootpath / CATALOGUE
    categories = yaml.safe_load((directory / "categories.yaml").read_text(encoding="utf-8"))
    products = [
        product["id"]
        for category in categories
        for product in yaml.safe_load((directory / f"{category['id']}.yaml").read_text("utf-8"))
    ]
    assert list(read_stock_file(InventorySettings().stock_file)) == products


async def test_seeding_inserts_what_is_missing_and_changes_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "inventory.db")
    documents = await Documents[Stock].open(store, STOCK, Stock)
    stock = StockStore(documents)
    assert await stock.seed({"lamp": 5}) == 1
    assert await stock.seed({"lamp": 9, "desk": 3}) == 1
    found = await stock.get_many(["lamp", "desk"])
    assert {lamp: value.available for lamp, value in found.items()} == {"lamp": 5, "desk": 3}
    await store.close()


async def test_several_processes_may_seed_at_once(tmp_path: Path) -> None:
    stores = [SqliteStore(tmp_path / "inventory.db") for _ in range(3)]
    initial = {f"lamp-{number}": number for number in range(1, 30)}
    seeds = [StockStore(await Documents[Stock].open(store, STOCK, Stock)) for store in stores]
    inserted = await asyncio.gather(*(seed.seed(initial) for seed in seeds))
    assert sum(inserted) == len(initial)
    for store in stores:
        await store.close()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[lamp, desk]", "at the top"),
        ("lamp: -1", "at lamp"),
        ("lamp: many", "at lamp"),
        ("Lamp!: 1", "Lamp!"),
        ("lamp: [", "not valid YAML"),
    ],
)
def test_a_wrong_stock_file_stops_the_start(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "stock.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=complaint):
        read_stock_file(path)


def test_a_missing_stock_file_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOCK_FILE", str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_stock_file(read_settings(InventorySettings).stock_file)
