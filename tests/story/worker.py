"""One worker process of a deployment: serves the callback until its standard input ends."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

from finch_middleware import FinchConnect, FinchMiddleware


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        pass


def _no_page(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("404 Not Found", [])
    return [b""]


def main() -> None:
    """Read the options as one line of JSON, write the port, serve."""
    finch = FinchConnect(**json.loads(sys.stdin.readline()))
    app = FinchMiddleware(_no_page, finch)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
