import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import weakseg
from weakseg.config.run_config import PRESETS
from weakseg.pipeline import STAGES


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "photos"
    (folder / "masks").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = ["image,tags"]
    for name, tags in {"a": "cat", "b": "cat dog", "c": "dog", "d": ""}.items():
        pixels = rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        mask = pixels[..., 0] // 100
        for index, tag in enumerate(("cat", "dog"), start=1):
            mask[mask == index] *= tag in tags
        Image.fromarray(mask).save(folder / f"masks/{name}.png")
        rows.append(f"{name}.png,{tags}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


ALL = [stage.name for stage in STAGES if not stage.validation]


class Calls(list):
    error = judged = None
    """What a stage raises; what `verify` says."""


@pytest.fixture
def calls(monkeypatch, quick_plans):
    """The stages replaced by ones that only write down that they were called."""
    calls = Calls()

    def stage(name):
        def function(context):
            calls.append(name)
            with context.track(name, 2) as advance:
                advance()
                if calls.error is not None:
                    raise calls.error
            scores = {
                "maps": {"weighted": {"oracle": {"mean_iou": 0.5}}},
                "masks": {"mean_iou": 0.4},
            }
            return (calls.judged or {}) if name == "verify" else scores

        return SimpleNamespace(**{name: function})

    for name in (*ALL, "validate"):
        monkeypatch.setitem(sys.modules, f"weakseg.stages.{name}", stage(name))
    return calls


def told(result, code=2):
    """The one line of complaint of a command that failed."""
    assert result[0] == code, result
    assert result[2].startswith("weakseg: ")
    assert result[2].count("\n") == 1
    assert "Traceback" not in result[2]
    return result[2]


def test_help_and_version_answer_without_loading_anything_heavy():
    code = textwrap.dedent("""
        import sys, time
        start = time.process_time()
        from weakseg.cli import main
        try:
            main(sys.argv[1:])
        except SystemExit as stop:
            assert stop.code in (0, None), stop.code
        heavy = {"torch", "numpy", "pydantic", "timm", "PIL", "rich", "yaml"} & set(sys.modules)
        assert not heavy, heavy
        print(time.process_time() - start, file=sys.stderr)
    """)
    for arguments in (["--help"], ["--version"], ["run", "--help"]):
        found = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, found.stderr
        assert float(found.stderr) < 0.5
        if arguments == ["--version"]:
            assert found.stdout == f"weakseg {weakseg.__version__}\n"
        else:
            assert "usage: weakseg" in found.stdout


def test_help_names_the_presets(weak):
    text = weak("run", "--help")[1]
    assert all(name in text for name in PRESETS if name != "demo")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(weak, shell):
    code, script, _ = weak("completion", shell)
    assert code == 0
    assert all(word in script for word in ("evaluate", "skip-bad", "preset", "log-level"))


def test_bash_completes(weak, tmp_path):
    (tmp_path / "script").write_text(weak("completion", "bash")[1])
    asked = (
        "source ./script; COMP_WORDS=(weakseg {}); COMP_CWORD={}; COMP_LINE='weakseg'; "
        'COMP_POINT=7; _shtab_weakseg weakseg "${{COMP_WORDS[COMP_CWORD]}}"; echo "${{COMPREPLY[@]}}"'
    )

    def completed(words, place):
        command = ["bash", "-c", asked.format(words, place)]
        found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return found.stdout.split()

    assert completed("exp", 1) == ["export"]
    assert completed("run --skip", 2) == ["--skip-bad"]
    assert completed("completion z", 2) == ["zsh"]


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        ((), "required: COMMAND"),
        (("rum",), "invalid choice: 'rum'"),
        (("rum",), "did you mean run?"),
        (("evalaute", "x"), "did you mean evaluate?"),
        (("check", "x", "--log-level", "debag"), "did you mean debug?"),
        (("run",), "required: SOURCE, --out"),
        (("run", "photos"), "required: --out"),
        (("run", "photos", "--out", "x", "--forse"), "unrecognized arguments: --forse"),
        (("run", "photos", "--forse"), "did you mean --force?; see weakseg run --help"),
        (("run", "photos", "--preste=fast"), "did you mean --preset?"),
        (("label", "run", "x", "--out", "y", "--no-miror"), "did you mean --no-mirror?"),
        (("evaluate", "x"), "required: --truth"),
        (("demo", "--count", "0"), "expected a number from 1 to 99999, got '0'"),
        (("demo", "--seed", "x"), "expected a number from 0"),
    ],
)
def test_wrong_usage_is_one_line(weak, arguments, about):
    assert about in told(weak(*arguments))


