"""The gRPC API of the user service."""

from __future__ import annotations

from typing import Any

import grpc.aio

from services.pb import user_pb2 as pb
from services.pb import user_pb2_grpc
from services.user.model import (
    ChangeGuestEmail,
    CreateGuest,
    CreateUser,
    KeepGuest,
    ReplaceHash,
    User,
)
from services.user.service import Users

Call = grpc.aio.ServicerContext[Any, Any]


class UserRpc(user_pb2_grpc.UserServiceServicer):
    """Serves ``meshmart.user.v1.UserService``."""

    def __init__(self, users: Users) -> None:
        self._users = users

    async def CreateUser(self, request: pb.CreateUserRequest, context: Call) -> pb.User:
        command = CreateUser(
            email=request.email, name=request.name, password_hash=request.password_hash
        )
        return _message(await self._users.create(command))

    async def CreateGuest(self, request: pb.CreateGuestRequest, context: Call) -> pb.User:
        command = CreateGuest(email=request.email, name=request.name)
        return _message(await self._users.create_guest(command))

    async def KeepGuest(self, request: pb.KeepGuestRequest, context: Call) -> pb.User:
        command = KeepGuest(
            user_id=request.user_id,
            password_hash=request.password_hash,
            email=request.email or None,
        )
        return _message(await self._users.keep_guest(command))

    async def ChangeGuestEmail(self, request: pb.ChangeGuestEmailRequest, context: Call) -> pb.User:
        command = ChangeGuestEmail(user_id=request.user_id, email=request.email)
        return _message(await self._users.change_guest_email(command))

    async def GetCredentials(
        self, request: pb.GetCredentialsRequest, context: Call
    ) -> pb.Credentials:
        user = await self._users.by_email(request.email)
        return pb.Credentials(user=_message(user), password_hash=user.password_hash)

    async def ReplacePasswordHash(
        self, request: pb.ReplacePasswordHashRequest, context: Call
    ) -> pb.ReplacePasswordHashResponse:
        await self._users.replace_password_hash(_replace_hash(request))
        return pb.ReplacePasswordHashResponse()

    async def ChangePassword(self, request: pb.ChangePasswordRequest, context: Call) -> pb.User:
        return _message(await self._users.change_password(_replace_hash(request)))

    async def GetUser(self, request: pb.GetUserRequest, context: Call) -> pb.User:
        return _message(await self._users.get(request.user_id))


def _replace_hash(
    request: pb.ReplacePasswordHashRequest | pb.ChangePasswordRequest,
) -> ReplaceHash:
    return ReplaceHash(
        user_id=request.user_id,
        old_hash=request.old_password_hash,
        new_hash=request.new_password_hash,
    )


def _message(user: User) -> pb.User:
    return pb.User(
        user_id=user.id,
        email=user.email or "",
        name=user.name,
        groups=user.groups,
        password_version=user.password_version,
        contact_email=user.contact_email,
    )
