"""The dashboard: `create_app` makes it, `serve` runs it on this machine."""

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dash
import flask
from waitress.server import create_server

from . import downloads, shell
from .pages import compare, consistency, overview, runs, spectrum, surface
from .store import Store
from .theme import variables

PAGES: dict[str, shell.Page] = {
    "runs": runs.view,
    "compare": compare.view,
    "overview": overview.view,
    "surface": surface.view,
    "spectrum": spectrum.view,
    "consistency": consistency.view,
}
LOOPBACK = ("127.0.0.1", "localhost")
_FIRST_PORT, _PORTS = 8050, 50

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
{%metas%}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{%title%}</title>
<link rel="icon" type="image/svg+xml" href="assets/mark.svg">
<style>VARIABLES</style>
<script src="/assets/theme.js"></script>
{%css%}
</head>
<body>
{%app_entry%}
<footer>{%config%}{%scripts%}{%renderer%}</footer>
</body>
</html>
"""


def create_app(root: str | Path) -> dash.Dash:
    """Make the app that shows a folder.

    Args:
        root: A run, a folder of runs, or a folder of result files.

    Raises:
        ValueError: If the folder holds neither runs nor results.
    """
    store = Store(root)
    app = dash.Dash(
        __name__,
        title="Landscape",
        update_title=None,  # type: ignore[arg-type]
        serve_locally=True,
        suppress_callback_exceptions=True,
        assets_ignore=r"theme\.js",
        index_string=_PAGE.replace("VARIABLES", variables()),
    )
    app.layout = shell.layout()
    shell.register(app, store, PAGES)
    runs.register(app, store)
    downloads.register(app.server, store)
    _secure(app)
    return app


def _secure(app: dash.Dash) -> None:
    """Answer only to this machine's names, and allow nothing but this server's own content."""
    server = app.server
    server.config["TRUSTED_HOSTS"] = list(LOOPBACK)
    server.config["MAX_CONTENT_LENGTH"] = 8 << 20
    scripts = " ".join(f"'{digest}'" for digest in _script_hashes(app))
    policy = "; ".join(
        [
            "default-src 'self'",
            f"script-src 'self' {scripts}",
            "style-src 'self' 'unsafe-inline'",  # plotly and mantine write style elements
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )

    @server.after_request
    def add_headers(response: flask.Response) -> flask.Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return response


def _script_hashes(app: dash.Dash) -> list[str]:
    return [digest.strip("'") for digest in app.csp_hashes()]


def serve(
    root: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the dashboard until interrupted.

    Args:
        root: A run, a folder of runs, or a folder of result files.
        host: Address to listen on; this machine's own only.
        port: Port to listen on; by default the first free one from 8050 up.
        on_ready: Called with the URL once the server listens.

    Raises:
        ValueError: If the host is not this machine's own, the port is in use, or the folder
            holds neither runs nor results.
    """
    if host not in LOOPBACK:
        raise ValueError(
            f"host must be one of {', '.join(LOOPBACK)}, got {host!r}: the dashboard has no "
            "password, so it is served to this machine only; use an SSH tunnel from another"
        )
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    app = create_app(root)
    server = _listen(app.server, host, port)
    try:
        if on_ready is not None:
            on_ready(f"http://{host}:{server.effective_port}/")
        server.run()
    finally:
        server.close()


def _listen(application: flask.Flask, host: str, port: int | None) -> Any:
    ports = range(_FIRST_PORT, _FIRST_PORT + _PORTS) if port is None else [port]
    for candidate in ports:
        if _is_free(host, candidate):
            return create_server(application, host=host, port=candidate, threads=8)
    if port is None:
        raise ValueError(
            f"no free port from {_FIRST_PORT} to {_FIRST_PORT + _PORTS - 1}; "
            "stop another server or name a port with --port"
        )
    raise ValueError(
        f"port {port} must be free to serve on, but it is in use or not allowed; "
        "choose another with --port, or none to take the first free one"
    )


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError):
            return False
    return True