def test_check_of_a_good_source(weak, source):
    code, out, err = weak("check", source)
    assert (code, err) == (0, "")
    assert "4 images, 4 readable, 1 without tags, 4 with a true mask, 2 classes" in out
    assert "no faults" in out
    assert max(map(len, out.splitlines()[2:-1])) <= 80


def test_check_lists_every_fault(weak, source):
    with (source / "labels.csv").open("a") as file:
        file.write("".join(f"sub/some/folder/missing_{n}.png,cat\n" for n in range(30)))
        file.write("c.png,Dog\n")
    (source / "a.png").write_bytes(b"")
    code, out, err = weak("check", source)
    assert (code, err) == (1, "")
    report = weakseg.check(source)
    shown = "".join(out.replace("│", "").split())
    assert len(report.faults) >= 32
    for n in range(30):
        assert f"missing_{n}.png" in shown
    for fault in report.faults:
        assert f":{fault.line}" in shown or fault.line is None
    assert "image missing: 30 faults" in out
    assert "image empty: 1 fault" in out
    assert f"{len(report.faults)} faults" in out.splitlines()[-1]


def test_check_as_json(weak, source):
    code, out, _ = weak("check", source, "--json")
    assert code == 0
    assert json.loads(out) == json.loads(weakseg.check(source).model_dump_json())


def test_check_of_nothing(weak, tmp_path):
    assert "there is no such file or folder" in told(weak("check", tmp_path / "nowhere"))
    assert "unknown kind 'x'" in told(weak("check", tmp_path, "--kind", "x"))


def test_print_config_needs_no_source(weak):
    code, out, _ = weak("run", "--print-config", "--preset", "fast", "--set", "fit.epochs=77")
    assert code == 0
    assert "  epochs: 77  # " in out
    code, out, _ = weak("run", "--print-config", "--device", "cpu")
    assert "device: cpu" in out


def test_run_and_run_again(weak, source, calls, tmp_path):
    out = tmp_path / "run"
    code, text, err = weak("run", source, "--out", out, "--preset", "fast", "--set", "seed=5")
    assert (code, err) == (0, "")
    assert calls == ALL
    assert "seed: 5" in (out / "config.yaml").read_text()
    assert f"masks: {out / 'masks'}" in text
    assert f"network: {out / 'segment' / 'model'}" in text
    assert "peak memory" in text
    code, text, _ = weak("run", source, "--out", out, "--preset", "fast", "--set", "seed=5")
    assert code == 0
    assert len(calls) == len(ALL)
    assert "50.0" in text  # the scores, since `evaluate` did not print them
    assert "check" not in text  # an unchanged source is not read again


def test_changed_settings_are_refused_unless_forced(weak, source, calls, tmp_path):
    out = tmp_path / "run"
    weak("run", source, "--out", out)
    changed = ("run", source, "--out", out, "--set", "cams.xi=0.25")
    line = told(weak(*changed))
    assert "'cams'" in line
    assert "cams.xi: 0.5 → 0.25" in line
    assert "--force" in line
    assert weak(*changed, "--force")[0] == 0
    assert calls[len(ALL) :] == ALL[1:]


def test_until(weak, source, calls, tmp_path):
    assert weak("run", source, "--out", tmp_path / "run", "--until", "cams")[0] == 0
    assert calls == ["classify", "cams"]
    assert "unknown stage 'cam'" in told(
        weak("run", source, "--out", tmp_path / "other", "--until", "cam")
    )
    assert not (tmp_path / "other").exists()


