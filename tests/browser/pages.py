"""Every page of the shop, and how somebody gets to see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from playwright.async_api import StorageState, expect

from tests.testkit.customer import ADDRESS, PASSWORD, Client, Customer
from tests.testkit.shopper import DECLINED_VISA, Shopper
from tests.testkit.waiting import eventually

BOARD, LANTERN, ROCKING_HORSE = "oak-serving-board", "camp-lantern", "rocking-horse"
_BLANK_ADDRESS = {**dict.fromkeys(ADDRESS, " "), "country": "NL"}


class People:
    """Who the pages are shown to.

    `regular` has an address, messages, and orders: `order_id` has arrived, `attempt_id` was
    declined. `newcomer` has an account and nothing else.
    """

    def __init__(
        self, *, regular: Customer, newcomer: Customer, order_id: str, attempt_id: str
    ) -> None:
        self.regular = regular
        self.newcomer = newcomer
        self.order_id = order_id
        self.attempt_id = attempt_id
        self._sessions: dict[str, StorageState] = {}

    @classmethod
    async def meet(cls, client: Client) -> People:
        """Opens their accounts and lets the regular order."""
        regular = await Customer.register(client, "Grace Hopper")
        await regular.send("POST", "/api/users/me/addresses", json=dict(ADDRESS))
        order_id = await regular.bought({BOARD: 2, LANTERN: 1})
        declined = await regular.place({BOARD: 1}, payment_method="pm_card_visa_chargeDeclined")
        assert declined.status == 402, declined

        async def arrived() -> bool:
            return any(one["kind"] == "shipment-delivered" for one in await regular.inbox())

        await eventually(arrived, "the parcel is delivered")
        return cls(
            regular=regular,
            newcomer=await Customer.register(client, "Alan Turing"),
            order_id=order_id,
            attempt_id=declined.body["fields"]["order_id"],
        )

    async def enter(self, shopper: Shopper, customer: Customer) -> None:
        """Logs in; after the first time by the cookies of then, which is faster."""
        known = self._sessions.get(customer.email)
        if known is not None:
            await shopper.context.set_storage_state(known)
            return
        await shopper.log_in(customer.email)
        await expect(shopper.page.get_by_role("status")).to_contain_text("Welcome back")
        self._sessions[customer.email] = await shopper.context.storage_state()


Walk = Callable[[Shopper, People], Awaitable[None]]


def _at(path: str) -> Walk:
    async def walk(shopper: Shopper, people: People) -> None:
        await shopper.open(path)

    return walk


def _regular_at(path: str) -> Walk:
    async def walk(shopper: Shopper, people: People) -> None:
        await people.enter(shopper, people.regular)
        await shopper.open(path.format(order_id=people.order_id, attempt_id=people.attempt_id))

    return walk


def _newcomer_at(path: str) -> Walk:
    async def walk(shopper: Shopper, people: People) -> None:
        await people.enter(shopper, people.newcomer)
        await shopper.open(path)

    return walk


async def _cart(shopper: Shopper, people: People) -> None:
    await shopper.put_into_cart(BOARD, 2)
    await shopper.put_into_cart(ROCKING_HORSE)


async def _cart_with_too_many(shopper: Shopper, people: People) -> None:
    """All that there are, of which then somebody else buys one."""
    product = await people.regular.send("GET", f"/api/products/{ROCKING_HORSE}")
    left: int = product.body["available"]
    while left > 0:
        await shopper.put_into_cart(ROCKING_HORSE, min(left, 10))
        left -= 10
    await people.regular.bought({ROCKING_HORSE: 1})
    await shopper.open("/cart")
    await expect(shopper.main).to_contain_text("please take fewer")


async def _registration_refused(shopper: Shopper, people: People) -> None:
    await shopper.open("/register")
    await shopper.page.get_by_label("Your name").fill(" ")
    await shopper.page.get_by_label("E-mail address").fill("ada@example")
    await shopper.page.get_by_label("Password").fill("short")
    await shopper.page.get_by_role("button", name="Open my account").click()
    await expect(shopper.page.get_by_role("alert")).to_be_visible()


async def _log_in_refused(shopper: Shopper, people: People) -> None:
    await shopper.log_in("nobody@example.com", "not the password")
    await expect(shopper.page.get_by_role("alert")).to_be_visible()


async def _new_password_refused(shopper: Shopper, people: People) -> None:
    await shopper.open("/password")
    await shopper.page.get_by_label("Code from the mail").fill("no-such-code")
    await shopper.page.get_by_label("New password").fill("a battery that staples")
    await shopper.page.get_by_role("button", name="Set it").click()
    await expect(shopper.page.get_by_role("alert")).to_be_visible()


async def _delivery(shopper: Shopper, people: People) -> None:
    await people.enter(shopper, people.newcomer)
    await shopper.put_into_cart(BOARD)
    await shopper.open("/checkout")


async def _delivery_refused(shopper: Shopper, people: People) -> None:
    await _delivery(shopper, people)
    await shopper.give_address(_BLANK_ADDRESS)
    await shopper.page.get_by_role("button", name="Continue to payment").click()
    await expect(shopper.page.get_by_role("alert")).to_be_visible()


async def _guest_at_delivery(shopper: Shopper, people: People) -> None:
    await shopper.put_into_cart(BOARD)
    await shopper.open("/checkout")
    await expect(shopper.main.get_by_label("E-mail address")).to_be_visible()


async def _guest_refused(shopper: Shopper, people: People) -> None:
    await _guest_at_delivery(shopper, people)
    await shopper.give_address(_BLANK_ADDRESS)
    await shopper.main.get_by_label("E-mail address").fill("ada@example")
    await shopper.page.get_by_role("button", name="Continue to payment").click()
    await expect(shopper.page.get_by_role("alert")).to_be_visible()


async def _guests_order(shopper: Shopper, people: People) -> None:
    await shopper.order_as_guest(BOARD)


async def _guests_password(shopper: Shopper, people: People) -> None:
    await shopper.order_as_guest(BOARD)
    await shopper.open("/profile/keep")
    await shopper.page.get_by_label("Password").fill("password123")
    await shopper.page.get_by_role("button", name="Set my password").click()
    await expect(shopper.page.get_by_role("alert")).to_be_visible()


async def _guests_address_taken(shopper: Shopper, people: People) -> None:
    await shopper.order_as_guest(BOARD)
    await shopper.open("/profile/keep")
    await shopper.page.get_by_label("You log in with").fill(people.regular.email)
    await shopper.page.get_by_label("Password").fill(PASSWORD)
    await shopper.page.get_by_role("button", name="Set my password").click()
    await expect(shopper.page.get_by_role("alert")).to_contain_text("cannot be moved")


async def _guest_logs_in(shopper: Shopper, people: People) -> None:
    await shopper.order_as_guest(BOARD)
    await shopper.open("/login")
    await expect(shopper.main.get_by_text("Your orders do not move")).to_be_visible()


async def _guest_corrects_the_address(shopper: Shopper, people: People) -> None:
    await shopper.order_as_guest(BOARD)
    await shopper.put_into_cart(BOARD)
    await shopper.open("/checkout")
    await shopper.page.get_by_role("link", name="Change the e-mail address").click()
    await expect(shopper.main.get_by_label("E-mail address")).to_be_visible()


async def _guests_payment(shopper: Shopper, people: People) -> None:
    await _guest_corrects_the_address(shopper, people)
    email = f"{'long' * 12}@example.com"
    await shopper.main.get_by_label("E-mail address").fill(email)
    await shopper.page.get_by_role("button", name="Save the address").click()
    await expect(shopper.page.get_by_role("status")).to_contain_text(email)
    await expect(shopper.main.get_by_text("Mails go to")).to_contain_text(email)


async def _guests_inbox(shopper: Shopper, people: People) -> None:
    await shopper.order_as_guest(BOARD)
    await shopper.open("/inbox")
    await expect(shopper.page.get_by_role("button", name="Mail me the link again")).to_be_visible()


async def _guests_profile(shopper: Shopper, people: People) -> None:
    await shopper.order_as_guest(BOARD)
    await shopper.open("/profile")


async def _choice_of_addresses(shopper: Shopper, people: People) -> None:
    await people.enter(shopper, people.regular)
    await shopper.put_into_cart(BOARD)
    await shopper.open("/checkout?change=1")


async def _payment(shopper: Shopper, people: People) -> None:
    await people.enter(shopper, people.regular)
    await shopper.put_into_cart(BOARD)
    await shopper.open("/checkout")
    await expect(shopper.pay_button).to_be_enabled()


async def _payment_declined(shopper: Shopper, people: People) -> None:
    await _payment(shopper, people)
    await shopper.pay(DECLINED_VISA)
    await expect(shopper.page.get_by_role("alert")).to_be_visible()


async def _profile_refused(shopper: Shopper, people: People) -> None:
    await people.enter(shopper, people.newcomer)
    await shopper.open("/profile")
    await shopper.give_address(_BLANK_ADDRESS)
    await shopper.page.get_by_role("button", name="Add it").click()
    await expect(shopper.page.get_by_role("alert")).to_be_visible()


async def _busy_mesh(shopper: Shopper, people: People) -> None:
    await shopper.open("/products?q=oak")
    await shopper.open("/mesh")
    await expect(shopper.page.locator(".edge-busy").first).to_be_attached()


async def _trace(shopper: Shopper, people: People) -> None:
    await people.enter(shopper, people.regular)
    await shopper.open("/orders")
    await shopper.open("/mesh/traces?service=order")
    await shopper.main.get_by_role("link", name="GET /orders").first.click()
    await expect(shopper.main.get_by_role("table")).to_contain_text("→ order")


PAGES: Mapping[str, Walk] = {
    "home": _at("/"),
    "catalogue": _at("/products"),
    "search": _at("/products?q=oak"),
    "search without a result": _at("/products?q=submarine"),
    "product": _at(f"/products/{BOARD}"),
    "empty cart": _at("/cart"),
    "register": _at("/register"),
    "log in": _at("/login"),
    "log in first": _at("/orders"),
    "forgotten password": _at("/forgot"),
    "new password": _at("/password"),
    "confirmation": _at("/confirm"),
    "about": _at("/about"),
    "not found": _at("/products/no-such-thing"),
    "order": _regular_at("/orders/{order_id}"),
    "order that was not placed": _regular_at("/orders/{attempt_id}"),
    "orders": _regular_at("/orders"),
    "not placed": _regular_at("/orders?show=not-placed"),
    "orders found": _regular_at("/orders?q=board"),
    "no order found": _regular_at("/orders?q=submarine"),
    "inbox": _regular_at("/inbox"),
    "profile": _regular_at("/profile"),
    "no orders": _newcomer_at("/orders"),
    "new inbox": _newcomer_at("/inbox"),
    "new profile": _newcomer_at("/profile"),
    "cart": _cart,
    "cart with too many": _cart_with_too_many,
    "registration refused": _registration_refused,
    "log-in refused": _log_in_refused,
    "new password refused": _new_password_refused,
    "delivery": _delivery,
    "delivery refused": _delivery_refused,
    "choice of addresses": _choice_of_addresses,
    "guest's delivery": _guest_at_delivery,
    "guest's delivery refused": _guest_refused,
    "guest's order": _guests_order,
    "guest's password refused": _guests_password,
    "guest's address taken": _guests_address_taken,
    "guest's log-in": _guest_logs_in,
    "guest's payment": _guests_payment,
    "guest's correction": _guest_corrects_the_address,
    "guest's inbox": _guests_inbox,
    "guest's profile": _guests_profile,
    "payment": _payment,
    "payment declined": _payment_declined,
    "profile refused": _profile_refused,
    "mesh": _busy_mesh,
    "traces": _at("/mesh/traces"),
    "trace": _trace,
}
