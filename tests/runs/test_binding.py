"""Every file of a run, changed for its namesake, removed, cut or with a flipped bit, under whatever reads it.

Either it is named, or the numbers are what they were.
"""

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import safetensors.torch

import mechdistill as md
from mechdistill.config import ExperimentConfig
from mechdistill.errors import MechdistillError
from mechdistill.runs import Run, list_runs, load, sql
from mechdistill.runs._tables import write_table
from mechdistill.runs._weights import load_weights
from mechdistill.training import train
from tests.helpers import micro, only

STEP = 16 * 4  # tokens
TINY = {"tokens": 6 * STEP, "warmup": 2, "evaluate_every": 2, "checkpoint_every": 3, "eval_sequences": 8}
RUN, TRUNK, BRANCH = "dpt/seed-0", "stem/seed-0", "stem-at-384/seed-0"

Act = Callable[[], Any]


def twins(lr: float = 3e-3, seeds: int = 2, **arms: Any) -> ExperimentConfig:
    return micro(
        training=TINY | {"lr": lr},
        teachers={"young": {"training": {"tokens": 4 * STEP}}},
        arms=only(spt={}, dpt={"alpha": 0.9, "teacher": "young"}, **arms),
        seeds=range(seeds),
    )


def trunk(lr: float = 3e-3, seeds: int = 2) -> ExperimentConfig:
    stem = {"training": {"schedule": "trunk", "branches": [6 * STEP], "anneal": 0.7}}
    return micro(training=TINY | {"lr": lr}, teachers=only(), arms=only(stem=stem), seeds=range(seeds))


def stopped(config: ExperimentConfig, out: Path) -> Path:
    """Trunks, and branches that were stopped at step 5 of 6, having left at step 2."""
    for seed in config.seeds:
        asked = iter(range(1 + 6 + 1 + 3))  # before each run and each step
        train(config.model_copy(update={"seeds": (seed,)}), out, stopped=lambda asked=asked: next(asked, None) is None)
        assert load(out / f"stem-at-384/seed-{seed}").status["step"] == 5
    return out


def readers(path: Path, run: Path) -> dict[str, Act]:
    """All that reads the directories of an experiment and one of its runs; `train` is the last, since it mends."""

    def weights(step: Any) -> Act:
        return lambda: {key: tensor.tolist() for key, tensor in load(run).model(step).state_dict().items()}

    def published() -> Any:
        shutil.rmtree(path.parent / "published", ignore_errors=True)
        return digests(load(md.publish(load(run), path.parent / "published")))

    def trained() -> Any:
        for outcome in train(trunk() if "stem" in str(run.relative_to(path)) else twins(), path):
            if outcome.state != "finished":
                raise MechdistillError(str(outcome.message))
        return digests(load(run))

    return {
        "status": lambda: {key: load(run).status[key] for key in ("state", "step", "steps", "tokens")},
        "provenance": lambda: {key: load(run).provenance[key] for key in ("conditions", "packages", "fingerprint")},
        "metrics": lambda: load(run).metrics(),
        "targets": lambda: load(run).targets(),
        "last": weights("last"),
        "first": weights(min((int(file.stem[5:]) for file in run.glob("checkpoints/*")), default=0)),
        "runs": lambda: [each.name for each in load(path).runs],
        "induction-scores": lambda: md.induction_scores(load(run), "last"),
        "row-curves": lambda: md.row_curves(load(run), "last"),
        "ablate": lambda: md.ablate(load(run), "last"),
        "compare": lambda: md.compare(load(path)),
        "list": lambda: list_runs(path).drop(columns=["path", "experiment", "seconds"]),
        "sql metrics": lambda: sql("SELECT * EXCLUDE (path, experiment) FROM metrics", path),
        "sql scores": lambda: sql("SELECT * EXCLUDE (path, experiment) FROM induction_scores", path),
        "publish": published,
        "train": trained,
    }


def digests(run: Run) -> tuple[Any, ...]:
    return run.steps, [run.weights_digest(step) for step in run.steps], run.metrics()


