"""Wires the user service."""

from __future__ import annotations

from services.common.serving.host import Host
from services.pb.user_pb2 import DESCRIPTOR
from services.pb.user_pb2_grpc import add_UserServiceServicer_to_server
from services.user import api
from services.user.model import USERS, User
from services.user.rpc import UserRpc
from services.user.service import OwnAccount, Users
from services.user.store import UserStore


async def wire(host: Host) -> None:
    """Builds the service on its host."""
    store = UserStore(await host.documents(USERS, User))
    host.serve_http(api.router, OwnAccount(store))
    host.serve_grpc(
        add_UserServiceServicer_to_server,
        UserRpc(Users(store)),
        DESCRIPTOR.services_by_name["UserService"].full_name,
    )
