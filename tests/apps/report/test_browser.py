"""The report as a browser shows it: headless Chromium, spoken to over a pipe."""

import json
import os
import shutil
import subprocess
import threading

import pytest

from weakseg.apps.report import write_report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
    pytest.mark.skipif(shutil.which("bash") is None, reason="no bash, which joins the pipes"),
]


class Browser:
    """Chromium by its debugging protocol: JSON messages with a zero byte after each."""

    def __init__(self, profile):
        ours, theirs = os.pipe(), os.pipe()
        command = f'exec "$@" 3<&{ours[0]} 4>&{theirs[1]}'
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--remote-debugging-pipe",
        ]
        self.process = subprocess.Popen(
            ["bash", "-c", command, "bash", CHROMIUM, *options, f"--user-data-dir={profile}"],
            pass_fds=(ours[0], theirs[1]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.watch = threading.Timer(300, self.process.kill)  # a browser that hangs fails the test
        self.watch.start()
        os.close(ours[0])
        os.close(theirs[1])
        self.to, self.back = os.fdopen(ours[1], "wb", 0), os.fdopen(theirs[0], "rb")
        self.count, self.session, self.events = 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.to.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def read(self):
        data = bytearray()
        while (byte := self.back.read(1)) != b"\0":
            assert byte, "chromium ended"
            data += byte
        return json.loads(data)

    def open(self, path, width, scheme="light"):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=844,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.read())

    def run(self, expression):
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def told(self, method):
        return [event["params"] for event in self.events if event.get("method") == method]

    def close(self):
        self.watch.cancel()
        self.session = None
        self.to.write(b'{"id": 0, "method": "Browser.close"}\0')
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(evil_run):
    return write_report(evil_run)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_is_legible_and_asks_the_network_for_nothing(
    browser, page, contrast, width, scheme
):
    browser.open(page, width, scheme)
    assert browser.run(
        "[innerWidth, document.documentElement.scrollWidth <= document.documentElement.clientWidth]"
    ) == [width, True]
    texts = browser.run(contrast)
    assert len(texts) > 100
    assert [text for text in texts if text[1] < 4.5] == []
    assert [text for text in texts if text[2] < 12] == []
    requested = [event["request"]["url"] for event in browser.told("Network.requestWillBeSent")]
    assert [url for url in requested if not url.startswith(("file:", "data:"))] == []
    assert browser.told("Runtime.exceptionThrown") == []
    assert browser.told("Log.entryAdded") == []


def test_dark_is_dark_and_light_is_light(browser, page):
    colours = []
    for scheme in ("dark", "light"):
        browser.open(page, 1280, scheme)
        colour = browser.run("getComputedStyle(document.body).backgroundColor")
        colours.append(sum(map(int, colour.strip("rgb()").split(","))) / 3)
    assert colours[0] < 40
    assert colours[1] > 220


def test_every_picture_can_be_decoded(browser, page):
    browser.open(page, 1280)
    sizes = browser.run("""Promise.all([...document.querySelectorAll("svg image")].map(async picture => {
      const image = new Image();
      image.src = picture.href.baseVal;
      await image.decode();
      return image.naturalWidth;
    }))""")
    assert len(sizes) > 50
    assert min(sizes) >= 16


def test_a_picture_is_enlarged_and_put_away_again(browser, page):
    browser.open(page, 390)
    browser.run('document.querySelectorAll(".panel")[3].click()')
    assert browser.run("""(() => {
      const box = document.querySelector("dialog[open] svg").getBoundingClientRect();
      return box.width > 300 && box.left >= 0 && box.right <= innerWidth && box.bottom <= innerHeight;
    })()""")
    assert browser.run('document.querySelector("dialog svg image").href.baseVal').startswith(
        "data:"
    )
    browser.run('document.querySelector("dialog button").click()')
    assert browser.run('document.querySelector("dialog[open]") === null')


def test_the_filter_shows_one_kind_of_reason(browser, page):
    browser.open(page, 1280)
    shown = '[...document.querySelectorAll("#first .card")].filter(c => c.checkVisibility()).length'
    everything = browser.run(shown)
    browser.run("""document.querySelector("[data-kind=empty]").click()""")
    assert 0 < browser.run(shown) < everything
    assert browser.run("""[...document.querySelectorAll("#first .card")]
      .every(c => c.checkVisibility() === (c.querySelector(".why .empty") !== null))""")
    browser.run("""document.querySelector("[data-kind='']").click()""")
    assert browser.run(shown) == everything


def key(browser, name):
    browser.call("Input.dispatchKeyEvent", type="keyDown", key=name)
    browser.call("Input.dispatchKeyEvent", type="keyUp", key=name)


NOW = "document.querySelector('.strip [aria-current]').dataset.id"
LARGE = "document.querySelector('.large use').getAttribute('href').slice(1)"


def test_photo_and_mask_come_first_and_large(browser, page):
    browser.open(page, 1280)
    top, width, height = browser.run("""(() => {
      const box = document.querySelector(".large").getBoundingClientRect();
      return [box.top, box.width, box.height];
    })()""")
    assert top < 300
    assert width * height > 250_000
    assert browser.run("document.querySelector('.large .layer').dataset.title") == "mask"


def test_keys_lead_through_all_images(browser, page):
    browser.open(page, 1280)
    count = browser.run("document.querySelectorAll('.strip li').length")
    seen = []
    for _ in range(count):
        seen.append(browser.run(NOW))
        assert browser.run("document.querySelector('.about h2').textContent") == seen[-1]
        assert browser.run(
            f"{LARGE} === document.querySelector('.strip [aria-current]').dataset.key"
        )
        key(browser, "ArrowRight")
    assert len(set(seen)) == count
    assert browser.run(NOW) == seen[0]
    key(browser, "ArrowLeft")
    assert browser.run(NOW) == seen[-1]


def test_the_viewer_is_narrowed_and_the_mask_made_fainter(browser, page):
    browser.open(page, 1280)
    choose = """(name, value) => {
      const select = document.querySelector(`.narrow [name=${name}]`);
      select.value = value;
      select.dispatchEvent(new Event("input", { bubbles: true }));
      return [...document.querySelectorAll(".strip li")].filter(item => !item.hidden).length;
    }"""
    everything = browser.run(f"({choose})('tag', '')")
    assert 0 < browser.run(f"({choose})('kind', 'empty')") < everything
    assert browser.run("document.querySelector('.said .empty') !== null")
    browser.run(f"({choose})('kind', '')")
    browser.run("""(() => {
      const slider = document.querySelector(".opacity input");
      slider.value = 30;
      slider.dispatchEvent(new Event("input"));
    })()""")
    assert browser.run("document.querySelector('.large .layer').getAttribute('opacity')") == "0.3"


def test_what_names_hold_never_runs(browser, page):
    browser.open(page, 1280)
    assert browser.told("Page.javascriptDialogOpening") == []
    browser.run("""document.body.insertAdjacentHTML("beforeend",
      "<iframe srcdoc='<script>parent.hit = 1</script>'></iframe><img src=x onerror='window.hit = 1'>")""")
    browser.run("new Promise(done => setTimeout(done, 200))")
    assert browser.run("window.hit") is None
