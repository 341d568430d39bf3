"""The services that goalsvc calls, Pusher, S3, BytePlus RTC and the stream's origin: real clients.

Each module implements one Protocol of `goalsvc.context`. An `open_…` function makes the real client from the settings and
closes it; `tests/support/services.py` has its fake, `goalsvc.devstack.standins` its emulator.
"""
