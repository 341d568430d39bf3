"""The services that goalsvc calls, Pusher, S3, BytePlus RTC and the stream's origin: real client and stand-in side by side.

Each module implements one Protocol of `goalsvc.context`. An `open_…` function makes the real client from the settings and
closes it; a `Recorded…` or `Memory…` class stands in for it in tests and in `goalsvc dev`.
"""
