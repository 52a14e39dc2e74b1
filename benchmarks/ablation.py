"""What a second branch can learn from: every scheme beside the same plain network, one table.

    python benchmarks/ablation.py --runs DIR [--sets …] [--arms …] [--seeds 0 1 2]

Of each data set and seed a plain CAM network is trained once (`weakseg run … --until spread`); each arm
(`benchmarks/ablation/*.yaml`) starts from it, learns on, and its maps are scored: raw, weighted with
the spotlight's, and both spread. Small images, one scale and its mirror image: minutes an arm. Then the whole way
(`weakseg run`, the same settings, without the stage `evidence`), plain and with the compensation branch, up to the
network on `val`. What is finished in DIR is read, not made again; of several processes (`--job 1 --of 4`) each does its part. Writes
`ablation.md`, and of the demo's heads and bodies `docs/why.svg`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file, save_file

from ablation_schemes import SCHEMES
from weakseg.data.datasets import RecalibrationViews, tag_vector
from weakseg.data.images import read_mask
from weakseg.data.masks import write_mask
from weakseg.demo_data.data_set import draw_demo, write_demo
from weakseg.demo_data.scene import CLASSES
from weakseg.metrics.sweep import ThresholdSweep
from weakseg.models.amr import AMR, AMRSettings
from weakseg.ops.cams import grid_size, label_map, multi_scale_cams, normalized, weighted_cam
from weakseg.ops.losses import refined_labels
from weakseg.ops.propagation import HALF, spread_over_scales
from weakseg.ops.thresholds import blind_threshold, score_histogram
from weakseg.runs.context import StageContext
from weakseg.runs.image_maps import ImageMaps, background_scores
from weakseg.runs.learning import learn
from weakseg.runs.run_dir import RunDir
from weakseg.stages.cams import map_batches
from weakseg.training.device import device_for
from weakseg.training.recalibrate_task import RecalibrateFitSettings
from weakseg.types import IGNORE

ROOT = Path(__file__).parents[1]
DATA = ROOT / "../shared/data"
COMMON = ["cams.scales=[1.0]", "spread.scales=[1.0]"]
SETS = {
    "voc-animals": "fast train augment.crop=224 augment.long_side=[224,392] cams.long_side=384 "
    "fit.epochs=10",
    "coffee-leaves": "fast train augment.crop=224 augment.long_side=[256,448] cams.long_side=448 "
    "fit.epochs=12",
    "demo": "demo train",
}
EPOCHS = {"voc-animals": 3, "coffee-leaves": 4, "demo": 4}
KINDS = ("compensation", "weighted", "compensation, spread", "weighted, spread")
WHOLE = {
    "plain": ["amr.compensation=false", "evidence.images=0"],
    "amr": ["amr.compensation=true", "evidence.images=0"],
    "amr, walked from the compensation's map": [
        "amr.compensation=true",
        "refine.maps=compensation",
        "evidence.images=0",
    ],
}
PARTS = ("head", "body")


def base(name, seed, folder):
    """The run whose spotlight all arms start from."""
    out = folder / f"{name}-{seed}"
    if not (out / "spread" / "done.json").is_file():
        weakseg_run(name, seed, folder, out, WHOLE["plain"], "--until", "spread")
    run = RunDir(out)
    context = StageContext.reading(run)
    return replace(context, console=Console(quiet=True))


def weakseg_run(name, seed, folder, out, added, *more):
    """`weakseg run` with a data set's settings and more."""
    preset, split, *settings = SETS[name].split()
    source = DATA / name if name != "demo" else demo_data(folder)
    command = ["run", str(source), "--split", split, "--preset", preset, "--out", str(out), *more]
    for text in (*COMMON, *settings, f"seed={seed}", *added):
        command += ["--set", text]
    subprocess.run([sys.executable, "-m", "weakseg", *command], check=True)


def demo_data(folder):
    """The demo's data set, and beside it where heads are (`demo-heads/*.png`)."""
    source, heads = folder / "demo-data", folder / "demo-heads"
    if not source.is_dir():
        write_demo(source, count=240, seed=0)
        heads.mkdir(exist_ok=True)
        for index in range(240):
            head = torch.from_numpy(draw_demo(index, 0).head_mask())
            write_mask(heads / f"demo_{index:05d}.png", head, CLASSES)
    return source