def said(act: Act) -> tuple[Any, list[str]]:
    """What comes out, None for an error, and what was said: its line, or the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = act()
        except MechdistillError as problem:
            return None, [str(problem)]
    return result, [str(warning.message) for warning in caught]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, pd.DataFrame) and isinstance(other, pd.DataFrame):
        keys = list(one.columns)
        return one.sort_values(keys, ignore_index=True).equals(other.sort_values(keys, ignore_index=True))
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


class Whole(NamedTuple):
    """Finished twins and interrupted branches, the same at another learning rate, and what the former come to."""

    folder: Path
    expected: dict[str, dict[str, Any]]  # by run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("bound")
    for name, lr, seeds in (("x", 3e-3, 2), ("other", 3e-2, 1)):
        train(twins(lr, seeds), folder / name / "twins")
        stopped(trunk(lr, seeds), folder / name / "trunk")
        for run in sorted((folder / name / "twins").glob("*/seed-*")):
            md.induction_scores(load(run), "last")
    for act in (md.row_curves, md.ablate):
        act(load(folder / "x/twins" / RUN), "last")
    expected: dict[str, dict[str, Any]] = {}
    for kind, name in (("twins", RUN), ("trunk", BRANCH), ("trunk", TRUNK)):
        copy = start(folder, name, folder / "copy" / name)
        acts = readers(copy, copy / name)
        expected[name] = {what: said(acts[what])[0] for what in acts if kind == "twins" or what in ALWAYS}
    return Whole(folder, expected)


def start(folder: Path, name: str, to: Path) -> Path:
    """A copy of the experiment that a case is about; where it is about a trunk, its branch has yet to leave it."""
    copy = Path(shutil.copytree(folder / "x" / ("twins" if name == RUN else "trunk"), to))
    if name == TRUNK:
        shutil.rmtree(copy / BRANCH)
    return copy


def flipped(at: float) -> Callable[[bytes], bytes]:
    def flip(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[int(at * len(data))] ^= 1
        return bytes(changed)

    return flip


NAMESAKES = {"seed": "x/{kind}/{seed}/{file}", "arm": "x/{kind}/{arm}/{file}", "other": "other/{kind}/{run}/{file}"}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[: data.rfind(b"\nseeds:") + 1] or data[: len(data) // 2],
    "flipped early": flipped(0.11),
    "flipped late": flipped(0.87),
}
TO_LINES: dict[str, Callable[[bytes], bytes]] = {
    "cut at a line": lambda data: data[: data.rfind(b"\n", 0, len(data) // 2) + 1],
    "doubled": lambda data: 2 * data,
}
ALWAYS = {"status", "metrics", "last", "runs", "list", "sql metrics", "train"}
COSTLY = {"compare", "publish", "sql scores"}
MEASURES = {"induction-scores", "row-curves", "ablate"}
# by what each is read beside what always reads; None: by nothing any more
FILES: list[tuple[str, str, set[str] | None]] = [
    (RUN, "config.yaml", {"first", "provenance", "targets", *COSTLY, *MEASURES}),
    (RUN, "provenance.json", {"first", "provenance", "targets", *COSTLY, *MEASURES}),
    (RUN, "status.json", {"first", "provenance", "targets", *COSTLY, *MEASURES}),
    (RUN, "metrics.parquet", {"compare", "publish"}),
    (RUN, "metrics.jsonl", None),
    (RUN, "targets.parquet", {"targets", "publish", "row-curves"}),
    (RUN, "checkpoints/step-00000000.safetensors", {"first", "induction-scores", "publish"}),
    (RUN, "checkpoints/step-00000004.safetensors", {"publish"}),
    (RUN, "checkpoints/step-00000006.safetensors", {"publish", *MEASURES}),
    (RUN, "tables/induction-scores-00000006-*.parquet", {"induction-scores", "publish", "sql scores"}),
    (RUN, "../../experiment.yaml", {"compare"}),
    (BRANCH, "config.yaml", set()),
    (BRANCH, "status.json", set()),
    (BRANCH, "metrics.jsonl", set()),
    (BRANCH, "checkpoints/step-00000004.safetensors", set()),
    (BRANCH, "resume/state.safetensors", set()),
    (TRUNK, "branches/step-00000002.safetensors", set()),
]


CASES = [
    pytest.param(name, file, extra, damage, id=f"{name}/{file} {damage}")
    for name, file, extra in FILES
    for damage in (*NAMESAKES, "removed", *DAMAGES, *(TO_LINES if file == "metrics.jsonl" else ()))
    if not (damage == "arm" and file.startswith(("targets", "resume", "branches", "../")))  # which the arm has not
    if not (damage == "seed" and file.startswith("../"))
]


@pytest.mark.parametrize(("name", "file", "extra", "damage"), CASES)
def test_a_file_that_is_not_its_runs_own_is_named_or_changes_nothing(
    whole: Whole, tmp_path: Path, name: str, file: str, extra: set[str] | None, damage: str
) -> None:
    kind = "twins" if name == RUN else "trunk"
    copy = start(whole.folder, name, tmp_path / "x")
    (path,) = (copy / name).glob(file) if "*" in file else [(copy / name / file).resolve()]
    if damage in NAMESAKES:
        arm = {RUN: "spt/seed-0", BRANCH: TRUNK, TRUNK: BRANCH}[name]
        words = {"kind": kind, "run": name, "arm": arm, "seed": name.replace("seed-0", "seed-1"), "file": file}
        source = next(whole.folder.glob(NAMESAKES[damage].format(**words)))
        shutil.copy(source, path)
    elif damage == "removed":
        path.unlink()
    else:
        path.write_bytes({**DAMAGES, **TO_LINES}[damage](path.read_bytes()))
    acts, expected, noticed = readers(copy, copy / name), whole.expected[name], False
    for what in [what for what in acts if what in ALWAYS | (extra or set())]:
        result, lines = said(acts[what])
        named = any(path.name in line and str(path.parent) in line for line in lines)
        noticed = noticed or named
        if result is None:
            assert named or expected[what] is None, (what, lines)
        elif isinstance(result, pd.DataFrame) and what in ("list", "sql metrics", "sql scores", "compare"):
            kept = expected[what]  # of many runs: one that is named may be left out
            less = [kept[kept["run"] != name]] if "run" in kept else []
            less += [kept[(kept["run"] != name) | (kept["step"] != 6)]] if what == "sql scores" else []
            assert same(result, kept) or (named and any(same(result, some) for some in less)), (what, lines)
        else:
            assert same(result, expected[what]), (what, lines)
    is_cache = file.startswith("tables/") and damage == "removed"
    assert noticed or extra is None or damage.startswith("flipped") or is_cache, "it went unnoticed"


@pytest.mark.parametrize("damage", ["other", "removed"])
def test_no_student_learns_from_another_checkpoint_than_its_teachers_last(
    whole: Whole, tmp_path: Path, damage: str
) -> None:
    copy = start(whole.folder, RUN, tmp_path / "x")
    path = copy / "teachers/young/seed-0/checkpoints/step-00000004.safetensors"
    path.unlink()
    if damage == "other":
        shutil.copy(whole.folder / "other/twins" / path.relative_to(copy), path)
    _, lines = said(lambda: train(twins(more={"alpha": 0.5, "teacher": "young"}), copy))
    reason = "missing, though status.json says that it was written" if damage == "removed" else "belongs to another run"
    assert f"{path}: {reason}" in lines[0]
    assert not (copy / "more").exists(), "before anything is made"


def test_what_the_experiment_does_not_say_any_more_is_no_smaller_n(whole: Whole, tmp_path: Path) -> None:
    copy = start(whole.folder, RUN, tmp_path / "x")
    file = copy / "experiment.yaml"
    file.write_text(file.read_text().replace("seeds: [0, 1]", "seeds: [0]"))
    with pytest.raises(MechdistillError, match=r"experiment.yaml: does not know dpt/seed-1, which lies here"):
        md.compare(load(copy))


def test_a_checkpoint_that_nobody_wrote_is_named(whole: Whole, tmp_path: Path) -> None:
    copy = start(whole.folder, RUN, tmp_path / "x")
    late = copy / RUN / "checkpoints/step-00000009.safetensors"
    shutil.copy(late.with_name("step-00000006.safetensors"), late)
    with pytest.raises(MechdistillError, match=r"step-00000009.safetensors: is no checkpoint that this run wrote"):
        load(copy / RUN).model("last")


def test_a_table_under_the_name_of_another_of_its_run_is_named(whole: Whole, tmp_path: Path) -> None:
    copy = start(whole.folder, RUN, tmp_path / "x")
    (scores,) = (copy / RUN).glob("tables/induction-scores-00000006-*.parquet")
    (untrained,) = (copy / RUN).glob("tables/induction-scores-00000000-*.parquet")
    expected = md.induction_scores(load(copy / RUN), "last")
    shutil.copy(untrained, scores)
    with pytest.warns(UserWarning, match=f"computing anew: {scores}: is induction-scores-00000000"):
        assert same(md.induction_scores(load(copy / RUN), "last"), expected)


def test_a_published_run_is_bound_as_well(whole: Whole, tmp_path: Path) -> None:
    ours, theirs = (md.publish(load(whole.folder / name / "twins" / RUN), tmp_path / name) for name in ("x", "other"))
    for file in ("metrics.parquet", "targets.parquet", "checkpoints/step-00000006.safetensors", "status.json"):
        original = (ours / file).read_bytes()
        shutil.copy(theirs / file, ours / file)
        acts = (lambda: load(ours).metrics(), lambda: load(ours).targets(), lambda: load(ours).model("last"))
        lines = [line for act in acts for line in said(act)[1]]
        assert lines
        assert all(f"{ours / file}: belongs to another run" in line for line in lines)
        (ours / file).write_bytes(original)
    assert load(ours).model("last") is not None


def test_the_log_is_on_the_disk_before_the_state_that_relies_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, synced = os.fsync, list[str]()

    def noted(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        real(fd)

    monkeypatch.setattr(os, "fsync", noted)
    train(micro(training=TINY, teachers=only(), arms=only(spt={})), tmp_path / "x")
    states = [i for i, name in enumerate(synced) if name.startswith(".state.safetensors")]
    assert states
    assert {synced[i - 1] for i in states} == {"metrics.jsonl"}


def older(path: Path) -> None:
    """Make an experiment what it was before its files named their runs."""
    for run in [config.parent for config in path.rglob("config.yaml")]:
        (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("version: 3", "version: 2"))
        for file in ("status.json", "provenance.json"):
            record = json.loads((run / file).read_text())
            (run / file).write_text(json.dumps({key: record[key] for key in record if key != "binding"}))
        for file in run.rglob("*.safetensors"):
            tensors, metadata = load_weights(file)
            kept = {key: text for key, text in metadata.items() if key not in ("of", "files", "log")}
            file.write_bytes(safetensors.torch.save(tensors, kept))
        lines = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
        rows = [{key: row[key] for key in row if key != "seal"} for row in lines]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for file in run.rglob("*.parquet"):
            write_table(file, pd.read_parquet(file))


@pytest.mark.parametrize("name", [RUN, BRANCH, TRUNK])
def test_what_was_written_before_files_named_their_runs_is_read_and_goes_on(
    whole: Whole, tmp_path: Path, name: str
) -> None:
    copy = start(whole.folder, name, tmp_path / "x")
    older(copy)
    for what, act in readers(copy, copy / name).items():
        if what in whole.expected[name] and what not in COSTLY | MEASURES:
            assert same(act(), whole.expected[name][what]), what
    other = whole.folder / "other" / ("twins" if name == RUN else "trunk") / name
    checkpoint = "checkpoints/step-00000004.safetensors"
    shutil.copy(other / checkpoint, copy / name / checkpoint)
    with pytest.raises(MechdistillError, match="belongs to another run"):
        load(copy / name).model(4)
    shutil.copy(copy / ("spt" if name == RUN else "stem") / "seed-1/metrics.parquet", copy / name)
    with pytest.raises(MechdistillError, match=f"metrics.parquet: (is not about {name}|belongs to another)"):
        load(copy / name).metrics()
