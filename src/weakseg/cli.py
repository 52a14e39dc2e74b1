"""The command `weakseg`: parse, call, print.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from weakseg import __version__
from weakseg.command_arguments import (
    add_export,
    add_label,
    add_plan,
    add_review,
    add_run_folder,
    add_run_options,
    add_source,
    count,
    reading_options,
    seed,
)
from weakseg.command_line import SHELLS, USER_ERROR, Parser, complain, completion
from weakseg.types import WeaksegError, exit_code

if TYPE_CHECKING:
    from rich.console import Console

    from weakseg.pipeline import PipelineSummary

LOG_LEVELS = ("debug", "info", "warning", "error")

FAULTS, BUG, INTERRUPTED = 1, 70, 130
"""Exit codes: faults found by `check`, a fault of weakseg, Ctrl-C; `USER_ERROR` is the fourth.

`label` has the first, too, where images were bad, and `status` where something is wrong."""


_Command = Callable[[str, Callable[[argparse.Namespace], int], str], Parser]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        "weakseg",
        description="Pixel masks and a segmentation model from image tags alone.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"weakseg {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, function: Callable[[argparse.Namespace], int], about: str) -> Parser:
        sub = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
        sub.set_defaults(function=function, command=name)
        sub.add_argument(
            "--log-level",
            choices=LOG_LEVELS,
            default="warning",
            help="what is told besides on standard error; debug: every file; default: %(default)s",
        )
        assert isinstance(sub, Parser)
        return sub

    demo = command("demo", _demo, "Draw a small data set, run on it, and score the result.")
    demo.add_argument(
        "--out", type=Path, default=Path("weakseg-demo"), metavar="DIR", help="default: %(default)s"
    )
    demo.add_argument(
        "--count", type=count, default=160, metavar="N", help="images; default: %(default)s"
    )
    demo.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="of the drawing; default: %(default)s"
    )

    check = command("check", _check, "Read a source and list everything that is wrong with it.")
    add_source(check)
    check.add_argument("--json", action="store_true", help="print the report as JSON")

    add_plan(command("plan", _plan, "Choose a run's settings; tell why, and what it will take."))

    run = command(
        "run", _run, "From images and tags to masks and a network; it goes on if stopped."
    )
    add_source(run, required=False)
    add_run_options(run)

    refine = command(
        "refine", _run, "From tags and maps that another program made to masks and a network."
    )
    add_source(refine, required=False)
    refine.add_argument(
        "maps",
        nargs="?",
        type=Path,
        metavar="MAPS",
        help="a folder with <image>.npz (an array per class name), <image>.npy [K,h,w], or "
        "<image>/<class>.png",
    )
    add_run_options(refine)

    evaluate = command("evaluate", _evaluate, "Score a folder of masks against the true ones.")
    evaluate.add_argument("predicted", type=Path, metavar="PREDICTED_DIR")
    evaluate.add_argument("--truth", type=Path, required=True, metavar="DIR", help="true masks")
    evaluate.add_argument("--list", type=Path, metavar="FILE", help="ids to score, one a line")
    evaluate.add_argument(
        "--classes", type=Path, metavar="FILE", help="names of the classes 1, 2, …, one a line"
    )
    evaluate.add_argument("--json", action="store_true", help="print the scores as JSON")

    export = command("export", _export, "Write a finished run in another tool's format.")
    add_run_folder(export)
    add_export(export)

    _add_review_commands(command)

    report = command("report", _report, "Write a run's report anew: one page, no network needed.")
    add_run_folder(report)

    status = command(
        "status", _status, "Tell where a run is, what it cost, what is next and what is wrong."
    )
    add_run_folder(status)
    status.add_argument("--json", action="store_true", help="print the status as JSON")

    add_label(command("label", _label, "Masks of new images, by the model that a run has made."))
    words = command("completion", _completion, "Print a script by which a shell completes weakseg.")
    words.add_argument(
        "shell",
        choices=SHELLS,
        help="bash: write it to ~/.local/share/bash-completion/completions/weakseg; zsh: to a file "
        "_weakseg in a folder of $fpath; fish: to ~/.config/fish/completions/weakseg.fish",
    )
    return top


def _add_review_commands(command: _Command) -> None:
    review = command("review", _review, "Look through a run's masks on a page, and correct them.")
    add_run_folder(review)
    add_review(review)

    correct = command("correct", _correct, "Take masks that people drew elsewhere as true.")
    add_run_folder(correct)
    correct.add_argument(
        "--from",
        dest="source",
        type=Path,
        required=True,
        metavar="SOURCE",
        help="annotations of another tool, with or without images; or a folder of PNG masks",
    )
    correct.add_argument(
        "--kind", metavar="KIND", help="png, coco, voc, cvat, label-studio …; found by looking"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: The command line without the program's name; the process's own by default.

    Returns:
        The exit code: 0; 1 if `check` or `label` found faults, with `--fail-on-red` a verdict is
        red, or with `--fail-under` the masks are estimated to be worse; 2 for what the user can
        fix; 70 for a fault of weakseg; 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(words)
    _log_to_stderr(options.log_level)
    # Read when torch is imported: threads that have nothing to do sleep. Else they turn in circles
    # until the others are ready, and where other programs want the processors, nobody comes on.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code: int = options.function(options)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        return _failed(error, options, words)
    return code


def _log_to_stderr(level: str) -> None:
    """Shows what weakseg logs from a level on, with the time where somebody asked for more."""
    import logging  # noqa: PLC0415

    form = "weakseg: %(levelname)s: %(message)s"
    if level in ("debug", "info"):
        form = "%(asctime)s %(process)d %(name)s: %(message)s"
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(form))
    log = logging.getLogger("weakseg")
    log.handlers[:] = [handler]
    log.setLevel(level.upper())


def _failed(error: BaseException, options: argparse.Namespace, words: Sequence[str]) -> int:
    if isinstance(error, WeaksegError):
        complain(f"error: {error}")
        return USER_ERROR
    if isinstance(error, KeyboardInterrupt):
        again = f"; to go on: {shlex.join(['weakseg', *words])}" if "out" in options else ""
        complain(f"stopped{again}")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, OSError) and exit_code(error) == USER_ERROR:
        complain(f"error: {error.filename or 'cannot write'}: {error.strerror}")
        return USER_ERROR
    return _bug(error, options)


def _bug(error: BaseException, options: argparse.Namespace) -> int:
    details = "".join(traceback.format_exception(error))
    where = "set WEAKSEG_DEBUG=1 to see where"
    out = getattr(options, "out", None)
    if os.environ.get("WEAKSEG_DEBUG") == "1":
        sys.stderr.write(details)
        where = "its traceback is above"
    elif out is not None:
        path = _runs_folder(options) / "traceback.txt"
        try:
            if path.parent.is_dir():
                path.write_text(details, encoding="utf-8")
                where = f"its traceback is in {path}"
        except OSError:  # the folder cannot be written to
            pass
    text = " ".join(str(error).split())
    complain(f"this is a bug in weakseg: {type(error).__name__}: {text}; {where}, please report it")
    return BUG


def _runs_folder(options: argparse.Namespace) -> Path:
    out: Path = options.out
    special: dict[str, Path] = {"export": getattr(options, "run", out)}
    return special.get(options.command, out)


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console  # noqa: PLC0415

    return Console(stderr=stderr)


def _demo(options: argparse.Namespace) -> int:
    from weakseg import api  # noqa: PLC0415
    from weakseg.console import show_demo  # noqa: PLC0415

    console = _console()
    summary = api.demo(options.out, count=options.count, seed=options.seed, console=console)
    show_demo(summary, console)
    return 0


def _check(options: argparse.Namespace) -> int:
    from weakseg import api  # noqa: PLC0415
    from weakseg.console import show_report  # noqa: PLC0415

    progress = _shown_progress()
    report = api.check(
        options.source,
        kind=options.kind,
        split=options.split or None,
        console=progress,
        **reading_options(options),
    )
    if options.json:
        sys.stdout.write(report.model_dump_json(indent=2) + "\n")
    else:
        show_report(report, _console())
    return FAULTS if report.faults else 0


def _plan(options: argparse.Namespace) -> int:
    from weakseg import api  # noqa: PLC0415
    from weakseg.planning.plan_tables import show_plan  # noqa: PLC0415

    made = api.plan(
        options.source,
        out=options.out,
        minutes=options.minutes,
        split=options.split,
        val=options.val,
        kind=options.kind,
        overrides=[f"device={options.device}"] if options.device else [],
        skip_bad=options.skip_bad,
        console=_shown_progress(),
        **reading_options(options),
    )
    show_plan(made, _console())
    sys.stdout.write(f"{options.out}\n")
    return 0


def _run(options: argparse.Namespace) -> int:
    overrides = [*options.set, *([f"device={options.device}"] if options.device else [])]
    overrides += ["segment.truth_masks=true"] if options.truth_masks else []
    overrides += [f"dry_run={options.steps}"] if options.steps else []
    refines = options.command == "refine"
    if options.print_config:
        from weakseg.planning.planned_settings import printed_settings  # noqa: PLC0415

        found = printed_settings(options.preset, options.plan, options.config, overrides)
        sys.stdout.write(found.to_yaml())
        return 0
    wanted = {"SOURCE": options.source, "--out": options.out}
    if refines:
        wanted = {"SOURCE": options.source, "MAPS": options.maps, "--out": options.out}
    missing = [name for name, value in wanted.items() if not value]
    if missing:
        options.parser.error(f"the following arguments are required: {', '.join(missing)}")

    from weakseg import api  # noqa: PLC0415
    from weakseg.console import show_faults, show_summary  # noqa: PLC0415
    from weakseg.faults import FaultsFoundError  # noqa: PLC0415

    console = _console()
    try:
        summary = api.run(
            options.source,
            options.out,
            preset=options.preset,
            plan=options.plan,
            config=options.config,
            overrides=overrides,
            split=options.split,
            val=options.val,
            kind=options.kind,
            until=options.until,
            skip_bad=options.skip_bad,
            force=options.force,
            log=options.log,
            maps=options.maps if refines else None,
            engine=options.engine,
            workers=options.workers,
            console=console,
            **reading_options(options),
        )
    except FaultsFoundError as error:
        show_faults(error.report, console)
        raise
    show_summary(summary, console)
    return 1 if _not_good_enough(summary, options, console) else 0


def _not_good_enough(
    summary: PipelineSummary, options: argparse.Namespace, console: Console
) -> bool:
    """Whether the masks fall short of what the caller asks of them, as far as that is known."""
    red = any(verdict.severity == "red" for verdict in summary.verdicts)
    if options.fail_on_red and red:
        return True
    if options.fail_under is None:
        return False
    if summary.estimate is None:
        console.print("--fail-under: nothing was estimated; that is the work of the stage verify")
        return True
    return 100 * summary.estimate.value < float(options.fail_under)


def _evaluate(options: argparse.Namespace) -> int:
    from weakseg import api  # noqa: PLC0415
    from weakseg.runs.terminal_tables import mask_table  # noqa: PLC0415

    progress = _shown_progress()
    scores = api.evaluate(
        options.predicted,
        options.truth,
        ids=options.list,
        classes=options.classes,
        console=progress,
    )
    if options.json:
        sys.stdout.write(json.dumps(scores.to_json(), ensure_ascii=False, indent=2) + "\n")
    else:
        title = f"Scores in percent, {scores.images} images"
        _console().print(mask_table(scores.to_json(), title))
    for text in scores.warnings:
        _console(stderr=True).print(f"warning: {text}", markup=False, soft_wrap=True)
    return 0


def _shown_progress() -> Console | None:
    """Where progress is shown: beside the output, if somebody watches."""
    return _console(stderr=True) if sys.stderr.isatty() else None


def _export(options: argparse.Namespace) -> int:
    from weakseg import api  # noqa: PLC0415

    progress = _shown_progress()
    written = api.export(
        options.run,
        options.to,
        options.out,
        masks=options.masks,
        image_root=options.image_root,
        layout=options.layout,
        console=progress,
    )
    counts = "" if written.masks is None else f": {written.images} images, {written.masks} masks"
    sys.stdout.write(f"{written.path}{counts}\n")
    for note in written.notes:
        complain(f"note: {note}")
    return 0


def _review(options: argparse.Namespace) -> int:
    from weakseg import api  # noqa: PLC0415

    def say(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    api.review(
        options.run,
        host=options.host,
        port=options.port,
        who=options.who,
        say=say,
        browse=options.browser,
    )
    return 0


def _correct(options: argparse.Namespace) -> int:
    from weakseg import api  # noqa: PLC0415

    progress = _shown_progress()
    taken = api.correct(options.run, options.source, kind=options.kind, console=progress)
    known = f", {taken.unchanged} known already" if taken.unchanged else ""
    sys.stdout.write(
        f"{taken.corrected} mask{'s' * (taken.corrected != 1)} taken as true{known}; "
        "the next `weakseg run` learns from them\n"
    )
    for note in taken.notes:
        complain(f"note: {note}")
    return FAULTS if taken.notes else 0


def _report(options: argparse.Namespace) -> int:
    from weakseg import api  # noqa: PLC0415

    progress = _shown_progress()
    sys.stdout.write(f"{api.report(options.run, console=progress)}\n")
    return 0


def _completion(options: argparse.Namespace) -> int:
    sys.stdout.write(completion(parser(), options.shell))
    return 0


def _status(options: argparse.Namespace) -> int:
    from dataclasses import asdict  # noqa: PLC0415

    from weakseg import api  # noqa: PLC0415
    from weakseg.console import show_status  # noqa: PLC0415
    from weakseg.files import dump_json  # noqa: PLC0415

    found = api.status(options.run)
    if options.json:
        sys.stdout.write(dump_json({**asdict(found), "seconds": found.seconds}).decode())
    else:
        show_status(found, _console())
    return FAULTS if found.wrong else 0


def _label(options: argparse.Namespace) -> int:
    from weakseg import api  # noqa: PLC0415
    from weakseg.console import show_labels  # noqa: PLC0415
    from weakseg.runs.processes import first_process  # noqa: PLC0415

    console = _console()
    summary = api.label(
        options.model,
        options.images,
        options.out,
        tags=options.tags,
        maps=options.maps,
        to=options.to,
        device=options.device,
        engine=options.engine,
        workers=options.workers,
        console=console,
        scales=options.scales,
        mirror=options.mirror,
        long_side=None if options.full_size else "model",
        ignore_alpha=options.ignore_alpha or None,
    )
    if first_process():
        show_labels(summary, console)
    return FAULTS if summary.bad else 0
