"""The websocket half of the Pusher emulator: the Pusher Channels protocol, version 7, for pusher-js and its relatives.

https://pusher.com/docs/channels/library_auth_reference/pusher-websockets-protocol/
"""

import contextlib
import hashlib
import hmac
import json
import re
import secrets as random_numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from starlette.websockets import WebSocket, WebSocketDisconnect

#: Length of a channel name, of a client event's data in bytes, and members of a presence channel: Pusher's own limits.
CHANNEL = re.compile(r"[A-Za-z0-9_\-=@,.;]{1,164}")
_CLIENT_DATA_LIMIT = 10_240
_MEMBERS_LIMIT = 100
_USER_ID_LIMIT = 128
_ACTIVITY_TIMEOUT_SECONDS = 120

#: Close codes of the protocol.
_NO_SUCH_APP = 4001
_UNSUPPORTED_PROTOCOL = 4007
_SUPPORTED_PROTOCOLS = range(5, 8)

#: What happened in a channel, as a webhook tells it: `{"name", "channel", "user_id"?, …}`.
WebhookEvent = Mapping[str, object]


class SubscriptionRefusedError(Exception):
    """A subscription that the protocol does not allow; `status` is what Pusher sends with it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class _Connection:
    """One websocket, with the channels that it is subscribed to."""

    socket: WebSocket
    socket_id: str
    channels: dict[str, str | None] = field(default_factory=dict)
    """Channel → the member's user id (None where the channel has no members)."""

    async def send(self, event: str, data: object, channel: str | None = None, user_id: str | None = None) -> None:
        """Sends one event; a socket that is gone is no error, its own reader notices."""
        message: dict[str, object] = {"event": event, "data": data if isinstance(data, str) else json.dumps(data)}
        if channel is not None:
            message["channel"] = channel
        if user_id is not None:
            message["user_id"] = user_id
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await self.socket.send_text(json.dumps(message))


