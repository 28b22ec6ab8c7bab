"""What a user defines - in a notebook, or in a file named by --plugin - is a citizen like a built-in entry."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import mechdistill as md
from mechdistill import plugins
from mechdistill.circuits import ABLATIONS, SCORES, HeadView, head_scores, probes
from mechdistill.cli.summaries import summary
from mechdistill.errors import MechdistillError
from mechdistill.plots import figure
from mechdistill.registry import Registry
from mechdistill.runs import Experiment, Run, load
from mechdistill.tables import ABLATE, INDUCTION_SCORES, MEASURES, METRICS, Column
from tests.helpers import copied, transformer, world

pytestmark = pytest.mark.usefixtures("own_definitions")


@pytest.fixture
def run(trained: Experiment, tmp_path: Path) -> Run:
    opened = load(copied(trained.path, tmp_path / "copy") / "spt/seed-0")
    assert isinstance(opened, Run)
    return opened


def first_token(probe: Any) -> torch.Tensor:
    """Attention to the first position: a sink. Chance 1/(q+1)."""
    sources = torch.zeros(*probe.tokens.shape, probe.tokens.shape[1], dtype=torch.bool)
    sources[:, 1:, 0] = True
    return sources


def values(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    rows = table[table["metric"] == metric]
    assert len(rows)
    return rows


def drawn(table: pd.DataFrame, metric: str) -> Any:
    """The visible heat map of a score, chosen in the menu."""
    picture = figure(INDUCTION_SCORES, table)
    menu = next(b for b in picture.layout.updatemenus[0].buttons if b.label == metric)
    at, _numbers = [i for i, visible in enumerate(menu.args[0]["visible"]) if visible]
    return picture.data[at]


def shown(measure: Any, table: pd.DataFrame) -> str:
    from rich.console import Console

    console = Console(width=300, file=None, record=True)
    with console.capture() as capture:
        for part in summary(measure, table):
            console.print(part)
    return capture.get()


def test_a_score_of_a_notebook_is_in_table_figure_and_summary(run: Run) -> None:
    before = md.induction_scores(run)
    md.attention_score(on="natural")(first_token)
    table = md.induction_scores(run)
    mine = values(table, "first-token")
    patterns = HeadView(run.model()).patterns(run.sandbox.evaluation(64).tokens)
    for row in mine.to_dict("records"):
        by_hand = patterns[row["layer"]][:, row["head"], 1:, 0].mean(dim=1).mean().item()
        assert row["value"] == pytest.approx(by_hand, rel=1e-5)
        assert row["chance"] == pytest.approx(sum(1 / (q + 1) for q in range(1, 16)) / 15, rel=1e-5)
    assert mine["untrained"].notna().all()
    rest = table[table["metric"] != "first-token"].reset_index(drop=True)
    pd.testing.assert_frame_equal(rest, before)
    assert drawn(table, "first-token").z[0][1] == mine.iloc[1]["value"]
    assert "first-token" in shown(INDUCTION_SCORES, table)


def test_what_a_notebook_defines_is_never_cached(run: Run) -> None:
    md.head_score(low=-1.0)(lambda_named("sign", lambda view, probes: torch.full((2, 2), 0.5)))
    assert values(md.induction_scores(run), "sign")["value"].tolist() == [0.5] * 4
    md.head_score(low=-1.0)(lambda_named("sign", lambda view, probes: torch.full((2, 2), -0.5)))
    assert values(md.induction_scores(run), "sign")["value"].tolist() == [-0.5] * 4
    assert not list((run.path / "tables").glob("induction-scores-*"))
    md.row_curves(run, "last")  # has no heads to score
    assert len(list((run.path / "tables").glob("row-curves-*"))) == 1


def lambda_named(name: str, function: Any) -> Any:
    function.__name__ = name
    return function


def test_a_signed_score_is_drawn_over_its_range_palest_at_zero(run: Run) -> None:
    md.head_score(low=-1.0)(lambda_named("sign", lambda view, probes: torch.tensor([[-0.85, 0.2], [1.0, 0.0]])))
    heat = drawn(md.induction_scores(run), "sign")
    assert (heat.zmin, heat.zmax) == (-1, 1)
    brightness = {at: sum(bytes.fromhex(colour[1:])) for at, colour in heat.colorscale}
    assert max(brightness, key=lambda at: brightness[at]) == 0.5
    assert heat.z.tolist() == [pytest.approx([-0.85, 0.2]), pytest.approx([1.0, 0.0])]


def test_a_score_of_head_pairs_keeps_every_pair(run: Run) -> None:
    @md.head_score(label="K-composition")
    def unfolded_composition(view: HeadView, probes: Any) -> torch.Tensor:
        values = torch.full((view.n_layers, view.n_heads, view.n_layers, view.n_heads), torch.nan)
        for head in range(view.n_heads):
            for source in range(view.n_heads):
                ov = view.W_V[0, source] @ view.W_O[0, source]
                qk = view.W_Q[1, head] @ view.W_K[1, head].T
                values[1, head, 0, source] = (ov @ qk.T).norm() / (ov.norm() * qk.norm())
        return values

    table = md.induction_scores(run, "all")
    pairs = values(table[table["step"] == 24], "unfolded-composition")
    assert len(pairs) == 4
    assert set(zip(pairs["source_layer"], pairs["source_head"], strict=True)) == {(0, 0), (0, 1)}
    model = run.model()
    ov = model.W_V[0, 1] @ model.W_O[0, 1]
    qk = model.W_Q[1, 0] @ model.W_K[1, 0].T
    expected = float((ov @ qk.T).norm() / (ov.norm() * qk.norm()))
    at = pairs[(pairs["head"] == 0) & (pairs["source_head"] == 1)]
    assert at["value"].item() == pytest.approx(expected, rel=1e-5)
    assert at["untrained"].notna().all()
    heat = drawn(table, "unfolded-composition")
    assert list(heat.x) == ["from L0H0", "from L0H1"]
    assert list(heat.y) == ["L1H0", "L1H1"]
    assert heat.z[0][1] == at["value"].item()
    text = shown(INDUCTION_SCORES, table)
    assert "unfolded-composition" in text
    assert "L0H1" in text


def test_our_heads_and_a_bridges_score_alike() -> None:
    sandbox = world(vocab=24, seq_len=32)
    model = transformer(d_vocab=24, n_ctx=32, n_heads=4, n_kv_heads=2, attn_only=False)
    bridge = md.to_transformer_lens(model)

    @md.head_score()
    def size(view: HeadView, probes: Any) -> torch.Tensor:
        return torch.stack([w.flatten(2).norm(dim=-1) for w in (view.W_Q, view.W_K, view.W_V, view.W_O)]).sum(0)

    ours, theirs = (head_scores(m, sandbox, torch.Generator().manual_seed(0), sequences=8) for m in (model, bridge))
    assert "size" in set(ours["metric"])
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-4, atol=1e-6)


def test_an_ablation_is_measured_drawn_and_tabulated(run: Run) -> None:
    @md.ablation(label="in another order")
    def shuffled(z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z[:, torch.randperm(z.shape[1], generator=generator)]

    table = md.ablate(run)
    assert set(table["ablation"]) == {"mean", "zero", "resample", "shuffled"}
    mine = table[(table["ablation"] == "shuffled") & (table["what"] == "head")]
    for mode in ("full", "pattern-preserving"):
        assert len(values(mine[mine["mode"] == mode], "copy-loss-delta")) == 4
    picture = figure(ABLATE, table)
    assert {"mean ablation", "zero ablation", "in another order"} <= {trace.name for trace in picture.data}
    colours = {str(trace.marker.color) for trace in picture.data if trace.type == "bar"}
    assert len(colours) == 4
    assert "in another order" in shown(ABLATE, table)


@pytest.mark.parametrize(
    ("instead", "said"),
    [
        (lambda z: z * float("nan"), "gave values that are not finite"),
        (lambda z: z.double(), "gave torch.float64; must be that of z, torch.float32"),
        (lambda z: z[:, 1:], "must be the shape of z"),
    ],
)
def test_an_ablation_that_gives_no_outputs_of_heads_is_named(
    run: Run, instead: Callable[[torch.Tensor], torch.Tensor], said: str
) -> None:
    @md.ablation()
    def broken(z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return instead(z)

    with pytest.raises(md.MechdistillError, match=f"ablation 'broken': .*{said}"):
        md.ablate(run)


def test_a_measure_is_a_function_a_figure_and_a_table(run: Run) -> None:
    share = md.metric("share", "share of heads", low=0, high=1)

    @md.measure("How many?", columns=[Column("layer", "Int64", "layer")], needs=["heads"], settings={"at": 0.5})
    def busy_heads(subject: Any) -> pd.DataFrame:
        scores = subject.table(INDUCTION_SCORES)
        return pd.DataFrame(
            [share.row(float((part["value"] > 0.5).mean()), layer=i) for i, part in scores.groupby("layer")]
        )

    assert "busy_heads" in dir(md)
    table = md.busy_heads(run, "all")
    assert list(table.columns) == ["run", "arm", "seed", "step", "tokens", "metric", "value", "layer"]
    assert set(table["step"]) == set(run.steps)
    for one in (table, md.busy_heads(run)):
        picture = figure(MEASURES["busy-heads"], one)
        assert picture.layout.annotations[0].text == "share of heads"
    assert "share" in shown(MEASURES["busy-heads"], table)
    assert METRICS["share"] is share


FILE = """
import mechdistill as md
import torch

