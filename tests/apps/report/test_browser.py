"""The report as a browser shows it: headless Chromium, spoken to over a pipe."""

import json
import os
import shutil
import subprocess
import threading
from urllib.parse import unquote

import pytest

from weakseg.apps.report import doubts, pictures, viewer, write_report
from weakseg.apps.report import page as page_module

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
        self.watch = threading.Timer(900, self.process.kill)  # a browser that hangs fails the test
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
      const box = document.querySelector("#large[open] svg").getBoundingClientRect();
      return box.width > 300 && box.left >= 0 && box.right <= innerWidth && box.bottom <= innerHeight;
    })()""")
    assert browser.run('document.querySelector("#large svg image").href.baseVal').startswith(
        "data:"
    )
    browser.run('document.querySelector("#large button").click()')
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


NOW = "document.body.dataset.image"
SHOWN = "document.querySelector('#canvas').dataset.shows"
# The colour at a place of the photo, 4:3, given in shares of it.
COLOUR = """((x, y) => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => {
  const canvas = document.querySelector("#canvas"), width = canvas.width - 24, height = canvas.height - 66;
  const scale = Math.min(width / 4, height / 3);
  const left = 12 + (width - 4 * scale) / 2 + 4 * scale * x, top = 54 + (height - 3 * scale) / 2 + 3 * scale * y;
  done([...canvas.getContext("2d").getImageData(left, top, 1, 1).data]);
}))))"""


def until(browser, expression):
    """Waits until the page says yes."""
    assert browser.run(f"""new Promise(done => {{
      const end = performance.now() + 60000;
      const ask = () => {expression} ? done(true) : performance.now() > end ? done(false) : setTimeout(ask, 20);
      ask();
    }})"""), expression


def looked_at(browser):
    until(browser, f"{NOW} && {NOW} === {SHOWN}")
    return browser.run(NOW)


def choose(browser, name, value):
    browser.run(f"""(() => {{
      const field = document.querySelector(".filters [name={name}]");
      field.value = {json.dumps(value)};
      field.dispatchEvent(new Event("input", {{ bubbles: true }}));
    }})()""")
    browser.run("new Promise(done => setTimeout(done, 250))")
    looked_at(browser)
    return int(
        browser.run("document.querySelector('#place').textContent")
        .split(" of ")[1]
        .replace(",", "")
    )


def test_photo_and_mask_come_first_and_large(browser, page):
    browser.open(page, 1280)
    looked_at(browser)
    top, width, height = browser.run("""(() => {
      const box = document.querySelector("#canvas").getBoundingClientRect();
      return [box.top, box.width, box.height];
    })()""")
    assert top < 260
    assert width * height > 300_000
    choose(browser, "text", "plain/1")
    tinted = browser.run(f"{COLOUR}(0.5, 0.5)")
    browser.run("""(() => {
      const slider = document.querySelector("#opacity");
      slider.value = 0;
      slider.dispatchEvent(new Event("input"));
    })()""")
    bare = browser.run(f"{COLOUR}(0.5, 0.5)")
    assert bare[3] == tinted[3] == 255
    assert bare != tinted


def test_keys_lead_through_all_images(browser, page):
    browser.open(page, 1280)
    count = int(browser.run("document.querySelector('#place').textContent.split(' of ')[1]"))
    seen = []
    for _ in range(count):
        seen.append(looked_at(browser))
        assert browser.run("document.querySelector('#name').textContent") == seen[-1]
        # The list draws what is seen of it, in the next frame.
        row = "document.querySelector('.row[aria-current=true]')?.dataset.id"
        until(browser, f"{row} === {json.dumps(seen[-1])}")
        key(browser, "ArrowRight")
    assert len(set(seen)) == count == 11
    key(browser, "ArrowLeft")
    until(browser, f"{NOW} === {json.dumps(seen[-2])}")
    file = browser.run("document.querySelector('#mask-file').getAttribute('href')")
    assert (page.parent / unquote(file)).is_file()
    key(browser, "?")
    assert browser.run("document.querySelectorAll('#help[open] dl div').length") > 8


def test_the_list_is_narrowed(browser, page):
    browser.open(page, 1280)
    looked_at(browser)
    everything = choose(browser, "order", "file")
    rows = "[...document.querySelectorAll('.row')].map(row => row.dataset.id)"
    assert browser.run(rows) == sorted(browser.run(rows))
    assert 0 < choose(browser, "kind", "empty") < everything
    assert browser.run("document.querySelector('#why .empty') !== null")
    choose(browser, "kind", "")
    assert choose(browser, "tag", "cow") == 9
    assert choose(browser, "tag", "") == everything
    assert choose(browser, "text", "PLAIN/3") == 1
    assert browser.run(NOW) == "plain/3"
    browser.run("document.querySelector('[name=text]').value = 'no such file'")
    browser.run("document.querySelector('.filters').dispatchEvent(new Event('input'))")
    until(browser, "!document.querySelector('#none').hidden")


def test_maps_and_other_masks_are_laid_over_the_photo(browser, page):
    browser.open(page, 1280)
    looked_at(browser)
    choose(browser, "text", "plain/1")
    bare, seen = browser.run(f"{COLOUR}(0.5, 0.5)"), []
    for _ in range(4):
        key(browser, "o")
        browser.run("new Promise(done => setTimeout(done, 100))")
        seen.append(browser.run("document.querySelector('#overlay').value"))
        assert (browser.run(f"{COLOUR}(0.5, 0.5)") != bare) == (seen[-1] != "")
    assert seen == ["spotlight", "compensation", "weighted map", ""]
    outside = browser.run(f"{COLOUR}(0.15, 0.5)")  # of the mask, but inside of the truth
    browser.run("""(() => {
      const select = document.querySelector("#layer");
      select.value = "truth";
      select.dispatchEvent(new Event("change"));
    })()""")
    until(browser, "document.querySelector('#canvas').ariaLabel === 'plain/1 with its truth'")
    assert browser.run(f"{COLOUR}(0.15, 0.5)") != outside
    key(browser, "h")
    assert browser.run(f"{COLOUR}(0.15, 0.5)") == outside


def test_on_a_telephone_the_list_opens_over_the_page(browser, page):
    browser.open(page, 390)
    looked_at(browser)
    top, height = browser.run("""(() => {
      const box = document.querySelector("#canvas").getBoundingClientRect();
      return [box.top, box.height];
    })()""")
    assert top < 260
    assert height > 300
    open_list = "document.querySelector('.queue').checkVisibility()"
    assert not browser.run(open_list)
    browser.run("document.querySelector('.judge [data-do=queue]').click()")
    assert browser.run(open_list)
    until(browser, "document.querySelectorAll('.row').length > 5")
    wanted = browser.run("document.querySelectorAll('.row')[4].dataset.id")
    browser.run("document.querySelectorAll('.row')[4].click()")
    until(browser, f"{NOW} === {json.dumps(wanted)}")
    assert not browser.run(open_list)


@pytest.fixture(scope="module")
def large(tmp_path_factory, drawing_in):
    """A report of 2,000 images, whose page has room for the pictures of a few."""
    drawing = drawing_in(tmp_path_factory.mktemp("large"), ["cat", "cow"])
    for k in range(20):
        drawing.add(f"{k:05d}", [drawing.classes[k % 2]])
    run = drawing.run()
    record = json.loads((run / "catalog.json").read_text())
    for k in range(20, 2000):
        record["samples"].append({**record["samples"][k % 20], "id": f"{k:05d}"})
        shutil.copyfile(run / "masks" / f"{k % 20:05d}.png", run / "masks" / f"{k:05d}.png")
    (run / "catalog.json").write_text(json.dumps(record))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "MAX_BYTES", page_module._FRAME_BYTES + 500_000)
        patch.setattr(doubts, "MAX_LOOKED_AT", 30)
        patch.setattr(viewer, "_MANY", 10_000)
        return write_report(run)


def test_two_thousand_images_scroll_smoothly_and_show_their_pictures(browser, large):
    browser.open(large, 1280)
    looked_at(browser)
    assert choose(browser, "order", "file") == 2000
    seen = browser.run("""(async () => {
      const list = document.querySelector("#rows"), gaps = [];
      let most = 0, last = performance.now();
      for (let frame = 0; frame < 90; frame++) {
        list.scrollTop += 240;
        await new Promise(requestAnimationFrame);
        const now = performance.now();
        gaps.push(now - last);
        last = now;
        most = Math.max(most, document.querySelectorAll(".row").length);
      }
      gaps.sort((a, b) => a - b);
      list.scrollTop = list.scrollHeight;
      return { median: gaps[45], most };
    })()""")
    assert seen["most"] < 60
    assert seen["median"] < 60
    until(browser, "document.querySelector('.row[data-id=\"01999\"] img')?.complete")
    browser.run("document.querySelector('.row[data-id=\"01999\"]').click()")
    assert looked_at(browser) == "01999"
    assert browser.run(f"{COLOUR}(0.5, 0.5)")[3] == 255
    key(browser, "ArrowLeft")
    assert looked_at(browser) == "01998"
    scripts = [event["request"]["url"] for event in browser.told("Network.requestWillBeSent")]
    asked = [url for url in scripts if url.endswith(".js")]
    assert 0 < len(asked) < 20  # what is only scrolled past is not loaded
    assert all(url.startswith((large.parent / "report").as_uri()) for url in asked)
    assert browser.told("Log.entryAdded") == []


def test_a_page_without_its_folder_says_so(browser, large, tmp_path):
    alone = tmp_path / "report.html"
    shutil.copyfile(large, alone)
    browser.open(alone, 1280)
    choose(browser, "order", "file")
    choose(browser, "text", "01999")
    assert "copy it, too" in browser.run(
        "document.querySelector('#hint:not([hidden])').textContent"
    )


def test_what_names_hold_never_runs(browser, page):
    browser.open(page, 1280)
    assert browser.told("Page.javascriptDialogOpening") == []
    browser.run("""document.body.insertAdjacentHTML("beforeend",
      "<iframe srcdoc='<script>parent.hit = 1</script>'></iframe><img src=x onerror='window.hit = 1'>")""")
    browser.run("new Promise(done => setTimeout(done, 200))")
    assert browser.run("window.hit") is None
