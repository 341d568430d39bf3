"""Emulators for Pusher's and BytePlus's HTTP APIs, which check what they are sent as the real ones do and record it.

Beside the real API each has a few endpoints of its own, for tests and demos:

- `GET /recorded` lists what was accepted, oldest first; query parameters filter it, `limit=N` gives the last N.
- `DELETE /recorded` forgets it.
- `POST /trouble {"status": 503, "count": 3}` refuses the next calls, `{"hang_seconds": 20, "count": 1}` answers late;
  `DELETE /trouble` ends it.
"""

from goalsvc.devstack.standins.byteplus import BytePlusStandIn
from goalsvc.devstack.standins.pusher import PusherStandIn
from goalsvc.devstack.standins.recording import Recording, Trouble
from goalsvc.devstack.standins.serving import serving

__all__ = ["BytePlusStandIn", "PusherStandIn", "Recording", "Trouble", "serving"]
