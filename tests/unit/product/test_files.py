"""The files of the catalogue: wrong ones stop the start, and the shop's own are right."""

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from services.common.errors import ConfigurationError
from services.product.files import read_catalogue
from tests.unit.product.shop import ENTRIES, entry, write_catalogue


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("categories.yaml", None, "cannot be read"),
        ("categories.yaml", "- id: kitchen", "wrong at 0.name"),
        ("kitchen.yaml", None, "cannot be read"),
        ("kitchen.yaml", "- [", "not valid YAML"),
        ("kitchen.yaml", "- id: Lamp!", "wrong at 0.id"),
        ("pictures/lamp.svg", None, "cannot be read"),
    ],
)
def test_a_missing_or_broken_file(
    tmp_path: Path, name: str, text: str | None, complaint: str
) -> None:
    path = write_catalogue(tmp_path) / name
    if text is None:
        path.unlink()
    else:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=f"{path.name} .*{complaint}"):
        read_catalogue(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"price_cents": 0},
        {"price_cents": 12.5},
        {"weight_grams": -1},
        {"rating": 5.1},
        {"name": ""},
        {"added": "yesterday"},
        {"colour": "red"},
    ],
)
def test_a_wrong_entry(tmp_path: Path, change: dict[str, object]) -> None:
    write_catalogue(tmp_path, [entry("thing", **change)])
    with pytest.raises(ConfigurationError, match=rf"wrong at 0\.{next(iter(change))}"):
        read_catalogue(tmp_path)


def test_an_id_is_used_once(tmp_path: Path) -> None:
    write_catalogue(tmp_path, [*ENTRIES, entry("mugs")])
    with pytest.raises(ConfigurationError, match="id mugs is used 2 times"):
        read_catalogue(tmp_path)


def test_a_product_stands_in_the_file_of_its_category(tmp_path: Path) -> None:
    write_catalogue(tmp_path)
    path = tmp_path / "home.yaml"
    path.write_text(path.read_text("utf-8").replace("category: home", "category: kitchen"), "utf-8")
    with pytest.raises(ConfigurationError, match="says it is in 'kitchen'"):
        read_catalogue(tmp_path)


def test_the_shop_has_sixty_products_in_six_categories_each_with_a_picture_of_its_own() -> None:
    catalogue = read_catalogue()
    assert len(catalogue.products) >= 60
    assert len(catalogue.categories) == 6
    counts = Counter(product.category for product in catalogue.products)
    assert all(counts[category.id] >= 5 for category in catalogue.categories)
    assert len({picture.etag for picture in catalogue.pictures.values()}) == len(catalogue.products)


def test_pictures_are_harmless_svg() -> None:
    for product_id, picture in read_catalogue().pictures.items():
        root = ElementTree.fromstring(picture.svg)  # noqa: S314  the project's own files
        assert root.tag == "{http://www.w3.org/2000/svg}svg", product_id
        assert len(picture.svg) < 64 * 1024, product_id
        for element in root.iter():
            assert element.tag.rpartition("}")[2] not in {"script", "foreignObject", "image"}
            for attribute, value in element.attrib.items():
                assert not attribute.startswith("on"), product_id
                if attribute.endswith("href"):
                    assert value.startswith("#"), product_id