def test_a_second_split_is_kept_apart(weak, source, calls, tmp_path):
    out = tmp_path / "run"
    (source / "ImageSets").mkdir()
    for name, ids in {"train": "a b", "val": "c d", "both": "b c"}.items():
        (source / f"ImageSets/{name}.txt").write_text("\n".join(ids.split()) + "\n")
    run = ("run", source, "--out", out, "--split", "train")
    assert "1 images of split 'both' (b, …) would be learnt from" in told(
        weak(*run, "--val", "both")
    )
    assert weak(*run, "--val", "val", "--until", "validate")[0] == 0
    assert calls == [*ALL, "validate"]
    ids = {
        name: [sample["id"] for sample in json.loads((out / name).read_text())["samples"]]
        for name in ("catalog.json", "catalog_val.json")
    }
    assert ids == {"catalog.json": ["a", "b"], "catalog_val.json": ["c", "d"]}
    code, text, _ = weak(*run, "--val", "val")
    assert (code, len(calls)) == (0, len(ALL) + 1)
    assert "check" not in text
    assert weak(*run)[0] == 0  # without it, nothing is done or lost
    assert len(calls) == len(ALL) + 1


def test_the_bound_is_one_flag_away(weak, source, calls, tmp_path):
    out = tmp_path / "run"
    assert weak("run", source, "--out", out)[0] == 0
    line = told(weak("run", source, "--out", out, "--truth-masks"))
    assert "segment.truth_masks: False → True" in line
    assert weak("run", source, "--out", out, "--truth-masks", "--force")[0] == 0
    assert calls[len(ALL) :] == ["segment"]
    (source / "masks" / "a.png").touch()
    assert weak("run", source, "--out", out, "--truth-masks")[0] == 0  # the content is the same
    mask = np.asarray(Image.open(source / "masks" / "a.png"))
    Image.fromarray(np.roll(mask, 1)).save(source / "masks" / "a.png")
    line = told(weak("run", source, "--out", out, "--truth-masks"))
    assert "other content of the true mask: 'a'" in line


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        (("--set", "fit.epoch=5"), "did you mean 'fit.epochs'?"),
        (("--set", "fit.epochs=x"), "fit.epochs: "),
        (("--preset", "quick"), "unknown preset 'quick'"),
        (("--config", "nowhere.yaml"), "cannot read nowhere.yaml"),
        (("--device", "gpu"), "device: "),
        (("--split", "val"), "unknown split 'val'"),
        (("--val", "val"), "unknown split 'val'"),
        (("--until", "validate"), "give --val NAME"),
    ],
)
def test_users_errors_leave_no_run_behind(weak, source, calls, tmp_path, arguments, about):
    line = told(weak("run", source, "--out", tmp_path / "run", *arguments))
    assert about in line
    assert not (tmp_path / "run").exists()
    assert calls == []


def test_a_folder_of_ones_own_is_not_taken_for_a_run(weak, source, calls):
    assert "is no run of weakseg" in told(weak("run", source, "--out", source))
    assert calls == []


def test_run_refuses_a_bad_source_with_the_list(weak, source, calls, tmp_path):
    (source / "a.png").write_bytes(b"")
    with (source / "labels.csv").open("a") as file:
        file.write("missing.png,cat\n")
    out = tmp_path / "run"
    result = weak("run", source, "--out", out)
    assert "2 faults" in told(result)
    assert "image empty: 1 fault" in result[1]
    assert "image missing: 1 fault" in result[1]
    assert not out.exists()
    assert calls == []


def test_skip_bad_goes_on_and_records_what_is_left_out(weak, source, calls, tmp_path):
    (source / "d.png").write_bytes(b"")
    with (source / "labels.csv").open("a") as file:
        file.write("missing.png,cat\n")
    out = tmp_path / "run"
    assert weak("run", source, "--out", out, "--skip-bad")[0] == 0
    record = json.loads((out / "catalog.json").read_text())
    assert record["skipped"] == ["d", "missing"]
    assert [sample["id"] for sample in record["samples"]] == ["a", "b", "c"]
    assert weak("run", source, "--out", out, "--skip-bad")[0] == 0
    assert len(calls) == len(ALL)
    assert "2 faults" in told(weak("run", source, "--out", out))


@pytest.mark.parametrize("change", ["image", "row"])
def test_a_source_that_changed_is_checked_again(weak, source, calls, tmp_path, change):
    out = tmp_path / "run"
    weak("run", source, "--out", out)
    if change == "image":
        (source / "a.png").write_bytes(b"")
    else:
        with (source / "labels.csv").open("a") as file:
            file.write("missing.png,cat\n")
    assert "1 fault" in told(weak("run", source, "--out", out))


