"""Which mistakes the tests would miss: mutants of `ops` and `stages`, and the tests of each.

    pip install cosmic-ray
    python benchmarks/mutants.py --work DIR [--each 12] [--only ops/walk]

cosmic-ray makes every mutant of a module; an even choice of `--each` is tried by the module's own tests
(of stages, those of all stages by hand-made maps). DIR gets a copy of the repository, so that no mutant
ever stands in the working tree. Writes `mutants.md`: how many died, and each survivor. Stages are tried by
the hand-made maps alone, not by the slower tests of the whole path, which run `classify`, `recalibrate` and
the prototypes: what survives here may die there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
STAGE_TESTS = {
    "evaluate": "tests/stages/test_evaluate.py",
    "segment": "tests/stages/test_segment.py",
    "validate": "tests/stages/test_segment.py",
    "cams": "tests/stages/test_cams.py tests/stages/test_by_hand.py",
    "spread": "tests/stages/test_spread.py tests/stages/test_by_hand.py",
}
SKIPPED_OPERATORS = ("RemoveDecorator", "ReplaceBinaryOperator_BitOr")  # of types, mostly


def modules(only):
    """The modules to change, with their tests."""
    for room in ("ops", "stages"):
        for path in sorted((ROOT / "src/weakseg" / room).glob("*.py")):
            name = f"{room}/{path.stem}"
            if path.stem == "__init__" or (only and name not in only):
                continue
            tests = f"tests/ops/test_{path.stem}.py"
            if room == "stages":
                tests = STAGE_TESTS.get(path.stem, "tests/stages/test_by_hand.py")
            if all((ROOT / test).is_file() for test in tests.split()):
                yield name, tests


def thinned(session, count):
    """Keep so many of a session's mutants, evenly chosen."""
    with sqlite3.connect(session) as base:
        rows = base.execute(
            "select job_id, operator_name from mutation_specs order by start_pos_row, "
            "start_pos_col, operator_name, occurrence"
        ).fetchall()
        rows = [job for job, name in rows if not any(s in name for s in SKIPPED_OPERATORS)]
        step = max(1.0, len(rows) / count)
        kept = {rows[int(k * step)] for k in range(min(count, len(rows)))}
        for table in ("mutation_specs", "work_items"):
            marks = ",".join("?" * len(kept))
            base.execute(f"delete from {table} where job_id not in ({marks})", sorted(kept))
    return len(rows)


def outcomes(session):
    """Of each mutant that was tried its outcome, place, operator and difference."""
    with sqlite3.connect(session) as base:
        return base.execute(
            "select r.test_outcome, m.start_pos_row, m.operator_name, r.diff from work_results r "
            "join mutation_specs m on m.job_id = r.job_id order by m.start_pos_row"
        ).fetchall()


def changed(diff):
    """The changed line of a mutant, before and after."""
    lines = [line for line in (diff or "").splitlines() if not line.startswith(("---", "+++"))]
    old, new = (next((x[1:].strip() for x in lines if x[:1] == sign), "") for sign in "-+")
    return f"`{old}` → `{new}`".replace("|", "\\|")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--each", type=int, default=12)
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    copy = options.work / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "weakseg-demo"))
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}
    rows, survivors = [], []
    for name, tests in modules(options.only):
        session = options.work / f"{name.replace('/', '-')}.sqlite"
        config = options.work / f"{name.replace('/', '-')}.toml"
        command = f"{sys.executable} -m pytest -x -q -p no:cacheprovider {tests}"
        config.write_text(
            f'[cosmic-ray]\nmodule-path = "src/weakseg/{name}.py"\ntimeout = 120.0\n'
            f'excluded-modules = []\ntest-command = "{command}"\n'
            '[cosmic-ray.distributor]\nname = "local"\n',
            "utf-8",
        )
        ray = str(Path(sys.executable).with_name("cosmic-ray"))
        if not session.is_file():
            subprocess.run(
                [ray, "init", str(config), str(session)], cwd=copy, env=environment, check=True
            )
            thinned(session, options.each)
        subprocess.run(
            [ray, "exec", str(config), str(session)], cwd=copy, env=environment, check=True
        )
        found = outcomes(session)
        alive = [row for row in found if "SURVIVED" in str(row[0]).upper()]
        rows.append(f"| `{name}` | {len(found)} | {len(found) - len(alive)} |")
        survivors += [f"| `{name}:{line}` | {changed(diff)} |" for _, line, _, diff in alive]
        print(rows[-1], flush=True)
        text = [
            "# Mutants",
            "",
            *__doc__.split("\n\n")[1:3],
            "",
            "| module | mutants | killed |",
            "| --- | --- | --- |",
            *rows,
            "",
            "## Survivors",
            "",
            "| where | change |",
            "| --- | --- |",
            *survivors,
            "",
        ]
        (options.out / "mutants.md").write_text("\n".join(text), "utf-8")


if __name__ == "__main__":
    main()
