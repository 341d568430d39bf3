"""What every receiver answers, for every goal kind: written down from the specification, not from the code.

Each block is one sender; a line is a receiver with its answer for each kind: `done`, or the reason for which it returned.
Every receiver of that sender has its line, so a receiver that is new, or gone, or connected to too much is noticed.
"""

from collections.abc import Mapping

from goalsvc.domain.goals import GoalKind

from .scenes import Run

#: The goal is performed, or funded, to its target, then ends; a request is agreed to. (What Pusher and the wallet say of it
#: does not depend on how its life goes, and stands only here.)
REACHED = """
channel_occupied                                     FundingGoal           TriggerGoal           ShowGoal              KaraokeGoal           ExclusiveGoal
  track_channel_presence                             done                  done                  done                  done                  done
  trigger_user_enter                                 not_a_stream_channel  not_a_stream_channel  not_a_stream_channel  not_a_stream_channel  not_a_stream_channel
  trigger_online                                     not_a_user_channel    not_a_user_channel    not_a_user_channel    not_a_user_channel    not_a_user_channel
  karaoke_control                                    other_goal_kind       other_goal_kind       done                  done                  done

channel_vacated                                      FundingGoal           TriggerGoal           ShowGoal              KaraokeGoal           ExclusiveGoal
  track_channel_presence                             done                  done                  done                  done                  done
  trigger_user_enter                                 not_a_stream_channel  not_a_stream_channel  not_a_stream_channel  not_a_stream_channel  not_a_stream_channel
  trigger_online                                     not_a_user_channel    not_a_user_channel    not_a_user_channel    not_a_user_channel    not_a_user_channel
  karaoke_control                                    other_goal_kind       other_goal_kind       done                  done                  done

goal.started                                         FundingGoal           TriggerGoal           ShowGoal              KaraokeGoal           ExclusiveGoal
  record_show_with_rtc                               other_goal_kind       other_goal_kind       done                  other_goal_kind       other_goal_kind
  set_embedded_goal_started                          other_goal_kind       other_goal_kind       done                  other_goal_kind       done
  track_goals                                        done                  done                  done                  done                  done

goal.progressed                                      FundingGoal           TriggerGoal           ShowGoal              KaraokeGoal           ExclusiveGoal
  update_and_notify_session_karaoke_goal             other_goal_kind       other_goal_kind       other_goal_kind       done                  other_goal_kind
  notify_viewer_change_stream_for_show               done                  other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind
  trigger_exclusive_goal_escrow_refund               other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind       target_reached
  track_goals                                        done                  done                  done                  done                  done
  notify_goal_progress_updated                       done                  done                  done                  done                  other_goal_kind
  invalidate_cached_pusher_channel_data              done                  done                  done                  done                  done
  trigger_goal_complete                              done                  no_new_level          done                  done                  done

goal.completed                                       FundingGoal           TriggerGoal           ShowGoal              KaraokeGoal           ExclusiveGoal
  trigger_exclusive_escrow_transfer                  other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind       settled_at_the_end
  notify_livestream_mvps                             done                  other_goal_kind       other_goal_kind       done                  other_goal_kind
  track_goals                                        done                  done                  done                  done                  done
  set_embedded_goal_ended                            other_goal_kind       other_goal_kind       done                  other_goal_kind       other_goal_kind
  deactivate_goal                                    done                  not_the_last_level    done                  done                  done
  produce_livestream_clip_from_goal                  other_goal_kind       other_goal_kind       done                  done                  other_goal_kind
  record_show_with_rtc                               other_goal_kind       other_goal_kind       done                  other_goal_kind       other_goal_kind
  trigger_show_escrow_transfer                       other_goal_kind       other_goal_kind       done                  other_goal_kind       other_goal_kind
  start_funded_show                                  done                  other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind

goal.ended                                           FundingGoal           TriggerGoal           ShowGoal              KaraokeGoal           ExclusiveGoal
  trigger_exclusive_on_close_notification            other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind       done
  notify_stream_authorized_for_agreed_trigger_goal   other_goal_kind       done                  other_goal_kind       other_goal_kind       other_goal_kind
  notify_stream_authorized_for_ended_exclusive_goal  other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind       done
  trigger_exclusive_goal_escrow_refund               other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind       target_reached
  settle_exclusive_escrow                            other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind       done
  handle_trigger_private_goal_escrow                 other_goal_kind       done                  other_goal_kind       other_goal_kind       other_goal_kind
  start_agreed_exclusive                             other_goal_kind       done                  other_goal_kind       other_goal_kind       other_goal_kind
  cleanup_expired_exclusive_goal_pairs               other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind       done
  sync_trigger_goal_session_viewer                   other_goal_kind       done                  other_goal_kind       other_goal_kind       done
  snapshot_rtc_sources                               other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind       done
  set_embedded_goal_ended                            other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind       done
  notify_goal_ended                                  done                  done                  completed_show        done                  done
  trigger_show_escrow_refund                         target_reached        other_goal_kind       target_reached        other_goal_kind       other_goal_kind
  track_goals                                        done                  done                  done                  done                  done
  invalidate_cached_pusher_channel_data              done                  done                  done                  done                  done

escrow.completed.individual                          FundingGoal           TriggerGoal           ShowGoal              KaraokeGoal           ExclusiveGoal
  notify_wallet_updated                              told_at_the_end       told_at_the_end       told_at_the_end       told_at_the_end       told_at_the_end
  track_escrow                                       done                  done                  done                  done                  done

escrow.completed                                     FundingGoal           TriggerGoal           ShowGoal              KaraokeGoal           ExclusiveGoal
  notify_wallet_updated                              done                  done                  done                  done                  done
  track_escrow                                       done                  done                  done                  done                  done

escrow.refunded.individual                           FundingGoal           TriggerGoal           ShowGoal              KaraokeGoal           ExclusiveGoal
  notify_wallet_updated                              done                  done                  done                  done                  done
  track_escrow                                       done                  done                  done                  done                  done

escrow.refunded                                      FundingGoal           TriggerGoal           ShowGoal              KaraokeGoal           ExclusiveGoal
  notify_wallet_updated                              told_by_share         told_by_share         told_by_share         told_by_share         told_by_share
  track_escrow                                       done                  done                  done                  done                  done
"""  # noqa: E501 - a table

