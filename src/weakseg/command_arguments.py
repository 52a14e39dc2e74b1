"""The arguments of each command: what they are called, what they mean, how they are read."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from weakseg.command_line import Parser

if TYPE_CHECKING:
    from weakseg.sources.reading import ReadingOptions


def add_export(export: Parser) -> None:
    """Arguments of `export`."""
    export.add_argument(
        "--to",
        required=True,
        metavar="FORMAT",
        help="onnx (the model); masks: coco, label-studio, cvat, geojson; masks and images: voc, "
        "png, yolo-seg, labelme, hf-datasets",
    )
    export.add_argument(
        "--out", type=Path, required=True, metavar="PATH", help="a new file (onnx, coco) or folder"
    )
    export.add_argument(
        "--masks", type=Path, metavar="DIR", help="other masks of the run's images: <id>.png"
    )
    export.add_argument(
        "--image-root",
        metavar="URL",
        help="label-studio: what stands before each image's path; default: "
        "/data/local-files/?d= and the image folder's name",
    )
    export.add_argument(
        "--layout",
        metavar="NAME",
        help="png: flat (masks alone), nnunet or mmseg; default: flat",
    )


def add_review(review: Parser) -> None:
    """Arguments of `review`."""
    review.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="HOST",
        help="address to listen on; others than this machine's let others in; default: %(default)s",
    )
    review.add_argument(
        "--port", type=port, default=0, metavar="N", help="default: any that is free"
    )
    review.add_argument("--who", metavar="NAME", help="who corrects; default: the user")
    review.add_argument(
        "--browser",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="open the page in this machine's browser",
    )


def add_plan(plan: Parser) -> None:
    """Arguments of `plan`."""
    add_source(plan)
    plan.add_argument("--val", metavar="NAME", help="another split, which the run will be tried on")
    plan.add_argument(
        "--out", type=Path, default=Path("plan.yaml"), metavar="FILE", help="default: %(default)s"
    )
    plan.add_argument(
        "--minutes", type=minutes, metavar="N", help="make the run fit, at the least loss"
    )
    plan.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or mps; default: auto")
    plan.add_argument("--skip-bad", action="store_true", help="plan without the bad images")


def add_label(label: argparse.ArgumentParser) -> None:
    """Arguments of `label`."""
    label.add_argument("model", type=Path, metavar="RUN", help="a run's or a model's folder")
    label.add_argument(
        "images",
        nargs="+",
        metavar="IMAGES",
        help="files, folders, patterns, or lists of them (CSV, text); or Parquet files, tars, and "
        "folders of these; also URLs",
    )
    label.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the masks")
    label.add_argument(
        "--tags", type=Path, metavar="FILE", help="tags of the images: rules out other classes"
    )
    label.add_argument(
        "--full-size", action="store_true", help="label images at their own size, by tiles"
    )
    label.add_argument(
        "--maps", action="store_true", help="keep class probabilities, too: <image>.npz"
    )
    label.add_argument(
        "--to",
        choices=("png", "parquet", "tar"),
        help="a file a mask, or shards of masks; default: as the images come",
    )
    label.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="use the mirror image, too: better, and half as fast",
    )
    label.add_argument(
        "--ignore-alpha",
        action="store_true",
        help="leave out the images' fourth channel; by default as the model learnt",
    )
    label.add_argument(
        "--scales",
        type=scales,
        default=(1.0,),
        metavar="S,S,…",
        help="sizes at which to look, as 0.75,1,1.25; default: 1",
    )
    label.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute"
    )
    add_engine(label)


def add_engine(sub: argparse.ArgumentParser) -> None:
    """Where images are computed that are each done by itself."""
    sub.add_argument(
        "--engine",
        choices=("here", "ray"),
        default="here",
        help="ray: workers of a Ray cluster, or of this machine; default: this process",
    )
    sub.add_argument("--workers", type=count, metavar="N", help="of Ray; default: processors")


def add_run_options(run: argparse.ArgumentParser) -> None:
    """Arguments of `run` and `refine` besides their sources."""
    run.add_argument("--out", type=Path, metavar="RUN", help="the run's folder")
    run.add_argument(
        "--preset", metavar="NAME", help="fast, standard, paper-voc or paper-coco; default: a plan"
    )
    run.add_argument("--plan", type=Path, metavar="FILE", help="what weakseg plan has written")
    run.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting, as fit.epochs=5; may be given many times",
    )
    run.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or mps; as --set device=…")
    run.add_argument(
        "--val", metavar="NAME", help="another split, to try the segmentation network on"
    )
    run.add_argument(
        "--truth-masks",
        action="store_true",
        help="train the segmentation network on true masks: the bound",
    )
    run.add_argument(
        "--steps",
        type=count,
        metavar="N",
        help="a dry run: every training ends after N steps; as --set dry_run=N",
    )
    run.add_argument("--until", metavar="STAGE", help="the last stage to run")
    run.add_argument(
        "--force", action="store_true", help="make anew what was made with other settings"
    )
    run.add_argument("--skip-bad", action="store_true", help="go on without the bad images")
    run.add_argument(
        "--fail-on-red", action="store_true", help="exit with 1 if a verdict on the masks is red"
    )
    run.add_argument(
        "--fail-under",
        type=percentage,
        metavar="PERCENT",
        help="exit with 1 if the mean IoU of the masks, estimated without truth, is lower",
    )
    run.add_argument(
        "--log", metavar="NAME", help="show the training in tensorboard or wandb, if installed"
    )
    add_engine(run)
    run.add_argument("--print-config", action="store_true", help="print all settings and stop")
    run.set_defaults(parser=run)


def add_run_folder(sub: argparse.ArgumentParser) -> None:
    """The run that a command is about."""
    sub.add_argument("run", type=Path, metavar="RUN", help="the run's folder")


def add_source(sub: Parser, *, required: bool = True) -> None:
    """The source, and how it is to be read."""
    sub.add_argument(
        "source", type=Path, metavar="SOURCE", nargs=None if required else "?", help="the data"
    )
    sub.add_argument(
        "--kind",
        metavar="KIND",
        help="tags, voc, coco, yolo, labelme … or imagefolder; found by looking",
    )
    sub.add_argument("--split", metavar="NAME", help="use only this split, as train; '': all")
    table = sub.add_argument_group("where looking does not tell how the source is to be read")
    table.add_argument("--image-column", metavar="HEADER", help="the column that names the images")
    table.add_argument("--tags-column", metavar="HEADER", help="the column that holds the tags")
    table.add_argument("--separator", metavar="TEXT", help="what separates the tags of a cell")
    table.add_argument(
        "--ignore-alpha",
        action="store_true",
        help="leave out the images' fourth channel instead of reading it as transparency",
    )


def reading_options(options: argparse.Namespace) -> ReadingOptions:
    """How a source is to be read, from a command's arguments."""
    return {
        "image_column": options.image_column,
        "tags_column": options.tags_column,
        "separator": options.separator,
        "ignore_alpha": options.ignore_alpha,
    }


def count(text: str) -> int:
    """A number of things, from 1."""
    return _whole(text, 1, 99_999)


def percentage(text: str) -> float:
    """A number in 0..100."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"expected a number in 0..100, got {text!r}")
    return number


def port(text: str) -> int:
    """The number of a port; 0: any that is free."""
    return _whole(text, 0, 65_535)


def seed(text: str) -> int:
    """The seed of random numbers."""
    return _whole(text, 0, 2**31 - 1)


def minutes(text: str) -> float:
    """A time in minutes."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 1e6:
        raise argparse.ArgumentTypeError(f"expected a number of minutes above 0, got {text!r}")
    return number


def scales(text: str) -> tuple[float, ...]:
    """Multiples of a size."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(0.1 <= number <= 10 for number in numbers):
        raise argparse.ArgumentTypeError(f"expected numbers from 0.1 to 10, got {text!r}")
    return numbers


def _whole(text: str, low: int, high: int) -> int:
    if not text.isascii() or not text.isdecimal() or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"expected a number from {low} to {high}, got {text!r}")
    return int(text)
