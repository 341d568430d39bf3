"""The names under which views that are asked for often are kept in Redis."""

from goalsvc.domain.channels import cached_channels


def channel_view(channel: str) -> str:
    """The name under which the data of a channel is kept."""
    return f"channel:{channel}"


def session_token_view(session_id: object) -> str:
    """The name under which who may watch a session is kept."""
    return f"session-token:{session_id}"


def streamer_views(streamer_id: str) -> list[str]:
    """The names under which the channel data that shows a streamer's goals and session is kept."""
    return [channel_view(channel) for channel in cached_channels(streamer_id)]
