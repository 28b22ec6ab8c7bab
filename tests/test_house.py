"""The house itself: no circle, nothing named by a bare string outside its registry, every entry says what it is."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import grimp
import networkx as nx
import pytest

import mechdistill
from mechdistill.circuits import ABLATIONS, SCORES
from mechdistill.registry import Registry
from mechdistill.tables import MEASURES, METRICS, OUTCOMES, Measure, resolve

ROOT = Path(mechdistill.__file__).parent

# where a registry's entries are at home, and may be spelled
HOMES = {
    "metric": {"tables/metrics.py"},
    "check": {"tables/checks.py"},
    "outcome": {"tables/metrics.py"},
    "measure": {"tables/_measures.py"},
    "head score": {"circuits/scores/_definitions.py"},
    "ablation": {"circuits/ablation/_kinds.py"},
    "teacher": {"config/teachers.py", "config/_trained.py"},
    "divergence": {"config/_divergences.py"},
    "routing signal": {"config/_routing.py"},
}
# words that are also something else there
HOMOGRAPHS = {
    "analysis/_apply.py": {"oracle": "a need"},
    "analysis/_prompt.py": {"kl": "a column of a prompt's table"},
    "circuits/_probes.py": {"oracle": "a need"},
    "circuits/ablation/_targets.py": {"previous-token": "one half of the circuit"},
    "config/_clamp.py": {"previous-token": "a pattern", "induction": "a pattern", "duplicate-token": "a pattern"},
    "config/_divergences.py": {"floor": "a key of a divergence"},
    "config/_experiment.py": {"lr": "a key of training"},
    "config/_model.py": {"bigram": "a kind of model"},
    "config/_objective.py": {"temperature": "a key of an arm"},
    "config/_sandbox.py": {"count": "a key of triggers", "uniform": "a law of targets"},
    "model/_language_model.py": {"loss": "a return type, as in TransformerLens"},
    "objective/_objective.py": {"floor": "a key of a divergence"},
    "plots/_figures.py": {"circuits": "the name of a figure", "copying": "the name of a figure"},
    "plots/_lanes.py": {"mean": "pandas' word"},
    "positions.py": {"loss": "an attribute", "kl": "an attribute", "oracle": "a need"},
    "report/_glossary.py": {"copying": "a word that is explained", "oracle": "a word that is explained"},
    "runs/_words.py": {"temperature": "a key of an arm"},
    "sandbox/_chain.py": {"oracle": "a need"},
    "tables/_columns.py": {"temperature": "a column"},
    "tables/_measures.py": {"oracle": "a need", "pass-at-k": "a measure, and its metric"},
    "tables/metrics.py": {"pass-at-k": "a metric, and its measure"},
    "teachers/_drawn.py": {"mean": "what ties come to", "random": "what they are"},
    "training/_cost.py": {"lr": "a key of training"},
    "training/_trainer.py": {"lr": "an optimiser's key"},
    "world/_batch.py": {"oracle": "what a world may lack"},
}


def strings(path: Path) -> Iterator[str]:
    """String constants of a file that are neither docstrings nor a list of public names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            skipped |= {id(part) for part in ast.walk(node.value)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.value


def registries() -> dict[str, Registry[object]]:
    return {registry.kind: registry for registry in Registry.every}


def test_nothing_is_named_by_a_bare_string_outside_its_registry() -> None:
    assert set(HOMES) <= set(registries())
    spelled: list[str] = []
    met: dict[str, set[str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        for text in strings(path):
            kinds = [kind for kind in HOMES if text in registries()[kind] and file not in HOMES[kind]]
            if kinds and text in HOMOGRAPHS.get(file, {}):
                met.setdefault(file, set()).add(text)
            elif kinds:
                spelled.append(f"{file}: {text!r} is a {kinds[0]}")
    assert spelled == []
    assert met == {file: set(words) for file, words in HOMOGRAPHS.items()}, "an exception that nobody needs"


def test_no_file_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("mechdistill", cache_dir=None)
    edges = nx.DiGraph((a, b) for a in graph.modules for b in graph.find_modules_directly_imported_by(a))
    assert len(edges) > 100
    assert [sorted(circle) for circle in nx.strongly_connected_components(edges) if len(circle) > 1] == []


@pytest.mark.parametrize("measure", MEASURES.values(), ids=lambda measure: measure.name)
def test_every_measure_names_functions_of_the_right_rooms(measure: Measure) -> None:
    """The entry spells them, so that nothing is imported early: then no import checker can see them."""
    for function, rooms in (
        (measure.compute, ("evals", "circuits")),
        (measure.finish, ("evals", "circuits")),
        (measure.figure, ("plots",)),
        (measure.summary, ("cli",)),
    ):
        if function is not None:
            assert isinstance(function, str)
            assert function.split(":")[0].split(".")[1] in rooms
            assert inspect.getdoc(resolve(function))
    assert measure.question.endswith((".", "?"))


def test_every_entry_says_what_it_is() -> None:
    for metric in (*METRICS.values(), *SCORES.values()):
        assert metric.label
        assert metric.low < metric.high
    for score in SCORES.values():
        for word in ("Range", "chance", "Null", "Source"):
            assert word in score.doc, f"{score.name} does not give its {word}"
    for ablation in ABLATIONS.values():
        assert "ource" in ablation.doc, f"{ablation.name} names no source"
    for outcome in OUTCOMES.values():
        assert METRICS[outcome.metric.name] is outcome.metric
