"""The HTTP API of the notification service."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from services.common.dependency_injection import provided
from services.common.errors import Kind
from services.common.identity.caller_dependency import CallerDependency
from services.common.limits import MAX_CURSOR_LENGTH
from services.common.protocols.problem import documented
from services.notification.model import MailState
from services.notification.service import Messages


class MessageView(BaseModel):
    """One message in the inbox."""

    id: str = Field(examples=["ord_mfrggzdfmztwq2lkmfrggzdf:confirmed"])
    kind: str = Field(examples=["order-confirmed"])
    order_id: str = Field(examples=["ord_mfrggzdfmztwq2lkmfrggzdf"])
    subject: str = Field(examples=["Your order ord_mfrggzdfmztwq2lkmfrggzdf is confirmed"])
    text: str = Field(examples=["Hello Ada, …"])
    created_at: datetime
    is_held: bool = Field(description="Its mail waits until the address is confirmed.")


class MessagePage(BaseModel):
    """Some of a user's messages, newest first."""

    items: list[MessageView]
    next_cursor: str | None
    mail: MailState = Field(
        description="Whether messages are mailed, too: `waiting` until the address is confirmed, "
        "`off` where the shop has no mail server."
    )


_Messages = Annotated[Messages, provided(Messages)]

router = APIRouter(prefix="/api/notifications", tags=["notifications"])


@router.get(
    "",
    operation_id="list_notifications",
    summary="Show my inbox",
    response_model=MessagePage,
    responses=documented(Kind.UNAUTHENTICATED),
)
async def list_notifications(
    caller: CallerDependency,
    messages: _Messages,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=MAX_CURSOR_LENGTH)] = None,
) -> MessagePage:
    page = await messages.inbox(caller.user_id, limit, cursor)
    mail = await messages.mail_state(caller.user_id)
    return MessagePage(
        items=[
            MessageView(
                id=stored.value.id,
                kind=stored.value.kind,
                order_id=stored.value.order_id,
                subject=stored.value.subject,
                text=stored.value.text,
                created_at=datetime.fromtimestamp(stored.value.created_ms / 1000, UTC),
                is_held=stored.value.is_held and mail is MailState.WAITING,
            )
            for stored in page.items
        ],
        next_cursor=page.next_cursor,
        mail=mail,
    )