@md.head_score()
def flat(view, probes):
    return torch.full((view.n_layers, view.n_heads), {value})
"""


def test_a_file_is_cached_by_its_digest(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(FILE.format(value=0.25))
    plain = md.induction_scores(run)
    md.plugin(file)
    assert values(md.induction_scores(run), "flat")["value"].tolist() == [0.25] * 4
    tables = set((run.path / "tables").glob("induction-scores-00000024-*"))
    assert len(tables) == 2, "the plain table stays beside it"
    assert md.plugin(file) is md.plugin(file)
    file.write_text(FILE.format(value=0.75))
    md.plugin(file)
    assert values(md.induction_scores(run), "flat")["value"].tolist() == [0.75] * 4, "a stale table"
    SCORES.drop(str(file.resolve()))
    pd.testing.assert_frame_equal(md.induction_scores(run), plain)


def test_a_file_that_a_plugin_imports_counts_too(run: Run, tmp_path: Path) -> None:
    (tmp_path / "constants_of_mine.py").write_text("VALUE = 0.25\n")
    file = tmp_path / "mine.py"
    file.write_text("from constants_of_mine import VALUE\n" + FILE.format(value="VALUE"))
    md.plugin(file)
    assert values(md.induction_scores(run), "flat")["value"].tolist() == [0.25] * 4
    (tmp_path / "constants_of_mine.py").write_text("VALUE = 0.5  # mended\n")
    md.plugin(file)
    assert values(md.induction_scores(run), "flat")["value"].tolist() == [0.5] * 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@md.attention_score(on='natural')\ndef induction(probe): ...", "head score 'induction': mechdistill has one"),
        ("@md.head_score()\ndef Mine(view, probes): ...", "a name is made of lower-case letters"),
        ("@md.ablation()\ndef zero(z, generator): ...", "ablation 'zero': mechdistill has one"),
        ("@md.measure('?')\ndef ablate(subject): ...", "measure 'ablate': mechdistill has one"),
        ("@md.measure('')\ndef mine(subject): ...", "question: must say what it answers"),
        ("md.metric('loss')", "metric 'loss': mechdistill has one"),
        ("1 / 0", "line 3: ZeroDivisionError"),
        ("def x(:", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit"),
    ],
)
def test_a_duplicate_or_malformed_definition_is_one_line_and_leaves_nothing(
    tmp_path: Path, text: str, message: str
) -> None:
    before = [registry.state() for registry in Registry.every]
    file = tmp_path / "mine.py"
    file.write_text(f"import mechdistill as md\nmd.metric('fine', 'fine')\n{text}\n")
    with pytest.raises(MechdistillError) as caught:
        md.plugin(file)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"plugin {file}")
    assert len(str(caught.value).splitlines()) == 1
    assert [registry.state() for registry in Registry.every] == before


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MechdistillError, match="no such file"):
        md.plugin(tmp_path / "nowhere.py")


def test_what_a_definition_gives_is_checked(run: Run) -> None:
    view, seen = HeadView(run.model()), probes(run.world, 4, 16, torch.Generator())
    for wrong in (torch.zeros(3), 1.0, None, torch.zeros(2, 2, 2)):
        score = md.head_score()(lambda_named("wrong", lambda v, p, wrong=wrong: wrong))
        with pytest.raises(MechdistillError, match=r"head score 'wrong': gave .*; must be a tensor"):
            score.of(view, seen)
    SCORES.drop("this session")
    md.ablation()(lambda_named("cut", lambda z, generator: z[:1]))
    with pytest.raises(MechdistillError, match="ablation 'cut': gave"):
        md.ablate(run)
    ABLATIONS.drop("this session")
    md.measure("What?")(lambda_named("odd", lambda subject: [1]))
    with pytest.raises(MechdistillError, match="measure 'odd': gave list"):
        md.odd(run)
    md.measure("What?")(lambda_named("odd", lambda subject: pd.DataFrame({"metric": ["a"], "value": [1.0], "x": [1]})))
    with pytest.raises(MechdistillError, match=r"gave columns \['x'\]"):
        md.odd(run)


def test_two_files_cannot_define_the_same(tmp_path: Path) -> None:
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text(FILE.format(value=1))
    md.plugin(tmp_path / "one.py")
    with pytest.raises(MechdistillError, match=r"head score 'flat': .*one.py has one of that name already"):
        md.plugin(tmp_path / "two.py")


def test_a_users_measure_depends_on_all_that_users_defined(run: Run, tmp_path: Path) -> None:
    """It may ask for scores without saying so, and its cached table must not outlive them."""
    (tmp_path / "scores.py").write_text(FILE.format(value=0.25))
    (tmp_path / "measures.py").write_text(
        "import mechdistill as md\nimport pandas as pd\nfrom mechdistill.tables import INDUCTION_SCORES\n"
        "total = md.metric('total')\n"
        "@md.measure('How much?')\n"
        "def flatness(subject):\n"
        "    t = subject.table(INDUCTION_SCORES)\n"
        "    return pd.DataFrame([total.row(float(t[t['metric'] == 'flat']['value'].sum()))])\n"
    )
    md.plugin(tmp_path / "scores.py")
    md.plugin(tmp_path / "measures.py")
    assert md.flatness(run)["value"].tolist() == [1.0]
    (tmp_path / "scores.py").write_text(FILE.format(value=0.5))
    md.plugin(tmp_path / "scores.py")
    assert md.flatness(run)["value"].tolist() == [2.0]


def test_help_says_what_a_measure_answers() -> None:
    text = md.row_curves.__doc__
    assert text.startswith(MEASURES["row-curves"].question)
    assert "row_entropy: entropy of that row, nats" in text


def test_a_plugin_beside_everything_in_a_fresh_process(run: Run, tmp_path: Path) -> None:
    """In the folder where the user stands, before torch has been imported, as the README has it."""
    (tmp_path / "mine.py").write_text(FILE.format(value=0.25))
    code = "import mechdistill as md; md.plugin('mine.py'); print(sorted(md.plugin('mine.py').__dict__)[-1])"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_helpers_of_one_name_in_two_folders_are_never_mixed_up(run: Run, tmp_path: Path) -> None:
    for folder, value in (("a", 0.25), ("b", 0.75)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "helper_of_two.py").write_text(f"VALUE = {value}\n")
        text = "from helper_of_two import VALUE\n" + FILE.format(value="VALUE").replace("flat", f"flat_{folder}")
        (tmp_path / folder / "same.py").write_text(text)
    md.plugin(tmp_path / "a/same.py")
    with pytest.raises(MechdistillError, match=r"imports helper_of_two, which is .*a/helper_of_two.py already"):
        md.plugin(tmp_path / "b/same.py")
    assert values(md.induction_scores(run), "flat-a")["value"].tolist() == [0.25] * 4
    assert "flat-b" not in SCORES


def test_a_helper_counts_whoever_imported_it_first_and_wherever(run: Run, tmp_path: Path) -> None:
    (tmp_path / "common_of_two.py").write_text("VALUE = 0.25\n")
    (tmp_path / "one.py").write_text("import common_of_two\n")
    late = FILE.replace("    return", "    from common_of_two import VALUE\n    return").format(value="VALUE")
    (tmp_path / "two.py").write_text(late)
    md.plugin(tmp_path / "one.py")
    md.plugin(tmp_path / "two.py")
    assert values(md.induction_scores(run), "flat")["value"].tolist() == [0.25] * 4
    (tmp_path / "common_of_two.py").write_text("VALUE = 0.5  # mended\n")
    md.plugin(tmp_path / "two.py")
    assert values(md.induction_scores(run), "flat")["value"].tolist() == [0.5] * 4


def test_a_plugin_that_loads_another_keeps_its_own_origin(tmp_path: Path) -> None:
    (tmp_path / "inner.py").write_text(FILE.format(value=1))
    outer = f"import mechdistill as md\nmd.plugin({str(tmp_path / 'inner.py')!r})\nmd.metric('after')\n"
    (tmp_path / "outer.py").write_text(outer)
    md.plugin(tmp_path / "outer.py")
    assert METRICS.origin("after").where == str((tmp_path / "outer.py").resolve())
    assert METRICS.origin("after").digest


def test_sql_shows_what_a_plugin_measured_with_it_and_only_then(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(FILE.format(value=0.25))
    ask = "SELECT count(*) AS n FROM induction_scores WHERE metric = 'flat' AND step = 24"
    md.plugin(file)
    md.induction_scores(run)
    assert md.sql(ask, run.path)["n"].item() == 4
    SCORES.drop(str(file.resolve()))
    with pytest.warns(UserWarning, match="depend on head score flat; name its file by --plugin"):
        assert md.sql(ask, run.path)["n"].item() == 0
    without = md.induction_scores(run)
    assert md.sql("SELECT count(*) AS n FROM induction_scores WHERE step = 24", run.path)["n"].item() == len(without)
    assert md.sql(ask, run.path)["n"].item() == 0
    plugins._loaded.clear()
    md.plugin(file)
    assert md.sql(ask, run.path)["n"].item() == 4


def test_what_a_definition_raises_names_it(run: Run) -> None:
    md.head_score()(lambda_named("broken", lambda view, probes: 1 / 0))
    with pytest.raises(MechdistillError, match=r"head score 'broken' .this session.: ZeroDivisionError"):
        md.induction_scores(run)


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (lambda: md.measure(lambda subject: None), "^md.measure: question=.*: must be a string"),
        (lambda: md.measure("?", columns=["layer"])(named("m")), "columns.0=.*an instance of Column"),
        (lambda: md.measure("?", checkpoint="first")(named("m")), "checkpoint='first': must be 'last' or 'all'"),
        (lambda: md.measure("?", needs=["luck"])(named("m")), "needs.*must be"),
        (lambda: md.measure("?")(named("train")), "name: is another command's"),
        (lambda: md.measure("?")(named("load")), "name: is another command's"),
        (lambda: md.attention_score(on="x")(named("a")), "on='x': must be 'repeated' or 'natural'"),
        (lambda: md.ablation()("x"), "must be a function"),
        (lambda: md.head_score(low=1.0, high=0.0)(named("s")), "low=1.0 must be below high=0.0"),
        (lambda: md.metric("m", better="sideways"), "better='sideways': must be 'higher', 'lower' or ''"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_defined(define: Any, message: str) -> None:
    before = [registry.state() for registry in Registry.every]
    with pytest.raises(MechdistillError, match=message):
        define()
    assert [registry.state() for registry in Registry.every] == before


def named(name: str) -> Any:
    return lambda_named(name, lambda *arguments: None)


def test_no_measure_takes_a_name_that_is_ours() -> None:
    from mechdistill.cli._app import app
    from mechdistill.tables._measures import RESERVED

    commands = {command.name for command in app().registered_commands} | {"runs"}
    functions = {name.replace("_", "-") for name in md.__all__ if name[0].islower()}
    assert (commands | functions) - set(MEASURES) <= RESERVED
