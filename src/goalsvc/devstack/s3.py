"""A private S3 endpoint: moto's S3 and nothing else of it, in memory. `python -m goalsvc.devstack.s3 PORT` serves it."""

import os
import signal
import sys

from goalsvc.devstack.ports import HOST


def serve(port: int) -> None:
    """Serves S3 on 127.0.0.1 until the process is told to end. Any credentials do."""
    # One backend's application instead of moto's dispatcher: what is not S3 is not served, and nothing is guessed.
    from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    class QuietRequestHandler(MotoRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Writes nothing: the base class writes a line for each request."""

    server = make_server(HOST, port, create_backend_app("s3"), threaded=True, request_handler=QuietRequestHandler)
    server.serve_forever()


if __name__ == "__main__":
    # At once: there is nothing to save, and a client that keeps its connection open must not keep us from ending.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    serve(int(sys.argv[1]))
