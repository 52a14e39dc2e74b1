"""What pages and README tell to type: Python runs, commands and settings exist."""

import re
import shlex
import shutil
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

import weakseg
from weakseg import api, cli
from weakseg.config.layers import all_keys
from weakseg.config.run_config import RunConfig, load_config
from weakseg.demo_data.data_set import write_demo

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
TINY = (
    "backbone.name=resnet18",
    "backbone.weights=none",
    "segment.backbone.name=resnet18",
    "segment.backbone.weights=none",
    "amr.compensation=false",
    "spread.prototypes=false",
    "spread.spreading=false",
    "refine.kind=none",
    "verify.images=0",
    "augment.crop=64",
    "augment.long_side=[64, 80]",
    "cams.long_side=64",
    "cams.scales=[1.0]",
    "segment.network.channels=32",
    "segment.augment.crop=64",
    "segment.augment.long_side=[64, 80]",
    "segment.long_side=64",
    "fit.workers=0",
    "segment.fit.workers=0",
    "fit.batch_size=4",
    "segment.fit.batch_size=4",
    "dry_run=1",
    "evaluate.threshold_step=0.25",
    "device=cpu",
)


def blocks(path, language):
    """Blocks of code of a language, but those that other tests run."""
    pattern = rf"^( *)```{language}\n(.*?)^ *```"
    found = re.findall(pattern, path.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    texts = [textwrap.dedent(text) for _, text in found]
    return [text for text in texts if "--8<--" not in text and "onnxruntime" not in text]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with what the pages speak of: photos, a finished run, maps, new images."""
    folder = tmp_path_factory.mktemp("world")
    write_demo(folder / "photos", count=8, seed=1)
    api.run(folder / "photos", folder / "runs/photos", preset="fast", overrides=TINY)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "new.jpg")
    mask = min((folder / "photos/masks").glob("*.png"), key=lambda path: path.name)
    (folder / "drawn").mkdir()
    shutil.copy(mask, folder / "drawn")
    (folder / "damaged.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture
def tiny(world, monkeypatch):
    """The world, where trainings and networks are tiny and nothing is fetched."""

    def run(source, out, *, preset="standard", **options):
        return api.run(source, out, preset=preset, overrides=TINY, **options)

    def small(weights=None):
        return torchvision.models.resnet18(num_classes=300)

    monkeypatch.chdir(world)
    monkeypatch.setitem(vars(weakseg), "run", run)
    monkeypatch.setitem(vars(weakseg), "refine", lambda *_: None)
    monkeypatch.setattr(torchvision.models, "resnet50", small)
    return {
        "torch": torch,
        "torchvision": torchvision,
        "image": pictured(),
        "images": torch.rand(1, 3, 64, 64),
        "probabilities": torch.rand(3, 40, 60).softmax(0),
        "cams": torch.rand(2, 12, 16),
        "boundary": torch.rand(12, 16),
    }


def pictured():
    return torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)


@pytest.mark.parametrize(
    "name", [n for n, p in zip(NAMES, PAGES, strict=True) if blocks(p, "python")]
)
def test_python_runs(name, tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        for code in blocks(ROOT / name, "python"):
            exec(compile(code, name, "exec"), tiny)


def commands(path):
    """The command lines of weakseg in a page's blocks, and those with options in its sentences."""
    text = path.read_text("utf-8")
    typed = [
        re.split(r"  #| > ", line)[0].strip()
        for block in re.findall(r"^ *```\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
        if line.lstrip().startswith("weakseg ")
    ]
    said = re.findall(r"`(weakseg [^`]+)`", text.replace("\n", " "))
    return [*typed, *(line for line in said if " --out " in line)]


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_their_options_exist(name, capsys):
    for line in commands(ROOT / name):
        words = [word.replace("…", "x") for word in shlex.split(line)[1:]]
        try:
            options = cli.parser().parse_args(words)
        except SystemExit:
            pytest.fail(f"{line}: {capsys.readouterr().err}")
        load_config(getattr(options, "preset", None) or "fast", None, getattr(options, "set", []))


def parsers():
    """The parser of each command."""
    (choices,) = (a.choices for a in cli.parser()._actions if isinstance(a.choices, dict))
    return choices


@pytest.mark.parametrize("name", NAMES)
def test_commands_named_in_sentences_exist_with_their_options(name):
    text = re.sub(r"^ *```.*?^ *```", "", (ROOT / name).read_text("utf-8"), flags=re.M | re.S)
    for line in re.findall(r"`weakseg ([^`]+)`", text.replace("\n", " ")):
        command, *words = line.split()
        for one in command.split("|"):
            assert one == "SOURCE" or one in parsers(), line
            known = parsers()[one]._option_string_actions if one in parsers() else {}
            options = [word.partition("=")[0] for word in words if word.startswith("--")]
            assert [option for option in options if option not in known] == [], line


def test_there_are_commands():
    assert len(commands(ROOT / "docs/quickstart.md")) >= 4
    assert len(commands(ROOT / "README.md")) >= 6


@pytest.mark.parametrize("name", NAMES)
def test_settings_that_are_named_exist(name):
    known = set(all_keys(RunConfig))
    sections = set(RunConfig.model_fields)
    words = re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?:=[^`]*)?`", (ROOT / name).read_text("utf-8"))
    files = {"catalog.json", "data.yaml", "classes.txt", "labelmap.txt"}
    for word in words:
        if word.split(".")[0] in sections and word not in files:
            assert word in known, word
