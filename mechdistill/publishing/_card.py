"""The model card of a published folder: a README.md in the style of the Hugging Face Hub, written from the data."""

import re
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, Literal

import pandas as pd

from mechdistill.config import CorpusRows, RunConfig
from mechdistill.errors import visible
from mechdistill.runs import Experiment, Run, network, teachers, treatment, world
from mechdistill.tables import headline

_PLAIN = re.compile(r"(?!.*(://|www\.))[A-Za-z0-9 .,:+()/-]*")

Format = Literal["native", "transformers"]

_LOAD_RUN = """\
import mechdistill as md
run = md.load("{folder}")
model = run.model("last")  # run_with_cache, run_with_hooks; run.metrics() is the table above, at every step
"""
_LOAD_EXPERIMENT = """\
import mechdistill as md
experiment = md.load("{folder}")
model = experiment.run("{run}").model("last")  # run_with_cache, run_with_hooks
"""

_OPEN = """\
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained("{folder}")
tokenizer = AutoTokenizer.from_pretrained("{folder}")
"""
_BRIDGE = """\
from transformer_lens.model_bridge import TransformerBridge
bridge = TransformerBridge.boot_transformers("{folder}", device="cpu")  # run_with_cache, attribution, patching
"""
_LIBRARY = {"native": "mechdistill", "transformers": "transformers"}
_USE = {
    "native": "`pip install mechdistill`; every checkpoint is a safetensors file with a checksum, nothing here is "
    "executed.",
    "transformers": "`pip install transformers`, and `transformer-lens` for the bridge. Weights are safetensors, and "
    "nothing here is executed. The tokenizer knows the symbols of the world and nothing else: other text becomes an id "
    "beyond the vocabulary, which the model refuses. It puts no token before a text; where a tool would, say so "
    "(`prepend_bos=False` in TransformerLens).",
}


