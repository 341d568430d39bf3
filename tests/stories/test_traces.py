"""The traces of the two runs that the project began with: exactly these receivers, returned or not, and what is starred."""

import pytest

from tests.world import World

from .outline import outline, outline_of
from .scenes import a_funded_show, an_exclusive

pytestmark = pytest.mark.real

STARTED = """
webhook member_added
  signal channel_occupied
    track_channel_presence
    trigger_user_enter returned
    trigger_online returned
    karaoke_control
      task announce_goal_started*
        signal goal.started
"""

SHOW_STARTED = """
          record_show_with_rtc*
            task StartRecord*
          set_embedded_goal_started*
          track_goals*
"""

SHOW_LEFT = """
webhook member_removed
  signal channel_vacated
    track_channel_presence
    trigger_user_enter returned
    trigger_online returned
    karaoke_control
      task increment_goal_progress
        signal goal.progressed
          update_and_notify_session_karaoke_goal returned
          notify_viewer_change_stream_for_show returned
          trigger_exclusive_goal_escrow_refund returned
          track_goals
          notify_goal_progress_updated
          invalidate_cached_pusher_channel_data
          trigger_goal_complete
            signal goal.completed
              trigger_exclusive_escrow_transfer returned
              notify_livestream_mvps returned
              track_goals
              set_embedded_goal_ended
              deactivate_goal
                task deactivate_goal
                  signal goal.ended
                    trigger_exclusive_on_close_notification returned
                    notify_stream_authorized_for_agreed_trigger_goal returned
                    notify_stream_authorized_for_ended_exclusive_goal returned
                    trigger_exclusive_goal_escrow_refund returned
                    settle_exclusive_escrow* returned
                    handle_trigger_private_goal_escrow returned
                    start_agreed_exclusive* returned
                    cleanup_expired_exclusive_goal_pairs returned
                    sync_trigger_goal_session_viewer returned
                    snapshot_rtc_sources returned
                    set_embedded_goal_ended returned
                    notify_goal_ended returned
                    trigger_show_escrow_refund returned
                    track_goals
                    invalidate_cached_pusher_channel_data
              produce_livestream_clip_from_goal
                task create_post_from_livestream
                  task clip_livestream_as_asset
              record_show_with_rtc
                task StopRecord
              trigger_show_escrow_transfer
                task escrow_out
                  task update_bi_escrow
                    task transfer_escrow
                      task transfer
                        task announce_escrow_share*
                          signal escrow.completed.individual
                            notify_wallet_updated* returned
                            track_escrow*
                  task update_bi_escrow
                    task transfer_escrow
                      task transfer
                        task announce_escrow_share*
                          signal escrow.completed.individual
                            notify_wallet_updated* returned
                            track_escrow*
                          signal escrow.completed
                            notify_wallet_updated*
                            track_escrow*
              start_funded_show* returned
"""

EXCLUSIVE_STARTED = """
          record_show_with_rtc* returned
          set_embedded_goal_started*
          track_goals*
"""

EXCLUSIVE_LEFT = """
webhook member_removed
  signal channel_vacated
    track_channel_presence
    trigger_user_enter returned
    trigger_online returned
    karaoke_control
      task increment_goal_progress
        signal goal.progressed
          notify_goal_progress_updated returned
          update_and_notify_session_karaoke_goal returned
          notify_viewer_change_stream_for_show returned
          track_goals
          trigger_exclusive_goal_escrow_refund returned
          invalidate_cached_pusher_channel_data
          trigger_goal_complete
            signal goal.completed
              notify_livestream_mvps returned
              set_embedded_goal_ended returned
              produce_livestream_clip_from_goal returned
              record_show_with_rtc returned
              trigger_show_escrow_transfer returned
              start_funded_show* returned
              track_goals
              trigger_exclusive_escrow_transfer returned
              deactivate_goal
                task deactivate_goal
                  signal goal.ended
                    trigger_exclusive_on_close_notification
                    notify_stream_authorized_for_ended_exclusive_goal
                    trigger_show_escrow_refund returned
                    handle_trigger_private_goal_escrow returned
                    notify_stream_authorized_for_agreed_trigger_goal returned
                    start_agreed_exclusive* returned
                    track_goals
                    snapshot_rtc_sources
                      task StartSnapshot
                    sync_trigger_goal_session_viewer
                    set_embedded_goal_ended
                    notify_goal_ended
                    trigger_exclusive_goal_escrow_refund returned
                    settle_exclusive_escrow*
                      task transfer_escrow
                        task transfer
                          task announce_escrow_share*
                            signal escrow.completed.individual
                              notify_wallet_updated* returned
                              track_escrow*
                            signal escrow.completed
                              notify_wallet_updated*
                              track_escrow*
                    cleanup_expired_exclusive_goal_pairs
                    invalidate_cached_pusher_channel_data
"""


async def test_a_completed_show_as_in_seed_000(world: World) -> None:
    show = await world.given(a_funded_show(seconds=360, earnings=2))
    await world.performer_joins(show)
    await world.settle()
    await world.after(seconds=400)
    await world.performer_leaves(show)
    await world.settle()
    assert outline_of(await world.trace(show)) == outline(STARTED + SHOW_STARTED.lstrip("\n") + SHOW_LEFT)


async def test_a_completed_exclusive_as_in_seed_001(world: World) -> None:
    exclusive = await world.given(an_exclusive(seconds=360))
    await world.performer_joins(exclusive)
    await world.settle()
    await world.after(seconds=360)
    await world.performer_leaves(exclusive)
    await world.settle()
    assert outline_of(await world.trace(exclusive)) == outline(
        STARTED + EXCLUSIVE_STARTED.lstrip("\n") + EXCLUSIVE_LEFT
    )


async def test_the_reasons_of_what_returned(world: World) -> None:
    show = await world.given(a_funded_show())
    await world.performs(show, seconds=400)
    await world.settle()
    ((joined, left),) = [await world.trace(show)]
    reasons = {
        node["name"]: node["reason"]
        for webhook in (joined, left)
        for node in webhook["children"][0]["children"]
        if node["outcome"] == "returned"
    }
    assert reasons == {"trigger_user_enter": "not_a_stream_channel", "trigger_online": "not_a_user_channel"}
    assert all(node["ms"] >= 0 and node["at"] for node in (joined, left))
