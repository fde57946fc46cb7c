"""A process of its own that writes to a SQLite store, for the tests beside it.

``buy FOLDER BUYER``    takes one from the stock until nothing is left; prints how many it got.
``append FOLDER``       inserts documents for ever; prints each id once it is acknowledged.
"""

import asyncio
import sys
from itertools import count

from pydantic import BaseModel

from services.common.documents import Collection, Documents, Index, open_store

THINGS = Collection("things", indexes=(Index("tagged", each="tags", order="rank"),))


class Thing(BaseModel):
    id: str
    rank: int = 0
    tags: list[str] = []
    stock: int = 0
    holds: dict[str, int] = {}


async def buy(things: Documents[Thing], buyer: str) -> None:
    async def one_after_another(customer: str) -> int:
        for number in count():
            hold = f"holds.{customer}-{number}"
            bought = await things.increment(
                "product", {"stock": -1, hold: 1}, at_least={"stock": 0}, absent=[hold]
            )
            if bought is None:
                return number
        raise AssertionError

    numbers = await asyncio.gather(*(one_after_another(f"{buyer}-{n}") for n in range(4)))
    sys.stdout.write(f"{sum(numbers)}\n")


async def append(things: Documents[Thing]) -> None:
    async def one_after_another(writer: int) -> None:
        for number in count():
            thing = Thing(id=f"{writer}-{number}", rank=number, tags=["t"])
            await things.insert(thing)
            sys.stdout.write(f"{thing.id}\n")
            sys.stdout.flush()

    await asyncio.gather(*(one_after_another(writer) for writer in range(4)))


async def main(task: str, folder: str, *arguments: str) -> None:
    store = open_store(f"sqlite:///{folder}", "things")
    things = await Documents.open(store, THINGS, Thing)
    await {"buy": buy, "append": append}[task](things, *arguments)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
