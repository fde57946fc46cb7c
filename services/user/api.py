"""The HTTP API of the user service."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from services.common.dependency_injection import provided
from services.common.errors import Kind
from services.common.fields import NewAddress, NewName
from services.common.identity.caller_dependency import CallerDependency
from services.common.protocols.problem import documented
from services.user.model import SavedAddress, User
from services.user.service import OwnAccount

_AddressId = Annotated[
    str, Path(pattern=r"^adr_[a-z2-7]{24}$", examples=["adr_mfrggzdfmztwq2lkmfrggzdf"])
]


class UserView(BaseModel):
    """An account as its user sees it."""

    user_id: str = Field(examples=["usr_mfrggzdfmztwq2lkmfrggzdf"])
    email: str = Field(examples=["ada@example.com"])
    is_guest: bool = Field(description="There is no password (yet) to log in with.")
    name: str = Field(examples=["Ada Lovelace"])
    groups: list[str] = Field(examples=[["beta"]])
    created_at: datetime


class ProfileChange(BaseModel):
    """What to change; what is absent or null stays. Tokens tell of it after their next refresh."""

    model_config = ConfigDict(extra="forbid")

    name: NewName | None = Field(default=None, examples=["Ada King"])
    beta: bool | None = Field(
        default=None, strict=True, description="Join or leave the beta group.", examples=[True]
    )


class AddressBook(BaseModel):
    """All of a user's addresses; the one that was given last is the last."""

    items: list[SavedAddress]


_Account = Annotated[OwnAccount, provided(OwnAccount)]

router = APIRouter(prefix="/api/users/me", tags=["users"])


@router.get(
    "",
    operation_id="show_me",
    summary="Show my account",
    response_model=UserView,
    responses=documented(Kind.UNAUTHENTICATED),
)
async def show_me(caller: CallerDependency, account: _Account) -> UserView:
    return _view(await account.show(caller.user_id))


@router.patch(
    "",
    operation_id="change_me",
    summary="Change my name, join or leave the beta group",
    response_model=UserView,
    responses=documented(Kind.UNAUTHENTICATED),
)
async def change_me(body: ProfileChange, caller: CallerDependency, account: _Account) -> UserView:
    return _view(await account.change(caller.user_id, name=body.name, beta=body.beta))


@router.get(
    "/addresses",
    operation_id="list_addresses",
    summary="List my addresses",
    response_model=AddressBook,
    responses=documented(Kind.UNAUTHENTICATED),
)
async def list_addresses(caller: CallerDependency, account: _Account) -> AddressBook:
    return AddressBook(items=list(await account.addresses(caller.user_id)))


@router.post(
    "/addresses",
    status_code=201,
    operation_id="add_address",
    summary="Add an address",
    response_model=SavedAddress,
    responses=documented(Kind.UNAUTHENTICATED, Kind.CONFLICT),
)
async def add_address(
    body: NewAddress, caller: CallerDependency, account: _Account
) -> SavedAddress:
    return await account.add_address(caller.user_id, body.to_fields())


@router.delete(
    "/addresses/{address_id}",
    status_code=204,
    operation_id="remove_address",
    summary="Remove an address",
    response_model=None,
    responses=documented(Kind.UNAUTHENTICATED, Kind.NOT_FOUND),
)
async def remove_address(
    address_id: _AddressId, caller: CallerDependency, account: _Account
) -> None:
    await account.remove_address(caller.user_id, address_id)


def _view(user: User) -> UserView:
    return UserView(
        user_id=user.id,
        email=user.contact_email,
        is_guest=user.is_guest,
        name=user.name,
        groups=list(user.groups),
        created_at=datetime.fromtimestamp(user.created_ms / 1000, UTC),
    )
