"""Every service answers as its OpenAPI document says, whatever it is asked."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from services.common.topology import load_topology
from tests.testkit.customer import Client, Customer
from tests.testkit.shop import Shop

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
# The frontend's pages are for people; its API is that of the others.
SERVICES = [name for name in load_topology().services if name != "frontend"]


@pytest.fixture(scope="module")
def token(shop: Shop) -> str:
    """The access token of a new customer."""

    async def register() -> str:
        async with aiohttp.ClientSession() as session:
            return (await Customer.register(Client(session, shop.url))).token

    return asyncio.run(register())


@pytest.mark.parametrize("service", SERVICES)
def test_it_answers_as_documented(service: str, shop: Shop, token: str, tmp_path: Path) -> None:
    url = shop.of_service(service)[0].url
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
            *("--checks", ",".join(CHECKS)),
            *("--phases", "examples,coverage,fuzzing"),
            *("--max-examples", "30", "--seed", "1", "--continue-on-failure"),
            *("--header", f"Authorization: Bearer {token}"),
            *("--generation-database", "none", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
