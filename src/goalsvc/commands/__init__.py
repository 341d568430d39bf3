"""The commands that speak to a running API from outside: `send`, `trace`, `replay`, `dead-letters`.

They know the API by its address and keys alone, so that they work against any goalsvc, also one far away.
"""
