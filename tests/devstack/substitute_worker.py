"""Stands for a worker: is connected to Redis, prints a warning, and works until it is stopped."""

import os
import signal
import socket
from urllib.parse import urlsplit

address = urlsplit(os.environ["GOALSVC_REDIS_URL"])
assert address.hostname
assert address.port
connection = socket.create_connection((address.hostname, address.port))
print("INFO uvicorn.error: the worker goes on", flush=True)
print("WARNING the worker has something to say", flush=True)
signal.pause()