def whole(name, seed, folder):
    """The whole way up to the network on `val`: its scores, of each row of `WHOLE`, from its file."""
    path = folder / f"{name}-{seed}" / "whole.json"
    if path.is_file():
        return
    records, fresh = {}, folder / f"{name}-{seed}-whole"
    first = folder / f"{name}-{seed}"
    if (first / "spread" / "done.json").is_file() and not fresh.is_dir():  # the same stages
        shutil.copytree(first, fresh, ignore=shutil.ignore_patterns("arms", "targets-*"))
    for arm, added in WHOLE.items():
        weakseg_run(name, seed, folder, fresh, added, "--val", "val", "--force")
        run = RunDir(fresh)
        done = {stage: run.stage(stage) for stage in ("evaluate", "validate")}
        records[arm] = {
            "masks": 100 * done["evaluate"].summary["masks"]["mean_iou"],
            "val": 100 * done["validate"].summary["mean_iou"],
            "minutes": sum(
                json.loads(file.read_text())["seconds"] for file in fresh.glob("*/done.json")
            )
            / 60,
        }
    path.write_text(json.dumps(records, indent=1))
    print(name, seed, records, flush=True)


def targets(context, kind, folder):
    """The label maps that arms learn from, written once."""
    folder.mkdir(parents=True, exist_ok=True)
    middle = background_scores(context, "cams")["spotlight"]
    paths = []
    for sample in context.catalog:
        path = folder / f"{sample.id}.png"
        paths.append(path)
        if path.is_file():
            continue
        kept = ImageMaps.load(context.run.path, "spread", sample.id)
        labels = refined_labels(kept.maps["spotlight"], kept.classes, sure=0.67, unsure=0.33)
        if kind == "agreed" and len(kept.classes):
            raw = ImageMaps.load(context.run.path, "cams", sample.id).maps["spotlight"].amax(dim=0)
            labels[(raw < middle) & (labels > 0)] = IGNORE
        write_mask(path, labels, context.catalog.classes)
    return paths


