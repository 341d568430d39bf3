"""Users: what goalsvc needs to know of a performer or viewer."""

from datetime import datetime
from typing import Annotated

from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from goalsvc.actions.erase_user import erase_user
from goalsvc.api.dependencies import ContextOf, PagingOf, UserPath
from goalsvc.api.errors import responses
from goalsvc.api.operation import operations, requires
from goalsvc.api.views import Page, UserView, View
from goalsvc.domain.addresses import fault_of_address
from goalsvc.domain.call import Scope
from goalsvc.domain.goals import GoalKind
from goalsvc.errors import NotFoundError
from goalsvc.models.filters import UNSET
from goalsvc.models.joined import MOST_GOALS, channels_of
from goalsvc.models.paging import page_of
from goalsvc.models.user import User

router = operations("/v1/users", "Users")


def _source(url: str) -> str:
    if url and (fault := fault_of_address(url)):
        raise ValueError(fault)
    return url


class ByteplusBody(BaseModel):
    """Where the user's livestream can be fetched."""

    model_config = ConfigDict(extra="forbid")

    hls_url: Annotated[str, Field(max_length=2048), AfterValidator(_source)] | None = Field(
        default=None,
        description="The live stream's HLS playlist: an address of http or https; empty for none.",
        examples=["https://pull.example.com/live/alice/playlist.m3u8"],
    )


class UserBody(BaseModel):
    """What is to be known of a user; what is left out stays as it is."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "username": "Alice",
                "tags": ["verified"],
                "byteplus": {"hls_url": "https://pull.example.com/live/alice/playlist.m3u8"},
            }
        },
    )

    username: str | None = Field(default=None, max_length=256)
    tags: list[str] | None = Field(default=None, max_length=200)
    byteplus: ByteplusBody | None = None


class ErasedView(BaseModel):
    """A person who was erased."""

    id: str = Field(description="The platform's id, which remains as the pseudonym.", examples=["u-alice-1"])
    erased_at: datetime = Field(description="When the person was erased.")


class JoinedView(View):
    """A goal in whose channel a user is."""

    goal_id: str = Field(examples=["68143584d6945d32e732cc21"])
    channel: str = Field(examples=["presence-enc-goal@68143584d6945d32e732cc21"])
    kind: GoalKind = Field(description="Of the goal.")
    performs: bool = Field(description="Whether the user is its performer; otherwise its viewer.", examples=[True])


class JoinedChannelsView(View):
    """The goals' channels that a user has joined."""

    items: list[JoinedView]
    truncated: bool = Field(
        description=f"Whether the user has more than {MOST_GOALS} active goals; only so many are looked through."
    )


@router.put("/{user_id}", summary="Create or change a user", responses=responses(401, 409, 422, 503))
@requires(Scope.WRITE)
async def put_user(context: ContextOf, user_id: UserPath, body: UserBody) -> UserView:
    """Sets what is given; a user who is not known yet is created."""
    fields: dict[str, object] = body.model_dump(exclude_none=True)
    return UserView.of(await User.put(user_id, fields, context.clock.now()))


@router.get("", summary="List users", responses=responses(401, 422, 503))
async def list_users(
    paging: PagingOf,
    online: Annotated[bool | None, Query(description="Only users who are, or are not, online.")] = None,
) -> Page[UserView]:
    """Users in the order of their ids."""
    where: dict[str, object] = {"_id": {"$gte": ""}, "erased_at": UNSET}
    if online is not None:
        where["online"] = True if online else {"$ne": True}
    return Page.of(await page_of(User, where, paging), UserView.of)


@router.get("/{user_id}", summary="Read a user", responses=responses(401, 404, 422, 503))
async def read_user(user_id: UserPath) -> UserView:
    """What goalsvc knows of the user."""
    user = await User.by_id(user_id)
    if user is None or user.erased_at is not None:
        raise NotFoundError(f"there is no user {user_id}")
    return UserView.of(user)


@router.get("/{user_id}/channels", summary="Which channels a user has joined", responses=responses(401, 422, 503))
async def read_user_channels(user_id: UserPath) -> JoinedChannelsView:
    """The active goals in whose channels the user is now, as the joins and leaves say; also of a user who is not known."""
    return JoinedChannelsView.model_validate(await channels_of(user_id))


@router.delete("/{user_id}", summary="Erase a user", responses=responses(401, 404, 409, 422, 503))
@requires(Scope.WRITE)
async def delete_user(context: ContextOf, user_id: UserPath) -> ErasedView:
    """Removes what is known of the person. The platform's id remains, as a pseudonym, in ledger and history, whose books stay
    whole; it is not given out again. 409 while the user has a session or goal that goes on, or tokens that are not settled.
    """
    return ErasedView(id=user_id, erased_at=await erase_user(context, user_id))
