"""The commands as functions: `weakseg.run`, `check`, `label`, `export`, `evaluate`, `report`, demo.

Each imports what it needs when it is called, so that `check` does not wait for torch.
"""

# ruff: noqa: PLC0415
from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

from weakseg.runs.processes import first_process, working_together
from weakseg.types import Catalog, DataError, RunError

if TYPE_CHECKING:
    from rich.console import Console

    from weakseg.apps.cluster_stages import RayStages
    from weakseg.apps.correct import CorrectSummary
    from weakseg.apps.export import ExportSummary
    from weakseg.apps.label import LabelSummary
    from weakseg.apps.status import RunStatus
    from weakseg.config.layers import Layer
    from weakseg.config.run_config import RunConfig
    from weakseg.metrics.scores import Scores
    from weakseg.pipeline import PipelineSummary
    from weakseg.planning.plan_file import Plan
    from weakseg.predict import LabelOptions
    from weakseg.runs.run_dir import RunDir
    from weakseg.sources.check import CheckReport
    from weakseg.sources.reading import ReadingOptions


class RunOptions(TypedDict, total=False):
    """What `refine` takes besides, see `run`."""

    preset: str | None
    plan: Plan | Path | str | None
    config: RunConfig | Path | str | None
    overrides: Sequence[str]
    split: str | None
    val: str | None
    kind: str | None
    until: str | None
    skip_bad: bool
    force: bool
    log: str | None
    engine: Literal["here", "ray"]
    workers: int | None
    console: Console | None
    image_column: str | None
    tags_column: str | None
    separator: str | None
    ignore_alpha: bool


def check(
    source: Path | str,
    *,
    kind: str | None = None,
    split: str | None = None,
    console: Console | None = None,
    **reading: Unpack[ReadingOptions],
) -> CheckReport:
    r"""Reads everything of a source and lists every fault.

    Args:
        source: A folder, a tags file or a COCO JSON.
        kind: One of `weakseg.sources.readers.READERS`; None: found by looking.
        split: The split to check; None: everything.
        console: Where to show how far it is; nowhere if None.
        reading: `image_column`, `tags_column`, `separator` of a table of tags; `ignore_alpha`.

    Returns:
        Faults, notes, and what the images are like.

    Raises:
        DataError: There is nothing at this path, or the kind or split is unknown.

    Example:
        >>> import weakseg
        >>> report = weakseg.check("photos")  # doctest: +SKIP
        >>> print(*report.faults, sep="\n")  # doctest: +SKIP
    """
    from weakseg.progress import counted
    from weakseg.sources.check import check_source
    from weakseg.sources.source import read_source

    found = read_source(source, kind=kind, split=split, **reading)
    with counted(console, "check") as progress:
        return check_source(found, progress=progress)


def plan(
    source: Path | str,
    *,
    out: Path | str | None = None,
    minutes: float | None = None,
    split: str | None = None,
    val: str | None = None,
    kind: str | None = None,
    overrides: Sequence[str] = (),
    skip_bad: bool = False,
    console: Console | None = None,
    **reading: Unpack[ReadingOptions],
) -> Plan:
    """Plans a run: checks the source, measures this machine, chooses settings and tells why.

    Args:
        source: A folder, a tags file or a COCO JSON.
        out: Where to write the plan, `weakseg.run(…, plan=…)` takes it from there; None: nowhere.
        minutes: What the run may take; the time to plan is not counted. None: what it needs.
        split: The split that will be learnt from; None: everything.
        val: Another split, on which the segmentation network will be tried; None: none.
        kind: The source's kind; None: found by looking.
        overrides: Settings that the run will be given besides, as `device=cpu`.
        skip_bad: Whether the run will go on without the images that are bad.
        console: Where to show how far it is; nowhere if None.
        reading: As for `check`.

    Returns:
        Settings with reasons, and the time and memory expected of each stage.

    Raises:
        ConfigError: A setting is unknown or wrong, there is no such device, or nothing fits the
            minutes.
        DataError: The source cannot be used.
        FaultsFoundError: It has faults.
        RunError: The plan cannot be written.

    Example:
        >>> import weakseg
        >>> weakseg.plan("photos", out="plan.yaml").minutes  # doctest: +SKIP
        23.5
    """
    from weakseg.apps.checked_source import good_samples
    from weakseg.planning.planned_settings import layers_over
    from weakseg.sources.source import read_source

    over = layers_over(None, None, overrides)
    found = read_source(source, kind=kind, split=split or None, **reading)
    catalog, _ = good_samples(found, skip_bad=skip_bad, console=console)
    second = read_source(source, kind=kind, split=val, **reading).catalog() if val else None
    made = _plan(catalog, second, over, console, minutes)
    if out is not None:
        made.save(out)
    return made


