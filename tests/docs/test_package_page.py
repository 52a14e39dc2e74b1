import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOME = "https://example.org/us/weakseg"


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(build, monkeypatch, home):
    monkeypatch.setenv(build.HOME, home)
    metadata = {"name": "weakseg", "version": "1.2.3"}
    build.PackagePage(str(ROOT), {}).update(metadata)
    return metadata


def test_pictures_and_links_of_the_package_page_work_from_anywhere(build, monkeypatch):
    metadata = page(build, monkeypatch, f"{HOME}/")
    text = metadata["readme"]["text"]
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert all(re.match(r"[a-z]+:|#", target) for target in targets)
    ours = [target.removeprefix(HOME) for target in targets if target.startswith(HOME)]
    assert len(ours) > 20
    for target in ours:
        kind, tag, *parts = target.split("#")[0].strip("/").split("/")
        path = ROOT.joinpath(*parts)
        assert path.exists(), target
        assert (kind, tag) == ("raw" if path.suffix in (".png", ".svg") else "blob", "v1.2.3")
    assert metadata["urls"]["Homepage"] == HOME
    assert all(url.startswith(HOME) for url in metadata["urls"].values())


def test_without_an_address_the_page_is_readme_as_it_is(build, monkeypatch):
    metadata = page(build, monkeypatch, "")
    assert metadata["readme"]["text"] == (ROOT / "README.md").read_text("utf-8")
    assert metadata["urls"] == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](b.md#c)", "[a](h:/blob/v1/b.md#c)"),
        ("![a](b.png)", "![a](h:/raw/v1/b.png)"),
        ("[![a](b.png)](c.md)", "[![a](h:/raw/v1/b.png)](h:/blob/v1/c.md)"),
        ("[a](https://b.org/c) [d](#e)", "[a](https://b.org/c) [d](#e)"),
        ("[two\nlines](b.md)", "[two\nlines](h:/blob/v1/b.md)"),
    ],
)
def test_links_are_made_absolute(build, text, expected):
    assert build.absolute(text, "h:", "v1") == expected