#: The goal stops below its target and ends so; a request is declined.
SHORT = """
goal.progressed                                      FundingGoal           TriggerGoal           ShowGoal              KaraokeGoal           ExclusiveGoal
  update_and_notify_session_karaoke_goal             other_goal_kind       other_goal_kind       other_goal_kind       done                  other_goal_kind
  notify_viewer_change_stream_for_show               target_not_reached    other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind
  trigger_exclusive_goal_escrow_refund               other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind       done
  track_goals                                        done                  done                  done                  done                  done
  notify_goal_progress_updated                       done                  done                  done                  done                  other_goal_kind
  invalidate_cached_pusher_channel_data              done                  done                  done                  done                  done
  trigger_goal_complete                              no_new_level          no_new_level          no_new_level          no_new_level          no_new_level

goal.ended                                           FundingGoal           TriggerGoal           ShowGoal              KaraokeGoal           ExclusiveGoal
  trigger_exclusive_on_close_notification            other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind       done
  notify_stream_authorized_for_agreed_trigger_goal   other_goal_kind       not_agreed            other_goal_kind       other_goal_kind       other_goal_kind
  notify_stream_authorized_for_ended_exclusive_goal  other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind       done
  trigger_exclusive_goal_escrow_refund               other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind       done
  settle_exclusive_escrow                            other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind       done
  handle_trigger_private_goal_escrow                 other_goal_kind       done                  other_goal_kind       other_goal_kind       other_goal_kind
  start_agreed_exclusive                             other_goal_kind       not_agreed            other_goal_kind       other_goal_kind       other_goal_kind
  cleanup_expired_exclusive_goal_pairs               other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind       done
  sync_trigger_goal_session_viewer                   other_goal_kind       not_agreed            other_goal_kind       other_goal_kind       done
  snapshot_rtc_sources                               other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind       done
  set_embedded_goal_ended                            other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind       done
  notify_goal_ended                                  done                  done                  done                  done                  done
  trigger_show_escrow_refund                         done                  other_goal_kind       done                  other_goal_kind       other_goal_kind
  track_goals                                        done                  done                  done                  done                  done
  invalidate_cached_pusher_channel_data              done                  done                  done                  done                  done
"""  # noqa: E501 - a table

#: The goal reaches a level that is not its last.
LOWER_LEVEL = """
goal.progressed                                      FundingGoal           TriggerGoal           ShowGoal              KaraokeGoal           ExclusiveGoal
  update_and_notify_session_karaoke_goal             other_goal_kind       other_goal_kind       other_goal_kind       done                  other_goal_kind
  notify_viewer_change_stream_for_show               target_not_reached    other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind
  trigger_exclusive_goal_escrow_refund               other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind       done
  track_goals                                        done                  done                  done                  done                  done
  notify_goal_progress_updated                       done                  done                  done                  done                  other_goal_kind
  invalidate_cached_pusher_channel_data              done                  done                  done                  done                  done
  trigger_goal_complete                              done                  no_new_level          done                  done                  done

goal.completed                                       FundingGoal           TriggerGoal           ShowGoal              KaraokeGoal           ExclusiveGoal
  trigger_exclusive_escrow_transfer                  other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind       settled_at_the_end
  notify_livestream_mvps                             done                  other_goal_kind       other_goal_kind       done                  other_goal_kind
  track_goals                                        done                  done                  done                  done                  done
  set_embedded_goal_ended                            other_goal_kind       other_goal_kind       not_the_last_level    other_goal_kind       other_goal_kind
  deactivate_goal                                    not_the_last_level    not_the_last_level    not_the_last_level    not_the_last_level    not_the_last_level
  produce_livestream_clip_from_goal                  other_goal_kind       other_goal_kind       not_the_last_level    not_the_last_level    other_goal_kind
  record_show_with_rtc                               other_goal_kind       other_goal_kind       not_the_last_level    other_goal_kind       other_goal_kind
  trigger_show_escrow_transfer                       other_goal_kind       other_goal_kind       not_the_last_level    other_goal_kind       other_goal_kind
  start_funded_show                                  not_the_last_level    other_goal_kind       other_goal_kind       other_goal_kind       other_goal_kind
"""  # noqa: E501 - a table