def _plan(
    catalog: Catalog,
    validation: Catalog | None,
    over: Sequence[Layer],
    console: Console | None,
    minutes: float | None = None,
) -> Plan:
    from weakseg.planning.make_plan import make_plan
    from weakseg.progress import counted

    steps = partial(counted, console, unit="steps")
    return make_plan(catalog, validation, over=over, minutes=minutes, counted=steps)


def _shown_plan(
    catalog: Catalog, validation: Catalog | None, over: Sequence[Layer], console: Console
) -> Plan:
    from weakseg.planning.plan_tables import show_plan

    made = _plan(catalog, validation, over, console)
    show_plan(made, console)
    return made


@working_together()
def run(
    source: Path | str,
    out: Path | str,
    *,
    preset: str | None = None,
    plan: Plan | Path | str | None = None,
    config: RunConfig | Path | str | None = None,
    overrides: Sequence[str] = (),
    split: str | None = None,
    val: str | None = None,
    kind: str | None = None,
    until: str | None = None,
    skip_bad: bool = False,
    force: bool = False,
    log: str | None = None,
    maps: Path | str | None = None,
    engine: Literal["here", "ray"] = "here",
    workers: int | None = None,
    console: Console | None = None,
    **reading: Unpack[ReadingOptions],
) -> PipelineSummary:
    """Makes masks and a segmentation network: checks the source, then runs what is not finished.

    A source that was checked for this run and has not changed since is not checked again.

    Args:
        source: A folder, a tags file or a COCO JSON.
        out: The run's folder; an unfinished run there goes on.
        preset: `fast`, `standard`, `paper-voc` or `paper-coco`. Those of a paper are made for a
            data set, whose splits (`weakseg.config.run_config.PRESET_SPLITS`) they bring. None: a
            plan is made at the start and kept in `out/plan.yaml`, by which the run goes on; a run
            that was begun without one goes on with `standard`.
        plan: A plan, or the file of one (see `weakseg.plan`); a preset's settings come before it.
        config: A YAML file of settings over the preset's or the plan's, or all settings.
        overrides: Single settings over those, as `fit.epochs=5`; with `dry_run=2` every training
            ends after two steps, to try a run.
        split: The split to use; None: the preset's, else everything; an empty name: everything.
        val: Another split, on which the segmentation network is tried; None: the preset's, else it
            is not; an empty name: it is not.
        kind: The source's kind; None: found by looking.
        until: The last stage to run; None: all.
        skip_bad: Whether to go on without the images that are bad.
        force: Whether results made with other settings are removed and made anew.
        log: `tensorboard` or `wandb`: shows the training curves there, too.
        maps: A folder of maps that another program made, see `refine`; None: they are made here.
        engine: `here`: this process, and those of its launcher. `ray`: stages that do images one by
            one are done by workers of the Ray cluster that `RAY_ADDRESS` names, or of one started
            on this machine; all have to see the same files.
        workers: Of Ray; None: one a processor, or one a GPU where there are some.
        console: Where to print; standard output if None.
        reading: As for `check`.

    Returns:
        What became of each stage, scores, time and memory.

    Raises:
        ConfigError: A setting is unknown or wrong, or what `log` names is not installed.
        DataError: The source cannot be used, or both splits have images in common.
        FaultsFoundError: It has faults.
        RunError: The folder holds results of other settings, or is in use.

    Example:
        >>> import weakseg
        >>> summary = weakseg.run("photos", "runs/photos", preset="fast")  # doctest: +SKIP
    """
    from rich.console import Console

    from weakseg.apps.checked_source import checked_source
    from weakseg.apps.refusals import (
        refuse_common,
        require_cam_method,
        require_engine,
        require_no_classifier,
        require_room,
    )
    from weakseg.apps.trackers import check_tracker, followed
    from weakseg.data.map_files import maps_digest
    from weakseg.pipeline import (
        STAGES,
        assist_pipeline,
        refinement_stages,
        run_pipeline,
        stages_until,
    )
    from weakseg.planning.planned_settings import AskedSettings
    from weakseg.runs.contents import CONTENTS, Contents
    from weakseg.runs.run_dir import VALIDATION, RunDir
    from weakseg.runs.run_samples import Validation

    folder = RunDir(out)
    asked = AskedSettings.of(folder, preset, plan, config, overrides, maps=maps is not None)
    require_engine(engine)
    console = (console or Console()) if first_process() else Console(quiet=True)
    split, val = _splits(preset or "", split, val, console)
    require = require_cam_method if maps is None else require_no_classifier
    require(asked.config)
    stages_until(until, validation=val is not None)
    if log:
        check_tracker(log)
    if not first_process():
        rows = STAGES if maps is None else refinement_stages(Path(maps), "")
        return assist_pipeline(asked.settled().config, folder, stages=rows)
    folder.check()
    contents = Contents(folder.path / CONTENTS)
    catalog, skipped, checked = checked_source(
        source,
        folder,
        contents,
        kind=kind,
        split=split,
        skip_bad=skip_bad,
        console=console,
        **reading,
    )
    validation = None
    if val is not None:
        others, left_out, hashed = checked_source(
            source,
            folder,
            contents,
            kind=kind,
            split=val,
            skip_bad=skip_bad,
            console=console,
            name=VALIDATION,
            **reading,
        )
        refuse_common(catalog, others, split, val)
        validation = Validation(others, val, left_out, hashed)
    second = validation.catalog if validation else None
    chosen = asked.settled(lambda: _shown_plan(catalog, second, asked.over, console))
    settings = chosen.config
    if settings.segment.truth_masks and not any(sample.has_truth for sample in catalog):
        raise DataError(
            f"{source}: segment.truth_masks is set, but no image has a true mask; put masks into "
            "its folder masks/, or train without"
        )
    for note in chosen.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    # Stages find mask files only, whatever form the source has its truth in.
    catalog = _drawn(catalog, folder, console)
    if validation is not None:
        validation = replace(validation, catalog=_drawn(validation.catalog, folder, console))
    stages = (
        STAGES
        if maps is None
        else refinement_stages(Path(maps), maps_digest(Path(maps), catalog.samples))
    )
    wanted = stages_until(until, stages, validation=validation is not None)
    require_room(settings, catalog, wanted, folder, force=force)
    with followed(folder.path, log) if log else nullcontext():
        summary = run_pipeline(
            settings,
            folder,
            catalog=catalog,
            until=until,
            force=force,
            console=console,
            source=source,
            split=split,
            skipped=skipped,
            skip_bad=skip_bad,
            checked=checked,
            validation=validation,
            stages=stages,
            contents=contents,
            plan=chosen.plan.to_yaml() if chosen.plan else "",
            engine=_ray_stages(workers) if engine == "ray" else None,
        )
    if any(not stage.skipped for stage in summary.stages) or not _report_of(summary.run).exists():
        _try_report(summary, console)
    return summary