def test_data_that_were_copied_or_moved_are_the_same(weak, source, calls, tmp_path):
    (tmp_path / "here").mkdir()
    out = tmp_path / "here/run"
    assert weak("run", source, "--out", out)[0] == 0
    copy = tmp_path / "copy"
    shutil.copytree(source, copy, copy_function=shutil.copyfile)
    calls.clear()
    code, text, _ = weak("run", copy, "--out", out)
    assert (code, calls) == (0, [])
    assert "check" not in text
    copy.rename(tmp_path / "here/copy")
    (tmp_path / "here").rename(tmp_path / "there")
    shutil.rmtree(source)
    there = tmp_path / "there"
    assert weak("run", there / "copy", "--out", there / "run")[0] == 0
    assert calls == []
    record = json.loads((there / "run/catalog.json").read_text())
    assert record["source"] == str(there / "copy")
    assert all(sample["image"].startswith(str(there)) for sample in record["samples"])


def test_a_run_killed_before_it_had_a_catalog_goes_on(weak, source, calls, tmp_path):
    out = tmp_path / "run"
    weak("run", source, "--out", out, "--until", "classify")
    for path in (out / "catalog.json", out / "config.yaml"):
        path.unlink()
    shutil.rmtree(out / "classify")
    left = sorted(path.name for path in out.iterdir())
    assert left == [".lock", "contents.json", "plan.yaml", "report.html"]
    (out / "report.html").unlink()
    assert weak("run", source, "--out", out)[0] == 0


def test_an_image_of_other_content_is_named(weak, source, calls, tmp_path):
    out = tmp_path / "run"
    weak("run", source, "--out", out)
    Image.new("RGB", (60, 40)).save(source / "c.png")
    line = told(weak("run", source, "--out", out))
    assert "was made of other data (other content of the image: 'c'); give --force" in line
    assert weak("run", source, "--out", out, "--force")[0] == 0
    Image.new("L", (60, 40)).save(source / "masks/b.png")
    assert "other content of the true mask: 'b'" in told(weak("run", source, "--out", out))


@pytest.mark.parametrize("own", [None, "ACTIVE"])
def test_threads_that_wait_sleep_unless_asked_otherwise(weak, monkeypatch, own):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if own:
        monkeypatch.setenv("OMP_WAIT_POLICY", own)
    assert weak("run", "--print-config")[0] == 0
    assert os.environ["OMP_WAIT_POLICY"] == (own or "PASSIVE")
    monkeypatch.delenv("OMP_WAIT_POLICY")


def test_log_levels(weak, source, calls, tmp_path):
    assert weak("run", source, "--out", tmp_path / "one")[2] == ""
    debug = weak("run", source, "--out", tmp_path / "two", "--log-level", "debug")[2]
    assert f"wrote {tmp_path / 'two/classify/done.json'}" in debug
    info = weak("run", source, "--out", tmp_path / "three", "--log-level", "info")[2]
    assert "stage classify begins" in info
    assert "wrote" not in info
    assert "invalid choice: 'loud'" in told(weak("check", source, "--log-level", "loud"))


def test_a_fault_of_weakseg_says_so(weak, source, calls, tmp_path, monkeypatch):
    calls.error = ZeroDivisionError("division\nby zero")
    out = tmp_path / "run"
    line = told(weak("run", source, "--out", out), code=70)
    assert "this is a bug in weakseg: ZeroDivisionError: division by zero" in line
    assert str(out / "traceback.txt") in line
    assert "raise calls.error" in (out / "traceback.txt").read_text()
    monkeypatch.setenv("WEAKSEG_DEBUG", "1")
    code, _, err = weak("run", source, "--out", out)
    assert code == 70
    assert "Traceback" in err


def test_a_full_disk_is_no_bug(weak, source, calls, tmp_path):
    calls.error = OSError(28, "No space left on device", "x.npz")
    line = told(weak("run", source, "--out", tmp_path / "run"))
    assert "x.npz: No space left on device" in line