class Sockets:
    """All websockets of one app and the channels that they are in. Tells `happened` what a webhook would tell."""

    def __init__(self, secrets: Mapping[str, str], happened: Callable[[WebhookEvent], None]) -> None:
        """`secrets`: app key → secret."""
        self._secrets = secrets
        self._happened = happened
        self._channels: dict[str, dict[str, _Connection]] = {}
        self._members: dict[str, dict[str, object]] = {}

    # -- what the HTTP API asks ---------------------------------------------------------------------------------------

    def members_of(self, channel: str) -> list[str]:
        """Returns the user ids in a presence channel."""
        return list(self._members.get(channel, {}))

    def occupied(self) -> list[str]:
        """Returns the names of the channels that have a subscription."""
        return list(self._channels)

    async def publish(
        self, channels: Iterable[str], event: str, data: str, except_socket_id: str | None = None
    ) -> None:
        """Sends an event to every socket that is subscribed to one of the channels."""
        for channel in channels:
            for connection in list(self._channels.get(channel, {}).values()):
                if connection.socket_id != except_socket_id:
                    await connection.send(event, data, channel)

    # -- one websocket ------------------------------------------------------------------------------------------------

    async def serve(self, socket: WebSocket) -> None:
        """Serves one websocket until it is closed."""
        await socket.accept()
        key = socket.path_params["key"]
        connection = _Connection(socket, f"{random_numbers.randbelow(10**9)}.{random_numbers.randbelow(10**9)}")
        protocol = socket.query_params.get("protocol", "")
        if key not in self._secrets:
            await self._refuse(connection, _NO_SUCH_APP, f"There is no app with the key {key}")
            return
        if not protocol.isdecimal() or int(protocol) not in _SUPPORTED_PROTOCOLS:
            await self._refuse(connection, _UNSUPPORTED_PROTOCOL, "The protocol must be 5, 6 or 7")
            return
        await connection.send(
            "pusher:connection_established",
            {"socket_id": connection.socket_id, "activity_timeout": _ACTIVITY_TIMEOUT_SECONDS},
        )
        try:
            while True:
                await self._take(connection, key, await socket.receive_text())
        except (WebSocketDisconnect, RuntimeError, KeyError):  # closed, or a frame that is not a text
            pass
        finally:
            for channel in list(connection.channels):
                await self._leave(connection, channel)

    @staticmethod
    async def _refuse(connection: _Connection, code: int, message: str) -> None:
        await connection.send("pusher:error", {"code": code, "message": message})
        await connection.socket.close(code)

    async def _take(self, connection: _Connection, key: str, text: str) -> None:
        try:
            message = json.loads(text)
            event, data = message["event"], message.get("data", {})
            data = json.loads(data) if isinstance(data, str) and event.startswith("pusher:") else data
        except (ValueError, KeyError, TypeError, AttributeError):
            await connection.send("pusher:error", {"code": None, "message": "The message is not an event as JSON"})
            return
        if event == "pusher:ping":
            await connection.send("pusher:pong", {})
        elif event == "pusher:subscribe" and isinstance(data, dict):
            await self._subscribe(connection, key, data)
        elif event == "pusher:unsubscribe" and isinstance(data, dict):
            await self._leave(connection, str(data.get("channel", "")))
        elif isinstance(event, str) and event.startswith("client-"):
            await self._client_event(connection, event, str(message.get("channel", "")), data)

    # -- subscriptions ------------------------------------------------------------------------------------------------

    async def _subscribe(self, connection: _Connection, key: str, data: Mapping[str, object]) -> None:
        channel = str(data.get("channel", ""))
        if channel in connection.channels:
            return
        try:
            member = self._admit(connection, key, channel, data)
        except SubscriptionRefusedError as refused:
            answer = {"type": "AuthError", "error": str(refused), "status": refused.status}
            await connection.send("pusher:subscription_error", answer, channel)
            return
        user_id = None if member is None else member[0]
        first = channel not in self._channels
        self._channels.setdefault(channel, {})[connection.socket_id] = connection
        connection.channels[channel] = user_id
        is_new = False
        if member is not None:
            members = self._members.setdefault(channel, {})
            is_new = member[0] not in members
            members.setdefault(*member)
        await connection.send("pusher_internal:subscription_succeeded", self._presence_of(channel, member), channel)
        if first:
            self._happened({"name": "channel_occupied", "channel": channel})
        if member is not None and is_new:
            await self._tell_others(
                connection, channel, "pusher_internal:member_added", {"user_id": member[0], "user_info": member[1]}
            )
            self._happened({"name": "member_added", "channel": channel, "user_id": member[0]})

    def _admit(
        self, connection: _Connection, key: str, channel: str, data: Mapping[str, object]
    ) -> tuple[str, object] | None:
        """Returns the member (user id, user info) of a presence channel, None for other channels.

        Raises SubscriptionRefusedError for a name that Pusher does not allow and a signature that is not the app's.
        """
        if not CHANNEL.fullmatch(channel):
            raise SubscriptionRefusedError(400, f"Invalid channel name {channel!r}")
        presence = channel.startswith("presence-")
        if not presence and not channel.startswith("private-"):
            return None
        told = data.get("channel_data")
        signed = f"{connection.socket_id}:{channel}" + (f":{told}" if presence else "")
        expected = hmac.new(self._secrets[key].encode(), signed.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(str(data.get("auth", "")), f"{key}:{expected}"):
            raise SubscriptionRefusedError(401, "Invalid signature: it must sign this socket, channel and channel_data")
        if not presence:
            return None
        try:
            member = json.loads(str(told))
            user_id = str(member["user_id"])
        except (ValueError, KeyError, TypeError):
            raise SubscriptionRefusedError(400, "channel_data must be JSON with a user_id") from None
        if not 1 <= len(user_id) <= _USER_ID_LIMIT:
            raise SubscriptionRefusedError(400, f"user_id must have 1 to {_USER_ID_LIMIT} characters")
        members = self._members.get(channel, {})
        if user_id not in members and len(members) >= _MEMBERS_LIMIT:
            raise SubscriptionRefusedError(403, f"A presence channel has at most {_MEMBERS_LIMIT} members")
        return user_id, member.get("user_info", {})

    def _presence_of(self, channel: str, member: tuple[str, object] | None) -> Mapping[str, object]:
        if member is None:
            return {}
        members = self._members[channel]
        return {"presence": {"ids": list(members), "hash": members, "count": len(members)}}

    async def _leave(self, connection: _Connection, channel: str) -> None:
        if channel not in connection.channels:
            return
        user_id = connection.channels.pop(channel)
        remaining = self._channels[channel]
        remaining.pop(connection.socket_id, None)
        if user_id is not None and all(other.channels.get(channel) != user_id for other in remaining.values()):
            self._members[channel].pop(user_id, None)
            await self._tell_others(connection, channel, "pusher_internal:member_removed", {"user_id": user_id})
            self._happened({"name": "member_removed", "channel": channel, "user_id": user_id})
        if not remaining:
            self._channels.pop(channel, None)
            self._members.pop(channel, None)
            self._happened({"name": "channel_vacated", "channel": channel})

    async def _tell_others(self, connection: _Connection, channel: str, event: str, data: object) -> None:
        for other in list(self._channels.get(channel, {}).values()):
            if other is not connection:
                await other.send(event, data, channel)

    # -- client events ------------------------------------------------------------------------------------------------

    async def _client_event(self, connection: _Connection, event: str, channel: str, data: object) -> None:
        if channel not in connection.channels or not channel.startswith(("private-", "presence-")):
            await connection.send("pusher:error", {"code": 4301, "message": f"Not subscribed to {channel}"})
            return
        text = data if isinstance(data, str) else json.dumps(data)
        if len(text.encode()) > _CLIENT_DATA_LIMIT:
            await connection.send("pusher:error", {"code": 4301, "message": f"Over {_CLIENT_DATA_LIMIT} bytes of data"})
            return
        user_id = connection.channels[channel]
        for other in list(self._channels[channel].values()):
            if other is not connection:
                await other.send(event, text, channel, user_id)
        told = {"name": "client_event", "channel": channel, "event": event, "data": text}
        told["socket_id"] = connection.socket_id
        self._happened(told if user_id is None else {**told, "user_id": user_id})