def refine(
    source: Path | str, maps: Path | str, out: Path | str, **options: Unpack[RunOptions]
) -> PipelineSummary:
    """Makes masks and a segmentation network of maps that another program made.

    As `run`, but no classifier is trained: the maps are read from a folder, each divided by its
    maximum, and go through seeds, boundaries (learnt on the pretrained backbone's features), walk,
    masks and scores.

    Args:
        source: Images and their tags, as for `run`.
        maps: A folder with, for each image, `<image>.npz` (an array [h,w] per class name, or `maps`
            [n,h,w] and `classes` [n], names or numbers from 0), `<image>.npy` [K,h,w], or a folder
            `<image>/` with a gray `<class>.png` per class; not negative, of any size.
        out: The run's folder; an unfinished run there goes on.
        options: As for `run`.

    Returns:
        What became of each stage, scores, time and memory.

    Raises:
        ConfigError: A setting is unknown or wrong.
        DataError: The source or the maps cannot be used.
        FaultsFoundError: The source has faults.
        RunError: The folder holds other results, or is in use.

    Example:
        >>> import weakseg
        >>> weakseg.refine("photos", "their-cams", "runs/refined")  # doctest: +SKIP
    """
    return run(source, out, maps=maps, **options)


def review(
    run: Path | str,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    who: str | None = None,
    browse: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Serves a page on which people look through a run's masks and correct them, until Ctrl-C.

    Every change is kept in `RUN/review` at once; the next `weakseg.run` learns from it.

    Args:
        run: The run's folder; its stage `masks` must be finished.
        host: The address to listen on; any other than this machine's lets others in.
        port: The port; 0: any that is free.
        who: The reviewer's name; None: the user's on this machine.
        browse: Whether to open the page in this machine's browser.
        say: Told the page's address, which holds a secret, and warnings.

    Raises:
        ConfigError: The extra `ui` is not installed, or the address cannot be listened on.
        RunError: The folder is no run, or has no masks yet.

    Example:
        >>> import weakseg
        >>> weakseg.review("runs/photos")  # doctest: +SKIP
    """
    from weakseg.apps.review.server import serve

    serve(Path(run), host=host, port=port, who=who, browse=browse, say=say)


def correct(
    run: Path | str,
    source: Path | str,
    *,
    kind: str | None = None,
    console: Console | None = None,
) -> CorrectSummary:
    """Takes masks that people drew elsewhere as true; the next `weakseg.run` learns from them.

    A few of many images are enough. All masks are looked at first: if one does not fit its image or
    the run's classes, none is taken. What was there before is kept in `RUN/review`.

    Args:
        run: The run's folder.
        source: What another tool wrote, of any kind that `check` reads, with its images beside it
            or without them; or a folder of PNG masks with the images' names.
        kind: The kind, as for `check`, or `png`; None: found by looking.
        console: Where to show how far it is; nowhere if None.

    Returns:
        How many masks are new, and what was left out and why.

    Raises:
        DataError: The source cannot be read, or a mask does not fit.
        RunError: The folder is no run, has no masks yet, or cannot be written.

    Example:
        >>> import weakseg
        >>> weakseg.correct("runs/photos", "from-cvat.xml").corrected  # doctest: +SKIP
        3
    """
    from weakseg.apps.correct import correct as take
    from weakseg.progress import counted

    with counted(console, "correct") as progress:
        return take(run, source, kind=kind, progress=progress)


def report(run: Path | str, *, console: Console | None = None) -> Path:
    """Writes a run's report: a page that needs no network, opened from the disk.

    It begins with all images and their masks. Pictures that a page of 8 MB has no room for (of more
    than some hundred images) lie in the folder `RUN/report` beside it. `weakseg.run` does so at its
    end; this does it again, after corrections too, or for a run that is not finished.

    Args:
        run: The run's folder.
        console: Where to show how far it is; nowhere if None.

    Returns:
        The page, `RUN/report.html`.

    Raises:
        RunError: The folder is no run, is damaged, or cannot be written.

    Example:
        >>> import weakseg
        >>> weakseg.report("runs/photos")  # doctest: +SKIP
        PosixPath('runs/photos/report.html')
    """
    from weakseg.apps.report import write_report

    return write_report(run, console=console)


def status(run: Path | str) -> RunStatus:
    """Where a run is: what each stage cost, what is next, what is wrong.

    It only reads, also while the run goes on.

    Args:
        run: The run's folder.

    Returns:
        Its stages with time and disk, the one under way with how far it is, and what is wrong.

    Raises:
        RunError: The folder is no run, or its `catalog.json` is damaged. Damaged files of stages
            are among what is wrong.
        ConfigError: Its `config.yaml` is missing or damaged.

    Example:
        >>> import weakseg
        >>> weakseg.status("runs/photos").next  # doctest: +SKIP
        'segment'
    """
    from weakseg.apps.status import read_status

    return read_status(run)


def _report_of(run: Path) -> Path:
    return run / "report.html"


def _try_report(summary: PipelineSummary, console: Console) -> None:
    """Writes the report of what was run; a run is not lost by a report that fails."""
    try:
        report(summary.run, console=console)
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        console.print(f"report: not written: {text}", markup=False, highlight=False, soft_wrap=True)


def _drawn(catalog: Catalog, folder: RunDir, console: Console) -> Catalog:
    """The catalog with a mask file in place of each annotation that tells truth."""
    from weakseg.progress import counted
    from weakseg.runs.true_masks import TRUTH, with_mask_files

    with counted(console, "draw true masks", late=True) as progress:
        return with_mask_files(catalog, folder.path / TRUTH, progress)


def _ray_stages(workers: int | None) -> RayStages:
    from weakseg.apps.cluster_stages import RayStages

    return RayStages(workers)


def _splits(
    preset: str, split: str | None, val: str | None, console: Console
) -> tuple[str | None, str | None]:
    """The splits to use: those asked for, else the preset's; None: all images, or no second one."""
    from weakseg.config.run_config import PRESET_SPLITS

    if preset in PRESET_SPLITS and (split is None or val is None):
        own = PRESET_SPLITS[preset]
        split = own.train if split is None else split
        val = own.val if val is None else val
        text = f"preset {preset}: split {split or 'none'}, tried on {val or 'none'}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    return split or None, val or None


def evaluate(
    predicted: Path | str,
    truth: Path | str,
    *,
    ids: Sequence[str] | Path | str | None = None,
    classes: Sequence[str] | Path | str | None = None,
    console: Console | None = None,
) -> Scores:
    """Scores any folder of masks against a folder of true ones.

    Args:
        predicted: Folder of PNG masks, index 0 background.
        truth: Folder of true masks; 255 is ignored.
        ids: Which images to score, or a text file with one a line; None: all.
        classes: Names of the classes 1, 2, …, or a text file with one a line; None: as the masks
            or a `classes.txt` beside the truth tell.
        console: Where to show how far it is; nowhere if None.

    Returns:
        The scores over all images.

    Raises:
        DataError: A folder or list cannot be read, or a mask is missing or does not fit.

    Example:
        >>> import weakseg
        >>> weakseg.evaluate("runs/cats/masks", "cats/masks").mean_iou  # doctest: +SKIP
        0.671
    """
    from weakseg.apps.mask_folders import evaluate_masks

    return evaluate_masks(predicted, truth, ids=ids, classes=classes, console=console)


def export(
    run: Path | str,
    to: str,
    out: Path | str,
    *,
    masks: Path | str | None = None,
    image_root: str | None = None,
    layout: str | None = None,
    console: Console | None = None,
) -> ExportSummary:
    """Writes a finished run in another tool's format.

    Masks and tags that people corrected go out as they corrected them, also before the next run
    learns from them, and the notes say how many; such masks have the confidence 1.

    Args:
        run: The run's folder.
        to: `onnx` (the model), `coco` (one JSON), `label-studio` (tasks with brush masks), `cvat`
            (CVAT for images 1.1), `geojson` (multipolygons, a file per image), `voc` (a devkit),
            `png` (gray masks), `yolo-seg` (Ultralytics' polygons), `labelme` (polygons beside the
            images) or `hf-datasets` (parquet). `coco`, `label-studio`, `cvat`, `geojson` and
            `labelme` give each mask with its confidence. All from `voc` on, but for bare masks as
            `png`, have the images, too; those that EXIF turns are written upright.
        out: The file (`onnx`, `coco`) or folder (the others) to write. It must not be there yet;
            if anything goes wrong, it is not there afterwards either.
        masks: Another folder of masks of the run's images, `<id>.png`, exported without
            confidences; None: the run's own.
        image_root: For `label-studio`: what stands before each image's path, as
            `https://host/photos/`; None: `/data/local-files/?d=` and the image folder's name.
        layout: For `png`: `flat` (masks alone), `nnunet` or `mmseg` (with images); None: `flat`.
        console: Where to show how far it is; nowhere if None.

    Returns:
        What was written, and notes on what whoever reads it has to know.

    Raises:
        ConfigError: A package that the format needs is not installed.
        RunError: The format or layout is unknown, the run is not finished, or `out` is there
            already or cannot be written.
        DataError: A mask is missing or does not fit its image or the classes.

    Example:
        >>> import weakseg
        >>> weakseg.export("runs/photos", "coco", "photos/instances.json")  # doctest: +SKIP
        ExportSummary(path=PosixPath('photos/instances.json'), images=120, masks=171)
    """
    from rich.console import Console

    from weakseg.apps.export import ExportRequest, export_run
    from weakseg.runs.run_dir import RunDir

    request = ExportRequest(
        run=RunDir(run),
        out=Path(out),
        masks=None if masks is None else Path(masks),
        image_root=image_root,
        layout=layout,
        console=console or Console(quiet=True),
    )
    return export_run(request, to)


@working_together()
def label(
    model: Path | str,
    images: Sequence[Path | str],
    out: Path | str,
    *,
    tags: Path | str | None = None,
    maps: bool = False,
    to: Literal["png", "parquet", "tar"] | None = None,
    device: str = "auto",
    engine: Literal["here", "ray"] = "here",
    workers: int | None = None,
    console: Console | None = None,
    **options: Unpack[LabelOptions],
) -> LabelSummary:
    """Writes the masks of new images as palette PNGs; nothing need be known of the images.

    A mask has its image's path below the folder that was given. `classes.txt` beside the masks
    names the classes 1, 2, …. Masks that the same model made of the same files are kept.

    Args:
        model: A run's folder, or a model's (with `config.json` and `model.safetensors`).
        images: Files, folders and patterns as `photos/**/*.jpg`; lists, which are text files with
            a path or URL a line, or CSV files with a column `image`, `path` or `url`; or shards,
            which are Parquet files with a column of images' bytes, and tars as WebDataset has
            them, and folders of these. All of it also at URLs that fsspec knows.
        out: The folder for the masks; an interrupted `label` there goes on.
        tags: A tags file with a row for every image, by which all other classes are ruled out.
        maps: Keep class probabilities, too, in `<image>.npz` beside the mask: `probabilities`
            float16 [K+1,h,w], background first, on the network's own grid (a quarter of the size
            in which it saw the image, or coarser); `size`, height and width of the image; and
            `classes`, the names of 1..K. Masks that have none yet are made anew.
        to: How masks are kept. `png`: a file each. `parquet`: tables with columns `name`, `mask`
            (PNG) and `fault`. `tar`: `<name>.png` and `<name>.json`, with the same. Shards are
            whole or not there, and bear the names of the images' shards (with `png`, folders do);
            those of images that are files hold a thousand masks. None: as images come, file for
            file, shard for shard.
        device: `auto`, `cpu`, `cuda` or `mps`.
        engine: `here`: this process. `ray`: workers of the Ray cluster that `RAY_ADDRESS` names,
            or of one started on this machine; all have to see the same files.
        workers: Of Ray; None: one a processor, or one a GPU where there are some.
        console: Where to show how far it is; nowhere if None.
        options: As for `weakseg.Labeler`.

    Returns:
        How many masks were made, and what images could not be read.

    Raises:
        ConfigError: Ray is asked for and not installed, or pyarrow is needed, or what fsspec needs
            for a URL.
        DataError: There is no such image, two would have the same mask, or the tags do not fit.
        RunError: There is no model, or the folder holds other things.

    Example:
        >>> import weakseg
        >>> weakseg.label("runs/cats", ["photos"], "masks").made  # doctest: +SKIP
        120
    """
    from weakseg.apps.label import label_images
    from weakseg.apps.refusals import require_engine

    require_engine(engine)
    return label_images(
        model,
        images,
        out,
        tags=tags,
        maps=maps,
        to=to,
        device=device,
        engine=engine,
        workers=workers,
        console=console,
        **options,
    )


@dataclass(frozen=True)
class DemoSummary:
    """What became of the demo.

    Attributes:
        amr: The run; its spotlight is a plain CAM network.
        picture: A grid of photographs with maps, masks and truth.
        seconds: How long all of it took.
    """

    amr: PipelineSummary
    picture: Path
    seconds: float


def demo(
    out: Path | str, *, count: int = 160, seed: int = 0, console: Console | None = None
) -> DemoSummary:
    """Draws a data set in `out/data` and goes the whole way, to a segmentation network.

    The run is `out/amr`; `out/demo.png` shows some of what it found. The spotlight's maps are those
    of a plain CAM network.

    Args:
        out: A folder; a demo that was interrupted there goes on.
        count: How many images to draw, from 1.
        seed: The same seed, the same images; from 0.
        console: Where to print; standard output if None.

    Returns:
        The run with its scores.

    Raises:
        RunError: The folder holds a demo of another count or seed, or other data.
    """
    from rich.console import Console

    from weakseg.apps.gallery import gallery
    from weakseg.demo_data.data_set import write_demo
    from weakseg.files import read_json, write_atomic
    from weakseg.progress import counted

    begun = time.monotonic()
    folder, console = Path(out), console or Console()
    mark, wanted = folder / "demo.json", {"count": count, "seed": seed}
    data = folder / "data"
    if data.exists():
        found = read_json(mark) if mark.is_file() else None
        if found != wanted:
            raise RunError(
                f"{data} holds {'other data' if found is None else f'the demo with {found}'}; "
                "choose another --out"
            )
    else:
        write_atomic(mark, json.dumps(wanted).encode())
        with counted(console, "draw") as progress:
            write_demo(data, count=count, seed=seed, progress=progress)
    amr = run(data, folder / "amr", preset="demo", console=console)
    picture = folder / "demo.png"
    write_atomic(picture, gallery(amr.run, rows=6))
    return DemoSummary(amr, picture, time.monotonic() - begun)