def card(
    source: Run | Experiment,
    runs: list[Run],
    configs: list[RunConfig],
    provenance: Mapping[str, Any],
    license: str | None,
    format: Format,
    every: bool,
) -> str:
    """The text of README.md for the `runs` of `source`; `configs` and `provenance` are as they are published.

    `every` says whether all checkpoints go along.
    """
    title = runs[0].config.experiment + (f": {runs[0].name}" if isinstance(source, Run) else "")
    parts = [
        _front_matter(configs, license, format),
        f"# {title}",
        _what(source, runs, format, every),
        "## World",
        _by_arm(configs, lambda config: world(config.sandbox).replace("<", "\\<").replace("`", "'")),
        *(_corpus(configs) if format == "native" else []),
        "## Model",
        _by_arm(configs, lambda config: network(config.model)),
        "## Treatment",
        _by_arm(configs, treatment),
        *_teachers(runs, configs),
        "## Results",
        _results(source, runs),
        "## Use",
        f"```python\n{_load(source, runs, format)}```",
        _USE[format],
        "## Provenance",
        _versions(provenance),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(configs: list[RunConfig], license: str | None, format: Format) -> str:
    tags = ["mechanistic-interpretability", "induction-heads", "synthetic-data"]
    if any(config.objective.distils for config in configs):
        tags.append("knowledge-distillation")
    lines = ["---", f"library_name: {_LIBRARY[format]}", *([f"license: {license}"] if license else []), "tags:"]
    return "\n".join([*lines, *(f"- {tag}" for tag in tags), "---"])


def _what(source: Run | Experiment, runs: list[Run], format: Format, every: bool) -> str:
    if isinstance(source, Run):
        config = source.config
        kind = "the training of a teacher" if config.is_teacher else "one student"
        return (
            f"A small language model trained with mechdistill in a synthetic world: {kind}, arm "
            f"`{config.treatment}`, seed {config.seed}. {_where(source, format, every)}"
        )
    arms = ", ".join(f"`{arm}`" for arm in dict.fromkeys(run.config.treatment for run in runs))
    seeds = ", ".join(map(str, sorted({run.config.seed for run in runs})))
    return (
        f"Matched twins trained with mechdistill in a synthetic world: {len(runs)} runs, arms {arms}, seeds {seeds}. "
        "Students of one seed share initial weights and batches and differ in their treatment only."
        + (f" {_where(source, format, every)}" if format == "transformers" else "")
    )


def _where(source: Run | Experiment, format: Format, every: bool) -> str:
    """Where its checkpoints lie."""
    if format == "native":
        return "Its checkpoints lie under `checkpoints/`, one file a step."
    is_run = isinstance(source, Run)
    last = "The last checkpoint lies at the root" if is_run else "Each run's last checkpoint lies in its folder"
    if not every:
        return f"{last}."
    steps = ", ".join(map(str, (source if isinstance(source, Run) else source.runs[0]).steps[:3]))
    return f"{last}, and each one in a subfolder `step-N` there ({steps}, ...): `subfolder=` of `from_pretrained`."


def _by_arm(configs: list[RunConfig], describe: Callable[[RunConfig], str]) -> str:
    """What all arms share, or a line an arm."""
    texts = {config.treatment: describe(config) for config in configs}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "\n".join(f"- `{arm}`: {text}" for arm, text in texts.items())


def _corpus(configs: list[RunConfig]) -> list[str]:
    texts = {(c.sandbox.rows.path, c.sandbox.rows.sha256) for c in configs if isinstance(c.sandbox.rows, CorpusRows)}
    return [
        f"The rows come from a text that is not part of this folder: put {_code(path)} (SHA-256 {_code(sha256)}) where "
        "you load."
        for path, sha256 in sorted((path, str(sha256)) for path, sha256 in texts)
    ]


def _teachers(runs: list[Run], configs: list[RunConfig]) -> list[str]:
    """Definitions of the teachers, and what the metrics say of their quality."""
    defined = {name: text for config in configs for name, text in teachers(config).items()}
    if not defined:
        return []
    parts = ["## Teachers", "\n".join(f"- `{name}`: {text}" for name, text in defined.items())]
    quality = pd.concat([_quality(run) for run in runs])
    return [*parts, "As measured along the student's run:", _metric_table(quality, ["run"])] if len(quality) else parts


def _quality(run: Run) -> pd.DataFrame:
    """The run's teacher-* metrics, each as last measured."""
    metrics = run.metrics()
    rows = metrics[metrics["metric"].str.startswith("teacher-")]
    return rows[rows["step"] == rows.groupby("metric")["step"].transform("max")]


def _results(source: Run | Experiment, runs: list[Run]) -> str:
    if isinstance(source, Run):
        metrics = source.metrics()
        last = metrics[metrics["step"] == metrics["step"].max()]
        return f"After step {source.status['step']}; losses and KL in nats.\n\n{_metric_table(last, [])}"
    rows = [{"run": run.name, "tokens": run.status["tokens"], **headline(run.metrics())} for run in runs]
    note = (
        "Held-out sequences at each run's last evaluation: copy accuracy at later occurrences of a trigger, what a "
        "guesser without any matching reaches there, loss beyond the oracle's there, and KL to the oracle elsewhere "
        "(nats)."
    )
    return f"{note}\n\n{_markdown(pd.DataFrame(rows))}"


def _metric_table(metrics: pd.DataFrame, front: list[str]) -> str:
    return _markdown(metrics[[*front, "metric", "occurrence", "bucket", "value"]])


def _markdown(table: pd.DataFrame) -> str:
    rows = [list(table.columns), ["---"] * len(table.columns)]
    rows += [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else _literal(value).replace("|", "\\|")


def _literal(value: Any) -> str:
    """Text of a file of the run, which may be anybody's, so that a reader of the card sees it and nothing obeys it."""
    text = visible(str(value))
    return text if _PLAIN.fullmatch(text) else _code(text)


def _code(text: str) -> str:
    """A code span, in which neither markup nor an address means anything."""
    return f"`{visible(text).replace('`', chr(39))}`"


def _load(source: Run | Experiment, runs: list[Run], format: Format) -> str:
    if format == "transformers":
        folder = "this-folder" if isinstance(source, Run) else f"this-folder/{runs[0].config.path.as_posix()}"
        return (_OPEN + _BRIDGE).format(folder=folder)
    if isinstance(source, Run):
        return _LOAD_RUN.format(folder="this-folder")
    return _LOAD_EXPERIMENT.format(folder="this-folder", run=runs[0].name)


def _versions(provenance: Mapping[str, Any]) -> str:
    packages = provenance.get("packages", {})
    named = {"mechdistill": provenance.get("conditions", {}).get("mechdistill"), "python": provenance.get("python")}
    lines = [f"- {_literal(name)} {_literal(version)}" for name, version in {**named, **packages}.items() if version]
    for key in ("created", "revision"):
        lines += [f"- {key}: {_literal(provenance[key])}"] if key in provenance else []
    for plugin in provenance.get("plugins", []):
        lines.append(f"- plug-in {_literal(plugin['file'])} (SHA-256 {_literal(plugin['sha256'])})")
    return "\n".join([*lines, f"- published with mechdistill {metadata.version('mechdistill')}"])