def trained(context, arm, options, name, folder):
    """An arm's scheme, trained, and how long that took in minutes."""
    model = AMR(
        len(context.catalog.classes),
        context.config.backbone,
        AMRSettings(**options["amr"]),
        load=False,
    )
    torch.manual_seed(context.config.seed)
    state = load_file(context.run.path / "classify" / "state.safetensors")
    model.load_state_dict(state, strict=False)
    model.start_compensation()
    scheme = SCHEMES[options["scheme"]](model, options)
    kept = folder / "scheme.safetensors"
    if kept.is_file():
        scheme.load_state_dict(load_file(kept))
        return scheme.eval(), json.loads((folder / "minutes.json").read_text())
    kind = options.get("target", "refined")
    paths = targets(context, kind, context.run.path / f"targets-{kind}")
    config = context.config
    views = RecalibrationViews(context.catalog, paths, config.augment, config.seed)
    settings = RecalibrateFitSettings(
        epochs=EPOCHS[name], batch_size=config.fit.batch_size, lr=options.get("lr", 0.01)
    )
    scheme.steps = EPOCHS[name] * -(-len(context.catalog) // config.fit.batch_size)
    begun = time.monotonic()
    learn(context, arm, scheme, views, settings, folder=folder)
    minutes = (time.monotonic() - begun) / 60
    save_file({k: v.contiguous() for k, v in scheme.state_dict().items()}, kept)
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    (folder / "minutes.json").write_text(json.dumps(minutes))
    return scheme.eval(), minutes


def coverage(kinds, classes, truth, blind, count):
    """Pixels of an image by class [5,K].

    Truth under the spotlight's map, and under the compensation's; truth under the latter alone, all
    under the latter alone, all truth.
    """
    masks = [
        label_map(kinds[kind], classes, blind[kind], tuple(truth.shape))
        for kind in ("spotlight", "compensation")
    ]
    rows = []
    for k in range(1, 1 + count):
        own, other = (mask == k for mask in masks)
        real, added = truth == k, other & ~own & (truth != IGNORE)
        rows.append([(own & real).sum(), (other & real).sum(), (added & real).sum(), added.sum()])
        rows[-1].append(real.sum())
    return torch.tensor(rows).T.float()


def parts_covered(kinds, classes, truth, blind, heads):
    """Pixels of heads and of bodies [2,3]: under the spotlight's map, the compensation's, all."""
    masks = [
        label_map(kinds[kind], classes, blind[kind], tuple(truth.shape))
        for kind in ("spotlight", "compensation")
    ]
    rows = []
    for part in (heads > 0, (truth > 0) & (heads == 0)):
        rows.append([*(((mask == truth) & part).sum() for mask in masks), part.sum()])
    return torch.tensor(rows).float()


def why(counts, parts):
    """What each branch's maps cover, from the sums of `coverage` and `parts_covered`."""
    covered, more, right, added, true = counts
    result = {
        "why": {
            "spotlight": float((covered / true.clamp_min(1)).mean()),
            "compensation": float((more / true.clamp_min(1)).mean()),
            "added": float((right / added.clamp_min(1)).mean()),
        }
    }
    if parts.any():
        shares = (parts[:, :2] / parts[:, 2:]).tolist()
        result["parts"] = dict(zip(PARTS, shares, strict=True))
    return result


@torch.no_grad()
def scores(context, scheme):
    """Oracle and blind mIoU of each kind of an arm's maps, in percent."""
    config, catalog = context.config, context.catalog
    sums, histograms = {}, torch.zeros(256)
    probabilities = scheme is None or scheme.probabilities
    blind = {"spotlight": background_scores(context, "cams")["spotlight"], "spread": HALF}
    found, device = {}, device_for(config.device)
    if scheme is not None:
        scheme.to(device)
    for samples, batch in map_batches(context, catalog.samples, 500_000):
        maps, images = None, batch.to(device)
        if scheme is not None:
            model = scheme.model
            tags = torch.stack([tag_vector(s, len(catalog.classes)) for s in samples]).to(device)
            pixels = model.standardized(images)
            forward = lambda x: [scheme.maps(x, tags.repeat(len(x) // len(tags), 1))]  # noqa: E731, B023
            (maps,) = (each.cpu() for each in multi_scale_cams(forward, pixels, config.cams))
            details = model.details(images.float() / 255).cpu()
        for place, sample in enumerate(samples):
            kept = ImageMaps.load(context.run.path, "cams", sample.id)
            wide = ImageMaps.load(context.run.path, "spread", sample.id).maps["spotlight"]
            first, classes = kept.maps["spotlight"], kept.classes.tolist()
            if maps is None:
                kinds = {"spotlight": first, "spread": wide}
            else:
                own = normalized(maps[place, classes])
                size = grid_size(images.shape[-2], images.shape[-1])
                own_wide = own
                if classes:
                    own_wide = spread_over_scales(own, [details[place]], size, config.spread.power)
                both = [
                    weighted_cam(a, b, config.cams.xi).clamp(0, 1) if classes else b
                    for a, b in ((first, own), (wide, own_wide))
                ]
                kinds = dict(zip(KINDS, (own, both[0], own_wide, both[1]), strict=True))
                kinds["spotlight"] = first
                histograms = histograms + score_histogram(own.half().float())
            truth = read_mask(sample.mask)
            found[sample.id] = (kinds, kept.classes, truth)
    if scheme is not None:
        middle = HALF if probabilities else blind_threshold(histograms)
        blind = {
            "spotlight": blind["spotlight"],
            "compensation": middle,
            "weighted": config.cams.xi * blind["spotlight"] + (1 - config.cams.xi) * middle,
            "compensation, spread": HALF,
            "weighted, spread": HALF,
        }
    counts, parts = torch.zeros(5, len(catalog.classes)), torch.zeros(2, 3)
    heads = context.run.path.parent / "demo-heads"
    for sample_id, (kinds, classes, truth) in found.items():
        if scheme is not None:
            counts += coverage(kinds, classes, truth, blind, len(catalog.classes))
            if (heads / f"{sample_id}.png").is_file():
                head = read_mask(heads / f"{sample_id}.png")
                parts += parts_covered(kinds, classes, truth, blind, head)
        for kind, maps in kinds.items():
            if kind not in sums:
                grid = sorted({*(i / 100 for i in range(101)), round(blind[kind], 4)})
                sums[kind] = ThresholdSweep(len(catalog.classes), grid)
            sums[kind].update(maps.clamp(0, 1), classes, truth)
    result = {} if scheme is None else why(counts, parts)
    return result | {kind: points(sweep, blind[kind]) for kind, sweep in sums.items()}


def points(sweep, threshold):
    """Scores (mIoU, percent) at the best threshold by the truth, and at the one chosen without it."""
    curve, at = sweep.curve(), sweep.at(round(threshold, 4))
    place = int((curve.thresholds - at.threshold).abs().argmin())
    return {
        "oracle": 100 * float(curve.mean_iou.nan_to_num(-1).max()),
        "oracle_at": sweep.best().threshold,
        "blind": 100 * float(curve.mean_iou[place]),
        "blind_at": at.threshold,
    }


def measured(name, seed, folder, arm, options):
    """Trains an arm and scores its maps, unless its file is there."""
    own = folder / f"{name}-{seed}" / "arms" / arm
    path = own / "scores.json"
    if path.is_file():
        return
    context = base(name, seed, folder)
    own.mkdir(parents=True, exist_ok=True)
    scheme, minutes = (None, 0.0)
    if options is not None:
        scheme, minutes = trained(context, arm, options, name, own)
    path.write_text(json.dumps({"minutes": minutes, **scores(context, scheme)}, indent=1))
    print(context.run.path.name, arm, path.read_text().replace("\n", ""), flush=True)


def cell(records, kind):
    """`oracle / blind`, means over seeds with the range of blind."""
    points = [record[kind] for record in records if kind in record]
    if not points:
        return ""
    oracle, blind = ([point[key] for point in points] for key in ("oracle", "blind"))
    text = f"{statistics.mean(oracle):.1f} / {statistics.mean(blind):.1f}"
    return f"{text} ({min(blind):.1f}–{max(blind):.1f})" if len(blind) > 1 else text


def table(name, arms, records):
    """The rows of a data set."""
    lines = [f"## {name}", "", "| arm | seeds | " + " | ".join(KINDS) + " |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    plain = records.get("plain", [])
    if plain:
        cells = ["", cell(plain, "spotlight"), "", cell(plain, "spread")]
        lines.append(f"| the spotlight (plain) | {len(plain)} | {' | '.join(cells)} |")
    for arm, options in arms.items():
        own = records.get(arm, [])
        if own:
            cells = [cell(own, kind) for kind in KINDS]
            if not SCHEMES[options["scheme"]].two_branches:
                cells = [cells[0], "", cells[2], ""]
            text = f"`{arm[3:]}`: {options['about']}"
            lines.append(f"| {text} | {len(own)} | {' | '.join(cells)} |")
    why = [
        record["why"] for arm in ("10-amr",) for record in records.get(arm, []) if "why" in record
    ]
    if why:
        spotlight, compensation, added = (
            100 * statistics.mean(each[key] for each in why)
            for key in ("spotlight", "compensation", "added")
        )
        lines += [
            "",
            f"Why: of the truth (mean over the classes) the spotlight's maps cover {spotlight:.0f}%, the "
            f"compensation's of the arm `amr` {compensation:.0f}%; of what these alone cover "
            f"{added:.0f}% is truth (thresholds chosen without truth).",
        ]
    return [*lines, ""]


def whole_table(name, records):
    """The rows of a data set's whole ways: masks on `train`, network on `val`, minutes."""
    lines = [
        "The whole way (`weakseg run`, the same settings): masks on `train`, the network on `val`; minutes "
        "are sums of stages, partly beside other work.",
        "",
        "| | seeds | masks | val | minutes |",
        "| --- | --- | --- | --- | --- |",
    ]
    for arm in WHOLE:
        cells = []
        for key in ("masks", "val", "minutes"):
            values = [record[arm][key] for record in records]
            cells.append(
                f"{statistics.mean(values):.1f} ({min(values):.1f}–{max(values):.1f})"
                if len(values) > 1
                else f"{values[0]:.1f}"
            )
        lines.append(f"| {arm} | {len(records)} | {' | '.join(cells)} |")
    return [*lines, ""]


def why_picture(records):
    """An SVG of how much of the demo's heads and bodies each branch's map covers, mean of seeds."""
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 460 150" font-family="sans-serif" '
        'font-size="13"><rect width="460" height="150" fill="#fff"/>'
    ]
    for row, part in enumerate(PARTS):
        top = 14 + 62 * row
        lines.append(f'<text x="10" y="{top + 26}" font-weight="bold">{part}</text>')
        for place, (kind, colour) in enumerate(
            (("spotlight", "#8a8f98"), ("compensation", "#d1622b"))
        ):
            share = statistics.mean(record[part][place] for record in records)
            y = top + 24 * place
            lines.append(
                f'<rect x="70" y="{y}" width="{220 * share:.1f}" height="18" fill="{colour}"/>'
                f'<text x="{76 + 220 * share:.1f}" y="{y + 14}">{kind} {100 * share:.0f}%</text>'
            )
    lines.append(
        f'<text x="70" y="144" font-size="11" fill="#555">share of pixels covered, '
        f"{len(records)} seed{'s' * (len(records) != 1)}</text></svg>"
    )
    return "\n".join([*lines, ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+")
    parser.add_argument("--read-only", action="store_true", help="only write the table anew")
    parser.add_argument("--do", nargs="+", choices=("base", "arms", "whole"))
    parser.add_argument("--job", type=int, default=0, help="which of several processes this is")
    parser.add_argument("--of", type=int, default=1, help="how many there are")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    files = sorted((ROOT / "benchmarks" / "ablation").glob("*.yaml"))
    arms = {file.stem: yaml.safe_load(file.read_text("utf-8")) for file in files}
    chosen = options.arms or list(arms)
    options.runs.mkdir(parents=True, exist_ok=True)
    todo = options.do or ["base", "arms", "whole"]
    pairs = [(name, seed) for seed in options.seeds for name in options.sets]
    work = [(base, *pair) for pair in pairs if "base" in todo]
    work += [(whole, *pair) for pair in pairs if "whole" in todo]
    for arm in ["plain", *chosen] if "arms" in todo else []:
        work += [(measured, *pair, arm, arms.get(arm)) for pair in pairs]
    for step, name, seed, *arm in [] if options.read_only else work[options.job :: options.of]:
        step(name, seed, options.runs, *arm)
    lines = [
        "# Ablation: what a second branch can learn from",
        "",
        __doc__.split("\n\n")[2].strip(),
        "",
    ]
    lines += [
        "mIoU in percent of `oracle / blind` maps: at the best background threshold by the truth, and "
        "at the one chosen without it; means over the seeds, and the range of the latter. All arms learn "
        f"equally long: {', '.join(f'{name} {count} epochs' for name, count in EPOCHS.items())}.",
        "",
    ]
    for name in SETS:
        records = {}
        for path in sorted(options.runs.glob(f"{name}-*/arms/*/scores.json")):
            records.setdefault(path.parent.name, []).append(json.loads(path.read_text()))
        if records:
            lines += table(name, arms, records)
        ways = [
            json.loads(path.read_text())
            for path in sorted(options.runs.glob(f"{name}-*/whole.json"))
        ]
        if ways:
            lines += whole_table(name, ways)
    (options.out / "ablation.md").write_text("\n".join(lines), "utf-8")
    records = [
        json.loads(path.read_text()) for path in options.runs.glob("demo-*/arms/10-amr/scores.json")
    ]
    if parts := [record["parts"] for record in records if "parts" in record]:
        (ROOT / "docs" / "why.svg").write_text(why_picture(parts), "utf-8")


if __name__ == "__main__":
    main()
