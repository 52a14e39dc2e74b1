"""Serves the review page on this machine alone, unless another host is asked for."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

from weakseg.apps.review.photo_desk import PhotoDesk
from weakseg.apps.review.review_queue import ReviewQueue
from weakseg.types import ConfigError


def serve(
    run: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    who: str | None = None,
    say: Callable[[str], None] = print,
    browse: bool = True,
) -> None:
    """Serves the review page of a run until Ctrl-C.

    Args:
        run: The run's folder.
        host: The address to listen on.
        port: The port; 0: any that is free.
        who: The reviewer's name; None: the user's on this machine.
        say: Told the page's address, and a warning where others can reach it.
        browse: Whether to open it in this machine's browser.

    Raises:
        ConfigError: The extra `ui` is not installed, or the address cannot be listened on.
        RunError: The folder is no run, or has no masks yet.
    """
    try:
        import uvicorn  # noqa: PLC0415

        from weakseg.apps.review.web_app import LOCAL, review_app  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "weakseg review needs FastAPI and uvicorn; pip install 'weakseg[ui]'"
        ) from None
    desk = PhotoDesk(run, who or _user())
    queue, token, stop = ReviewQueue(desk), secrets.token_urlsafe(18), threading.Event()
    listening = _listening(host, port)
    address = (
        f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/?token={token}"
    )
    if host not in LOCAL:
        say(
            f"warning: everybody who can reach {host} and knows the address below can look at the "
            "images and change the masks; it is not encrypted"
        )
    say(f"{len(desk.facts.catalog)} images of {run}: {address}")
    say("(Ctrl-C ends it; every change is saved at once)")
    looking = threading.Thread(target=queue.look, args=(stop,), daemon=True)
    looking.start()
    if browse:
        _browse(address)
    app = review_app(desk, queue, token, [host])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    try:
        server.run(sockets=[listening])
    finally:
        stop.set()
        listening.close()


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen()
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; give another --port or "
            "--host"
        ) from None
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "somebody"


def _browse(address: str) -> None:
    """Opens the page where there is a screen."""
    screen = (
        sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    if screen:
        webbrowser.open(address)
