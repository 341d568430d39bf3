"""The receivers: what happens when something is said. `ALL` lists every one, in the order of the specification's tables."""

from goalsvc.receivers import completion, embedded, escrow, notices, presence, recording, tracking
from goalsvc.signals.receiver import Receiver

ALL: tuple[Receiver, ...] = (
    # ext.pusher
    tracking.track_channel_presence,
    presence.trigger_user_enter,
    presence.trigger_online,
    presence.karaoke_control,
    # goal.progressed
    embedded.update_and_notify_session_karaoke_goal,
    notices.notify_viewer_change_stream_for_show,
    escrow.trigger_exclusive_goal_escrow_refund,
    tracking.track_goals,
    notices.notify_goal_progress_updated,
    embedded.invalidate_cached_pusher_channel_data,
    completion.trigger_goal_complete,
    # goal.started and goal.completed
    recording.record_show_with_rtc,
    embedded.set_embedded_goal_started,
    escrow.trigger_exclusive_escrow_transfer,
    notices.notify_livestream_mvps,
    embedded.set_embedded_goal_ended,
    completion.deactivate_goal,
    completion.produce_livestream_clip_from_goal,
    escrow.trigger_show_escrow_transfer,
    completion.start_funded_show,
    # goal.ended
    notices.trigger_exclusive_on_close_notification,
    notices.notify_stream_authorized_for_agreed_trigger_goal,
    notices.notify_stream_authorized_for_ended_exclusive_goal,
    escrow.settle_exclusive_escrow,
    escrow.handle_trigger_private_goal_escrow,
    completion.start_agreed_exclusive,
    embedded.cleanup_expired_exclusive_goal_pairs,
    embedded.sync_trigger_goal_session_viewer,
    recording.snapshot_rtc_sources,
    notices.notify_goal_ended,
    escrow.trigger_show_escrow_refund,
    # wallet
    notices.notify_wallet_updated,
    tracking.track_escrow,
)
