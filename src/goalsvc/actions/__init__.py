"""What a caller may ask for: one function each, rules and one write. The API, the console and the command line call these."""

from goalsvc.actions.clips import retry_clip
from goalsvc.actions.contributions import contribute
from goalsvc.actions.dead_letters import redrive
from goalsvc.actions.ends import agree, decline, end_goal
from goalsvc.actions.goals import GoalPlan, create_goal
from goalsvc.actions.sessions import begin_session, end_session

__all__ = [
    "GoalPlan",
    "agree",
    "begin_session",
    "contribute",
    "create_goal",
    "decline",
    "end_goal",
    "end_session",
    "redrive",
    "retry_clip",
]
