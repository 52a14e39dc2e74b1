"""The generated pages, the links, and that the site asks nothing of the network."""

import re
from pathlib import Path

import pytest
import yaml

import weakseg
from weakseg.config.layers import all_keys
from weakseg.config.run_config import PRESETS, RunConfig

ROOT = Path(__file__).parents[2]


def test_every_setting_is_on_its_page(site):
    page = site.settings_page()
    rows = dict(re.findall(r"^\| `([\w.]+)` (\|.*)$", page, re.MULTILINE))
    sections = set(RunConfig.model_fields) - {"seed", "device", "dry_run", "precision"}
    keys = {key for key in all_keys(RunConfig) if key not in sections}
    inner = {key for key in keys if any(other.startswith(f"{key}.") for other in keys)}
    assert keys - inner <= set(rows)
    assert "`288` | whole number, ≥ 32 | side of the square" in rows["augment.crop"]
    assert "fast `256`" in rows["augment.crop"]
    assert "standard" not in rows["augment.crop"]  # as by default
    assert "`[0.5, 1.0, 1.5]` | list of number" in rows["cams.scales"]
    assert "`null` | number or `null`, ≥ 0, ≤ 1" in rows["refine.threshold"]
    assert "Read by: `walk`." in page


def test_defaults_are_those_of_a_run(site):
    rows = re.findall(r"^\| `([\w.]+)` \| `([^`]*)`", site.settings_page(), re.MULTILINE)
    config = RunConfig()
    for key, shown in rows:
        value = config
        for part in key.split("."):
            value = getattr(value, part, None)
        if value is not None:
            read = list(value) if isinstance(value, tuple) else value
            assert yaml.safe_load(shown) == read, key


def test_every_preset_is_told(site):
    page = site.settings_page()
    assert all(f"{name} `" in page for name in PRESETS if name != "standard")


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("scores.md", "[a](../benchmarks/results/crf.md)", "[a](results/crf.md)"),
        ("recipes/walk.md", "[a](../../examples/x.py)", "[a](../examples/x.py)"),
        ("recipes/walk.md", "[a](classifier.md#b)", "[a](classifier.md#b)"),
        ("results/walk.md", "[plot](../../docs/walk_cost.svg)", "[plot](../walk_cost.svg)"),
        ("contributing.md", "[a](CHANGELOG.md)", "[a](changelog.md)"),
        ("how.md", "[a](https://example.org/x.md)", "[a](https://example.org/x.md)"),
        ("how.md", "[a](../src/weakseg/cli.py)", "[a](../src/weakseg/cli.py)"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(site, page, text, expected):
    assert site.site_links(text, page) == expected


def test_every_public_name_is_on_the_page_about_python():
    page = (ROOT / "docs/api.md").read_text("utf-8")
    told = set(re.findall(r"^::: [\w.]+\.(\w+)$", page, re.MULTILINE))
    told |= {word.rpartition(".")[2] for word in re.findall(r"`([\w.]+)`", page)}
    assert set(weakseg.__all__) - {"__version__"} <= told


def test_every_page_is_in_the_navigation():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    named = set(re.findall(r"[\w/]+\.md", str(config["nav"])))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages <= named
    assert named - pages == {"settings.md", "results/index.md", "changelog.md", "contributing.md"}


def test_nothing_of_the_theme_is_fetched_from_the_network():
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert "font: false" in text
    assert "http" not in text
    pages = "".join(path.read_text("utf-8") for path in (ROOT / "docs").rglob("*.md"))
    assert "```mermaid" not in pages  # its program would be fetched
