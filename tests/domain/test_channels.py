"""Pusher's names and ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalsvc.domain import channels
from goalsvc.domain.channels import SENDER_BY_EVENT_NAME, Channel, ChannelKind, cached_channels, event_id

GOAL = "68143584d6945d32e732cc21"


class TestChannel:
    @pytest.mark.parametrize(
        ("name", "kind", "about", "presence"),
        [
            (f"presence-enc-goal@{GOAL}", ChannelKind.GOAL, GOAL, True),
            (f"presence-goal@{GOAL}", ChannelKind.GOAL, GOAL, True),
            ("presence-stream@u-1", ChannelKind.STREAM, "u-1", True),
            ("presence-enc-stream@u-1", ChannelKind.STREAM, "u-1", True),
            ("private-stream@u-1", ChannelKind.STREAM, "u-1", False),
            ("private-enc-stream@u-1", ChannelKind.STREAM, "u-1", False),
            ("private-user@u-1", ChannelKind.USER, "u-1", False),
            ("private-enc-user@u-1", ChannelKind.USER, "u-1", False),
            ("presence-user@u-1", ChannelKind.USER, "u-1", True),
            ("presence-enc-user@u-1", ChannelKind.USER, "u-1", True),
        ],
    )
    def test_ours(self, name: str, kind: ChannelKind, about: str, presence: bool) -> None:
        assert Channel.parse(name) == Channel(name, kind, about, presence)

    def test_whom_it_is_about_may_hold_an_at_sign(self) -> None:
        channel = Channel.parse("private-user@alice@example")
        assert channel is not None
        assert channel.about == "alice@example"

    @pytest.mark.parametrize(
        "name",
        [
            *("", "@", "@u-1", "private-user", "private-user@", "user@u-1", "private-goal@1", "Private-User@u-1"),
            *("private-encrypted-user@u-1", " private-user@u-1", "presence-room@u-1", "cache-private-user@u-1"),
            *("presence-stream@a$b", "presence-stream@a b", "presence-stream@é", "private-user@a\n", "private-user@.."),
            *(f"presence-stream@{'a' * 129}", f"presence-goal@{'a' * 151}", "presence-goal@a b", "presence-goal@a\0"),
        ],
    )
    def test_not_ours(self, name: str) -> None:
        assert Channel.parse(name) is None

    @given(st.text())
    def test_any_text_is_one_or_the_other(self, text: str) -> None:
        channel = Channel.parse(text)
        assert channel is None or (channel.name == text and channel.about)


class TestNames:
    def test_joins_and_leaves(self) -> None:
        assert SENDER_BY_EVENT_NAME == {
            "member_added": "channel_occupied",
            "channel_occupied": "channel_occupied",
            "member_removed": "channel_vacated",
            "channel_vacated": "channel_vacated",
        }

    def test_those_we_make_we_can_read(self) -> None:
        made = [
            channels.goal_channel(GOAL),
            channels.private_stream("u"),
            channels.presence_stream("u"),
            channels.private_user("u"),
        ]
        assert all(Channel.parse(name) for name in [*made, *cached_channels("u")])

    def test_cached_are_the_four_of_the_specification(self) -> None:
        assert set(cached_channels("u")) == {
            "private-user@u",
            "private-enc-user@u",
            "private-stream@u",
            "private-enc-stream@u",
        }


class TestEventId:
    def test_the_same_event_has_the_same_id(self) -> None:
        assert event_id("member_added", "c", "u", 1) == event_id("member_added", "c", "u", 1)

    def test_its_twin_and_every_other_event_another(self) -> None:
        ids = {
            event_id("member_added", "c", "u", 1),
            event_id("channel_occupied", "c", "u", 1),
            event_id("member_added", "d", "u", 1),
            event_id("member_added", "c", "v", 1),
            event_id("member_added", "c", None, 1),
            event_id("member_added", "c", "u", 2),
        }
        assert len(ids) == 6

    def test_it_is_short_and_holds_no_slash(self) -> None:
        """It is part of job ids and of promise references, which are parted by slashes."""
        assert len(event_id("x/y", "a/b", "c/d", 1)) == 24
        assert event_id("x/y", "a/b", "c/d", 1).isalnum()