def test_an_interrupt_tells_how_to_go_on(weak, source, calls, tmp_path):
    calls.error = KeyboardInterrupt()
    out = tmp_path / "my run"
    line = told(weak("run", source, "--out", out), code=130)
    assert line == f"weakseg: stopped; to go on: weakseg run {source} --out '{out}'\n"
    calls.error = None
    assert weak("run", source, "--out", out)[0] == 0


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 0),
        (("--fail-under", "39.5"), 0),
        (("--fail-under", "41"), 1),
        (("--fail-on-red",), 1),
        (("--fail-under", "41", "--set", "verify.images=0"), 1),
    ],
)
def test_masks_that_are_not_good_enough(weak, source, calls, tmp_path, options, code):
    calls.judged = {
        "verdicts": [{"severity": "red", "about": "cat", "text": "its masks are guesses"}],
        "estimate": {"value": 0.4, "low": 0.25, "high": 0.55},
    }
    found = weak("run", source, "--out", tmp_path / "run", *options)
    assert found[0] == code, found
    if "verify.images=0" in options:
        assert "nothing was estimated" in found[1]
    else:
        assert "masks: about 40%, likely 25% to 55%" in found[1]
        assert "RED cat: its masks are guesses" in found[1]


@pytest.mark.parametrize("percent", ["-1", "101", "much", "nan"])
def test_percentages_are_checked(weak, source, tmp_path, percent):
    found = told(weak("run", source, "--out", tmp_path / "run", "--fail-under", percent))
    assert "expected a number in 0..100" in found


SLOW = """
    import signal, sys, time
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import weakseg.api
    def run(source, out, **options):
        out.mkdir()
        time.sleep(60)
    weakseg.api.run = run
    from weakseg.cli import main
    sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
def test_control_c_in_earnest(source, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-c", textwrap.dedent(SLOW), "run", source, "--out", out]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        for _ in range(600):
            if out.exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)
        err = process.communicate(timeout=30)[1]
    finally:
        process.kill()
    assert process.returncode == 130
    assert err == f"weakseg: stopped; to go on: weakseg run {source} --out {out}\n"


def test_evaluate(weak, source, tmp_path):
    code, out, _ = weak("evaluate", source / "masks", "--truth", source / "masks")
    assert code == 0
    assert "100.0" in out
    (tmp_path / "ids.txt").write_text("a\nb\n")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    code, out, _ = weak(
        *("evaluate", source / "masks", "--truth", source / "masks", "--json"),
        *("--list", tmp_path / "ids.txt", "--classes", tmp_path / "names.txt"),
    )
    scores = json.loads(out)
    assert scores["images"] == 2
    assert scores["mean_iou"] == 1.0
    assert list(scores["iou"]) == ["background", "cat", "dog"]
    assert "is no folder" in told(weak("evaluate", tmp_path / "x", "--truth", source / "masks"))


def test_demo_runs_all_goes_on_and_refuses_another(weak, calls, tmp_path, monkeypatch):
    monkeypatch.setattr("weakseg.apps.gallery.gallery", lambda *_, **__: b"picture")
    out = tmp_path / "demo"
    code, text, _ = weak("demo", "--out", out, "--count", 12)
    assert code == 0
    assert str(out / "demo.png") in text.replace("\n", "")
    assert (out / "demo.png").read_bytes() == b"picture"
    command = text.rsplit("on a photo: weakseg ", 1)[1].split()
    assert command == ["label", str(out / "amr"), "PHOTO.jpg", "--out", "labels"]
    assert sorted(calls) == sorted(ALL)
    assert weak("demo", "--out", out, "--count", 12)[0] == 0
    assert len(calls) == len(ALL)
    assert "choose another --out" in told(weak("demo", "--out", out, "--count", 13))


def test_functions_do_the_same(source, calls, tmp_path):
    summary = weakseg.run(source, tmp_path / "run", preset="fast", until="cams")
    assert [stage.name for stage in summary.stages] == ["classify", "cams"]
    with pytest.raises(ValueError, match="got both"):
        weakseg.run(
            source,
            tmp_path / "x",
            config=weakseg.config.run_config.RunConfig(),
            overrides=["seed=1"],
        )


def test_the_traceback_of_a_demo_is_beside_what_it_made(weak, monkeypatch, tmp_path):
    def broken(out, **options):
        out.mkdir()
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("weakseg.api.demo", broken)
    line = told(weak("demo", "--out", tmp_path / "shown"), code=70)
    assert str(tmp_path / "shown" / "traceback.txt") in line
    assert "ZeroDivisionError" in (tmp_path / "shown" / "traceback.txt").read_text()
