"""Users: what goalsvc needs to know of a performer or viewer."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from goalsvc.api.dependencies import UserPath
from goalsvc.api.errors import responses
from goalsvc.api.operation import operations, requires
from goalsvc.api.views import UserView
from goalsvc.domain.call import Scope
from goalsvc.models.user import User

router = operations("/v1/users", "Users")


class ByteplusBody(BaseModel):
    """Where the user's livestream can be fetched."""

    model_config = ConfigDict(extra="forbid")

    hls_url: str | None = Field(
        default=None, max_length=2048, examples=["https://pull.example.com/live/alice/playlist.m3u8"]
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


@router.put("/{user_id}", summary="Make a user known, or change him", responses=responses(401, 422, 503))
@requires(Scope.WRITE)
async def put_user(user_id: UserPath, body: UserBody) -> UserView:
    """Sets what is given; a user who is not known yet is made."""
    fields: dict[str, Any] = body.model_dump(exclude_none=True)
    return UserView.of(await User.put(user_id, fields))