#: An exclusive without levels is performed for a while: its end completes it.
UNTIMED = """
goal.progressed                                      ExclusiveGoal
  update_and_notify_session_karaoke_goal             other_goal_kind
  notify_viewer_change_stream_for_show               other_goal_kind
  trigger_exclusive_goal_escrow_refund               done
  track_goals                                        done
  notify_goal_progress_updated                       other_goal_kind
  invalidate_cached_pusher_channel_data              done
  trigger_goal_complete                              no_new_level

goal.completed                                       ExclusiveGoal
  trigger_exclusive_escrow_transfer                  done
  notify_livestream_mvps                             other_goal_kind
  track_goals                                        done
  set_embedded_goal_ended                            other_goal_kind
  deactivate_goal                                    not_the_last_level
  produce_livestream_clip_from_goal                  other_goal_kind
  record_show_with_rtc                               other_goal_kind
  trigger_show_escrow_transfer                       other_goal_kind
  start_funded_show                                  other_goal_kind

goal.ended                                           ExclusiveGoal
  trigger_exclusive_on_close_notification            done
  notify_stream_authorized_for_agreed_trigger_goal   other_goal_kind
  notify_stream_authorized_for_ended_exclusive_goal  done
  trigger_exclusive_goal_escrow_refund               target_reached
  settle_exclusive_escrow                            not_timed
  handle_trigger_private_goal_escrow                 other_goal_kind
  start_agreed_exclusive                             other_goal_kind
  cleanup_expired_exclusive_goal_pairs               done
  sync_trigger_goal_session_viewer                   done
  snapshot_rtc_sources                               done
  set_embedded_goal_ended                            done
  notify_goal_ended                                  done
  trigger_show_escrow_refund                         other_goal_kind
  track_goals                                        done
  invalidate_cached_pusher_channel_data              done
"""

#: The same senders for the channels that are about no goal: for each kind of channel what `ext.pusher`'s receivers answer.
CHANNELS = """
channel_occupied           presence-enc-goal@      presence-stream@        private-stream@         private-user@
  track_channel_presence   done                    done                    done                    done
  trigger_user_enter       not_a_stream_channel    done                    done                    not_a_stream_channel
  trigger_online           not_a_user_channel      not_a_user_channel      not_a_user_channel      done
  karaoke_control          done                    not_a_goal_channel      not_a_goal_channel      not_a_goal_channel

channel_vacated            presence-enc-goal@      presence-stream@        private-stream@         private-user@
  track_channel_presence   done                    done                    done                    done
  trigger_user_enter       not_a_stream_channel    done                    done                    not_a_stream_channel
  trigger_online           not_a_user_channel      not_a_user_channel      not_a_user_channel      done
  karaoke_control          done                    not_a_goal_channel      not_a_goal_channel      not_a_goal_channel
"""

#: Sender → column → receiver → answer.
Table = Mapping[str, Mapping[str, Mapping[str, str]]]


def read(text: str) -> Table:
    """The blocks of such a text. Raises AssertionError for a line that leaves a cell empty."""
    table: dict[str, dict[str, dict[str, str]]] = {}
    for block in text.strip().split("\n\n"):
        (sender, *columns), *rows = (line.split() for line in block.splitlines())
        cells = table.setdefault(sender, {column: {} for column in columns})
        for receiver, *answers in rows:
            assert len(answers) == len(columns), f"{sender}: {receiver} needs {len(columns)} answers"
            for column, answer in zip(columns, answers, strict=True):
                cells[column][receiver] = answer
    return table


BY_RUN: Mapping[Run, Table] = {
    Run.REACHED: read(REACHED),
    Run.SHORT: read(SHORT),
    Run.LOWER_LEVEL: read(LOWER_LEVEL),
    Run.UNTIMED: read(UNTIMED),
}
BY_CHANNEL: Table = read(CHANNELS)

assert all(
    set(columns) == set(GoalKind)
    for run, table in BY_RUN.items()
    if run is not Run.UNTIMED
    for columns in table.values()
)
