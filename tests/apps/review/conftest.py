"""The review page, served on this machine, and a headless Chromium that looks at it."""

import shutil
import socket
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn
from playwright.sync_api import sync_playwright

from weakseg.apps.review.photo_desk import PhotoDesk
from weakseg.apps.review.review_queue import ReviewQueue
from weakseg.apps.review.web_app import review_app

TOKEN = "secret"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@contextmanager
def served(run, *, look=True):
    """The address of a run's review page."""
    desk = PhotoDesk(run, "ann")
    queue = ReviewQueue(desk)
    if look:
        queue.look()
    listening = socket.create_server(("127.0.0.1", 0))
    app = review_app(desk, queue, TOKEN)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/?token={TOKEN}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def serve():
    return served


@pytest.fixture(scope="session")
def chromium():
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium):
    """Opens an address at a size; whatever the page complains of fails the test."""
    complaints, contexts = [], []

    def opened(address, width=1400, height=900, scheme="light", complains=False):
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            is_mobile=width < 500,
            has_touch=width < 500,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        if not complains:
            page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        page.wait_for_selector("body[data-image]")
        page.wait_for_selector("#saved[data-state=saved]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def review_address(run_folder):
    with served(run_folder) as address:
        yield address


@pytest.fixture
def page_of(review_address, opened):
    page = opened(review_address)
    page.address = review_address
    return page
