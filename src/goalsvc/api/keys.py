"""API keys: created, listed, rolled, revoked."""

from datetime import datetime, timedelta
from typing import Annotated, Self

from fastapi import Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from goalsvc.actions.keys import NewKey, create_key, known_key, revoke_key, roll_key
from goalsvc.api.dependencies import ContextOf, PagingOf
from goalsvc.api.errors import responses
from goalsvc.api.instants import Instant
from goalsvc.api.operation import CallOf, operations, requires
from goalsvc.api.views import Page
from goalsvc.domain.call import ENVIRONMENT, Scope
from goalsvc.models.api_key import ApiKey
from goalsvc.models.paging import page_of

router = operations("/v1/keys", "Keys")

KeyId = Annotated[str, Path(max_length=64, pattern=r"^key_[0-9a-f]{24}$", examples=["key_68143584d6945d32e732cc30"])]
_LONGEST_GRACE = 7 * 86_400


def _not_of_the_environment(name: str) -> str:
    if name.strip() == ENVIRONMENT.name:
        raise ValueError(f"must not be `{ENVIRONMENT.name}`: causes and the audit name the environment's own keys so")
    return name


#: The names of keys are written into the audit and into causes, so they are short and of one line.
KeyName = Annotated[
    str,
    Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:@/-]*$"),
    AfterValidator(_not_of_the_environment),
]


class KeyBody(BaseModel):
    """A key that is to be created."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"name": "platform backend", "scopes": ["read", "write"]}}
    )

    name: KeyName = Field(description="What it is for; it appears in the audit and in causes. Not `env`.")
    scopes: list[Scope] = Field(
        min_length=1, max_length=len(Scope), description="What it may do; no scope includes another."
    )
    expires_at: Instant | None = Field(default=None, description="When it ends by itself; absent: never.")


class RollBody(BaseModel):
    """How a key is rolled."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"grace": 3600}})

    grace: int = Field(
        default=86_400, ge=0, le=_LONGEST_GRACE, description="For how many seconds the old key remains valid."
    )


class KeyView(BaseModel):
    """An API key, without its secret."""

    id: str = Field(examples=["key_68143584d6945d32e732cc30"])
    name: str = Field(examples=["platform backend"])
    prefix: str = Field(description="The first characters of the key.", examples=["gsk_Zk9vq2Lw"])
    scopes: list[str] = Field(examples=[["read", "write"]])
    created_by: str = Field(description="The name of the key that created it.", examples=["env"])
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None = Field(default=None, description="When it ends, or ended, by itself.")
    last_used_at: datetime | None = Field(default=None, description="When it was used last, to the minute.")
    revoked_at: datetime | None = Field(default=None, description="When it was revoked.")

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        """The view of that key."""
        return cls.model_validate(key.model_dump(include=set(KeyView.model_fields)))


class NewKeyView(KeyView):
    """An API key that was created."""

    key: str = Field(
        description="The key itself. It is shown once and cannot be read again.",
        examples=["gsk_Zk9vq2LwU0H3nB6yTj1xQe8sRc5mDa4fGp7iKoXb"],
    )

    @classmethod
    def showing(cls, new: NewKey) -> Self:
        """The view of a new key, with its secret."""
        return cls(**KeyView.of(new.key).model_dump(), key=new.secret)


async def _known_here(request: Request) -> None:
    """Lets this process know of the change before it answers; others know of it by the change stream."""
    await request.app.state.keyring.refresh()


@router.post("", status_code=201, summary="Create an API key", responses=responses(422, 503))
@requires(Scope.ADMIN)
async def create_api_key(request: Request, context: ContextOf, call: CallOf, body: KeyBody) -> NewKeyView:
    """Creates a key with these scopes. The answer is the only one that shows it."""
    new = await create_key(context, call, body.name, body.scopes, body.expires_at)
    await _known_here(request)
    return NewKeyView.showing(new)


@router.get("", summary="List API keys", responses=responses(422, 503))
@requires(Scope.ADMIN)
async def list_api_keys(
    paging: PagingOf,
    revoked: Annotated[bool | None, Query(description="Only keys that are, or are not, revoked.")] = None,
) -> Page[KeyView]:
    """Keys in the order in which they were created. The keys of the environment are not among them."""
    where = {} if revoked is None else {"revoked_at": {"$ne": None} if revoked else None}
    return Page.of(await page_of(ApiKey, where, paging), KeyView.of)


@router.get("/{key_id}", summary="Read an API key", responses=responses(404, 422, 503))
@requires(Scope.ADMIN)
async def read_api_key(key_id: KeyId) -> KeyView:
    """The key, without its secret."""
    return KeyView.of(await known_key(key_id))


@router.post("/{key_id}/roll", status_code=201, summary="Roll an API key", responses=responses(404, 422, 503))
@requires(Scope.ADMIN)
async def roll_api_key(
    request: Request, context: ContextOf, call: CallOf, key_id: KeyId, body: RollBody | None = None
) -> NewKeyView:
    """Creates a key of the same name and scopes; the old one remains valid for `grace` seconds."""
    new = await roll_key(context, call, key_id, timedelta(seconds=(body or RollBody()).grace))
    await _known_here(request)
    return NewKeyView.showing(new)


@router.delete("/{key_id}", summary="Revoke an API key", responses=responses(404, 422, 503))
@requires(Scope.ADMIN)
async def revoke_api_key(request: Request, context: ContextOf, key_id: KeyId) -> KeyView:
    """Revokes the key, now: the next call with it is refused. Revoking it again changes nothing."""
    revoked = await revoke_key(context, key_id)
    await _known_here(request)
    return KeyView.of(revoked)
