"""The page in a real browser without any network, against PyTorch and the sandbox's own oracle."""

import gzip
import html
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import mechdistill as md
from mechdistill.circuits import ABLATIONS, ablated, clean_outputs, replaced
from mechdistill.circuits._heads import Head
from mechdistill.config import ModelConfig, RunConfig, SandboxConfig
from mechdistill.errors import MechdistillError
from mechdistill.model import Transformer, build
from mechdistill.positions import EvaluationSet
from mechdistill.report import Exploration, Payload, asset, explore, explorer, page
from mechdistill.report._choice import budget_of, choose, far_apart
from mechdistill.report._weights import SEQUENCES, encoded, packed_bytes, shape
from mechdistill.runs import Experiment, Run
from mechdistill.sandbox import Sandbox
from tests.helpers import copied, induction_network, transformer, world
from tests.model.options import COVER, MLPS, grid, label

READY = "!!(window.mechdistill && mechdistill.drawn() > 0 && mechdistill.settled())"


class Opened:
    """A file in a browser that may reach nothing else; all it complains of or asks for is noted."""

    def __init__(self, browser: Any, path: Path, *, fragment: str = "", ready: str = READY, width: int = 1280):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        own = path.as_uri()
        self.page.on("request", lambda r: self._saw(r.url, own))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda m: self.problems.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("dialog", lambda dialog: (self.problems.append("a dialog"), dialog.dismiss()))
        self.page.goto(own + fragment)
        self.until(ready)

    def _saw(self, url: str, own: str) -> None:
        if url.split("#")[0] != own:
            self.problems.append(f"asked for {url}")

    def until(self, expression: str, seconds: float = 20.0) -> None:
        """Playwright's own waiting needs eval, which the page forbids."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, (expression, self.problems)
            self.page.wait_for_timeout(5)

    def after(self, act: Any) -> None:
        """Do something and wait until it has been drawn."""
        before = self.page.evaluate("mechdistill.drawn()")
        act()
        self.until(f"mechdistill.drawn() > {before} && mechdistill.settled()")

    def state(self) -> dict[str, Any]:
        return self.page.evaluate("mechdistill.state()")

    def close(self) -> None:
        self.context.close()
        assert self.problems == []


@pytest.fixture(scope="module")
def made(trained: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Exploration:
    place = copied(trained.path, tmp_path_factory.mktemp("explorer") / "micro")
    return explore(md.load(place), effects=True)


@pytest.fixture(scope="module")
def file(made: Exploration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "explorer.html"
    made.save(path)
    return path


@pytest.fixture
def opened(browser: Any, file: Path) -> Iterator[Opened]:
    opened = Opened(browser, file)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def scripts(browser: Any) -> Iterator[Any]:
    """A page with the pure functions alone."""
    bare = browser.new_page()
    bare.set_content(f"<script>{asset('model.js')}</script><script>{asset('oracle.js')}</script>")
    yield bare
    bare.close()


def invented(options: dict[str, Any], sandbox: SandboxConfig, base: RunConfig, model: Any = None) -> Any:
    """A run that nobody trained: what the explorer asks of one."""
    config = base.model_copy(update={"model": ModelConfig.model_validate(options), "sandbox": sandbox})
    model = model or build(config.model, d_vocab=sandbox.vocab, n_ctx=sandbox.seq_len, init_seed=0)
    own = Sandbox(sandbox)
    return SimpleNamespace(
        config=config,
        path=Path("/nowhere") / config.path,
        name=str(config.path),
        steps=[0],
        sandbox=own,
        world=own,
        model=lambda step: model,
        weights=lambda step: dict(model.named_parameters()),
        tokens_at=lambda step: 0,
    )


def alone(run: Any) -> Exploration:
    return Exploration("invented", explorer([run], scores=None, effects=None, choice=choose([run], 10**7)), 900)


def expected(
    model: Transformer, data: EvaluationSet, tokens: list[int], off: list[str], mode: str
) -> tuple[np.ndarray, np.ndarray]:
    """Logits [pos, vocab] and patterns [layer, head, pos, pos] by PyTorch, heads replaced as `ablate` does."""
    layers = range(model.config.n_layers)
    instead = [z[:1, :1].expand(1, len(tokens), -1, -1) for z in replaced(clean_outputs(model, data), ABLATIONS[mode])]
    heads = tuple(Head(*map(int, name[1:].split("H"))) for name in off)
    with torch.no_grad(), ablated(model, heads, instead):
        logits, cache = model.run_with_cache(torch.tensor([tokens]))
    return logits[0].numpy(), np.stack([cache[f"blocks.{layer}.attn.hook_pattern"][0].numpy() for layer in layers])


def by_scripts(scripts: Any, model: Transformer, data: EvaluationSet, ask: tuple[Any, ...]) -> Any:
    blob = np.frombuffer(encoded(model, data), dtype=np.uint8).tolist()
    return scripts.evaluate(
        """([bytes, shape, tokens, off, mode]) => {
            const model = mechdistillModel.decode(Uint8Array.from(bytes), shape);
            const made = mechdistillModel.forward(model, tokens, new Set(off), mode);
            const lists = made.patterns.map((layer) => layer.map((pattern) => Array.from(pattern)));
            return {logits: made.logits.map((row) => Array.from(row)), patterns: lists};
        }""",
        [blob, shape(model, model.config), *ask],
    )


def rounded(model: Transformer) -> Transformer:
    """With weights as the page has them, but for what float32 rounds."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            step = parameter.data.abs().amax(dim=-1, keepdim=True) / 16383
            parameter.data = (parameter.data / step).round() * step
    return model


GRID = [options | MLPS[i % len(MLPS)] for i, options in enumerate(grid())]


@pytest.mark.parametrize("part", range(6))
def test_models_of_every_option_run_as_in_pytorch(scripts: Any, part: int) -> None:
    """Weights that the page holds exactly, so that whatever differs is arithmetic."""
    data = EvaluationSet(world(), world().evaluation(16))
    rng = np.random.default_rng(part)
    for options in (GRID + COVER)[part::6]:
        model = rounded(transformer(**options))
        tokens = rng.integers(12, size=int(rng.integers(1, 17))).tolist()
        every = [f"L{layer}H{head}" for layer in range(2) for head in range(model.config.n_heads)]
        for off, mode in [([], "mean"), (every[1::2], "zero"), (every[::3], "mean")][int(rng.integers(3)) :][:2]:
            logits, patterns = expected(model, data, tokens, off, mode)
            found = by_scripts(scripts, model, data, (tokens, off, mode))
            found_patterns = np.array(found["patterns"]).reshape(patterns.shape)
            tolerance = 1e-4
            assert np.abs(found["logits"] - logits).max() < tolerance * max(1, np.abs(logits).max()), label(options)
            assert np.abs(found_patterns - patterns).max() < tolerance, label(options)


def test_an_induction_circuit_copies_until_its_head_is_off(scripts: Any) -> None:
    model = induction_network(12, 16)
    data = EvaluationSet(world(), world().evaluation(16))
    tokens = [3, 7, 1, 9, 5, 3, 7, 1]
    for off, copies in (([], True), (["L1H0"], False), (["L0H0"], False), (["L1H1", "L0H1"], True)):
        found = by_scripts(scripts, model, data, (tokens, off, "zero"))
        assert (found["patterns"][1][0][7 * 8 + 3] > 0.9) == (copies or off == ["L1H0"])  # the head still looks there
        logits = np.array(found["logits"][7])
        assert (logits.argmax() == 9 and logits.max() > logits.min() + 0.1) == copies


WORLDS: dict[str, dict[str, Any]] = {
    "fixed": {},
    "noisy": {"triggers": {"count": 3, "noise": 0.2}},
    "plain": {"triggers": {"count": 0}},
    "by row": {"triggers": {"count": 2, "targets": "row", "noise": 0.1}},
    "bernoulli": {"triggers": {"kind": "bernoulli", "rate": 0.4, "count": None}},
    "noisy bernoulli": {
        "triggers": {"kind": "bernoulli", "rate": [0.0, 0.9, *[0.3] * 10], "noise": 0.15, "count": None}
    },
}


def sandbox_of(name: str, **sizes: int) -> SandboxConfig:
    triggers = {key: value for key, value in WORLDS[name].get("triggers", {"count": 2}).items() if value is not None}
    base = {"vocab": 12, "seq_len": 32, "rows": {"high": 2.0}, "triggers": triggers}
    return SandboxConfig.model_validate(base | sizes)


@pytest.mark.parametrize("name", WORLDS)
def test_the_oracle_and_what_can_be_copied_are_the_worlds_own(
    browser: Any, trained: Experiment, tmp_path: Path, name: str
) -> None:
    run = invented({"kind": "bigram"}, sandbox_of(name), trained.runs[0].config)
    alone(run).save(tmp_path / "oracle.html")
    opened = Opened(browser, tmp_path / "oracle.html")
    rng = np.random.default_rng(0)
    batch = run.world.evaluation(8)
    prompts = [*batch.tokens.tolist(), rng.integers(12, size=32).tolist(), rng.integers(3, size=20).tolist()]
    for tokens in prompts:
        law = run.world.law(torch.tensor([tokens]))[0].exp().numpy()
        found = opened.page.evaluate("([run, tokens]) => mechdistill.oracle({run, tokens})", [run.name, tokens])
        assert np.abs(found - law).max() < 1e-4
    occurrence = run.world.labels(batch.tokens, batch.triggers).occurrence
    for number in range(8):
        opened.page.select_option("label:has-text('Prompt') select", str(number))
        labels = opened.page.evaluate("mechdistill.labels()")
        assert [each["occurrence"] for each in labels] == occurrence[number].tolist()
        for q, each in enumerate(labels):
            if each["copyable"] and not run.world.noise:
                assert each["target"] == batch.next_tokens[number, q]
    assert "no heads" in opened.page.inner_text(".notice >> nth=0")
    opened.close()


def test_the_trained_models_run_in_the_page(opened: Opened, made: Exploration, trained: Experiment) -> None:
    """Against the float32 models: what their rounding costs is small."""
    assert {entry["name"] for entry in made.explorer.json["runs"]} == {run.name for run in trained.runs}
    rng = np.random.default_rng(0)
    for entry in opened.page.evaluate("mechdistill.runs()"):
        run = trained.run(entry["name"])
        data = EvaluationSet(run.world, run.world.evaluation(SEQUENCES))
        for step in entry["steps"]:
            model = run.model(step)
            tokens = rng.integers(12, size=int(rng.integers(1, 17))).tolist()
            for off, mode in (([], "mean"), (["L0H1", "L1H0"], "mean"), (["L1H1"], "zero")):
                logits, patterns = expected(model, data, tokens, off, mode)
                asked = {"run": run.name, "step": step, "tokens": tokens, "off": off, "mode": mode}
                found = opened.page.evaluate("(asked) => mechdistill.forward(asked)", asked)
                assert np.abs(found["logits"] - logits).max() < 1e-3
                assert np.abs(np.array(found["patterns"]).reshape(patterns.shape) - patterns).max() < 1e-4


def shown_attention(opened: Opened, state: dict[str, Any], run: Run, pane: int = 0) -> None:
    """What the pane says of the query is what PyTorch's pattern says."""
    data = EvaluationSet(run.world, run.world.evaluation(SEQUENCES))
    _, patterns = expected(run.model(state["step"]), data, state["tokens"], state["off"], state["mode"])
    row = patterns[state["layer"], state["head"], state["pos"]]
    text = opened.page.locator(".pane").nth(pane).locator("canvas").get_attribute("aria-label")
    match = re.search(
        rf"L{state['layer']}H{state['head']}, query {state['pos']} .* attends most to (\d+) \(.*?\) (\S+?)(,|$)", text
    )
    assert match, text
    assert row[int(match[1])] == pytest.approx(row.max(), abs=1e-3)
    assert float(match[2].replace("<", "")) == pytest.approx(row.max(), abs=2e-3)


def test_heads_stand_beside_their_scores_and_what_they_cost(opened: Opened, trained: Experiment) -> None:
    for pane, name in enumerate(("spt/seed-0", "dpt/seed-0")):
        run = trained.run(name)
        scores, effects = md.induction_scores(run), md.ablate(run)
        for mode in ("mean", "zero"):
            opened.page.locator(".field:has(> span:text-matches('^Heads that')) select").select_option(mode)
            opened.until("mechdistill.settled()")
            for layer, head in np.ndindex(2, 2):
                at = [table[(table["layer"] == layer) & (table["head"] == head)] for table in (scores, effects)]
                lookup, earlier = (
                    at[0].loc[at[0]["metric"] == score, "value"].item()
                    for score in ("trigger-lookup", "previous-token-after-trigger")
                )
                chosen = (at[1]["metric"] == "copy-loss-delta") & (at[1]["ablation"] == mode)
                chosen &= at[1]["mode"] == "full"
                cost = at[1].loc[chosen, "value"].item()
                values = opened.page.locator(".pane").nth(pane).locator(".values").nth(2 * layer + head).inner_text()
                found = list(map(float, values.split(" · ")))
                assert found == pytest.approx([lookup, earlier, cost], abs=0.0051)


def luminance(colour: str) -> float:
    channel = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def test_text_can_be_read_in_light_and_dark() -> None:
    light, dark = (dict(re.findall(r"--(\S+): (#\w{6})", part)) for part in asset("base.css").split("@media"))
    for theme in (light, dark):
        pairs = [(text, back) for text in ("ink", "faint", "accent", "mark") for back in ("bg", "panel")]
        for text, back in [*pairs, ("on-accent", "accent")]:
            low, high = sorted((luminance(theme[text]), luminance(theme[back])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, back)


def test_every_control_changes_what_it_says(opened: Opened, trained: Experiment) -> None:
    at, page = opened.state, opened.page
    first = at()
    assert (first["run"], first["twin"]) == ("spt/seed-0", "dpt/seed-0")
    shown_attention(opened, first, trained.run("spt/seed-0"))
    shown_attention(opened, first, trained.run("dpt/seed-0"), 1)

    def control(name: str) -> Any:
        return page.locator(f".field:has(> span:text-matches('^{name}'))").locator("select, input, textarea")

    for layer in range(2):
        for head in range(2):
            opened.after(page.locator(".pane >> nth=0").locator(".pick").nth(2 * layer + head).click)
            assert (at()["layer"], at()["head"]) == (layer, head)
            shown_attention(opened, at(), trained.run("spt/seed-0"))
    opened.after(lambda: control("Layer").select_option("0"))
    opened.after(lambda: control("Head$").select_option("1"))
    assert (at()["layer"], at()["head"]) == (0, 1)
    opened.after(lambda: control("Checkpoint").fill("0"))
    assert at()["step"] == trained.run("spt/seed-0").steps[0]
    assert "step 0 ·" in page.inner_text(".pane >> nth=1 >> h3"), "the twin is taken along"
    opened.after(lambda: control("Arm").select_option("teacher:young"))
    assert at()["run"] == "teachers/young/seed-0"
    opened.after(lambda: control("Arm").select_option("spt"))
    opened.after(lambda: control("Twin").select_option(""))
    assert page.locator(".pane").nth(1).is_hidden()
    opened.after(lambda: control("Twin").select_option("dpt"))
    opened.after(lambda: control("Checkpoint").fill("99"))
    opened.after(lambda: control("Prompt").select_option("3"))
    assert at()["tokens"] == trained.runs[0].world.evaluation(8).tokens[3].tolist()
    opened.after(lambda: control("Query").fill("9"))
    opened.after(lambda: control("Token there").fill("7"))
    assert at()["tokens"][9] == 7
    assert at()["prompt"] == -1, "an edited prompt is no longer the built-in one"
    shown_attention(opened, at(), trained.run("spt/seed-0"))
    opened.after(page.get_by_role("button", name="Remove token").click)
    assert len(at()["tokens"]) == 15
    opened.after(page.get_by_role("button", name="Insert one after").click)
    assert (len(at()["tokens"]), at()["pos"]) == (16, 10)
    opened.after(lambda: control("Tokens").fill("1 2, 3 1 2"))
    assert at()["tokens"] == [1, 2, 3, 1, 2]
    shown_attention(opened, at(), trained.run("spt/seed-0"))
    control("Tokens").fill("1 2 12")
    assert "'12': this world has no such token" in page.inner_text(".wrong")
    assert at()["tokens"] == [1, 2, 3, 1, 2]
    opened.after(page.locator(".pane >> nth=1").locator(".strip button").nth(3).click)
    assert at()["pos"] == 3
    opened.after(lambda: page.locator(".pane >> nth=0").locator("canvas").click(position={"x": 80, "y": 20}))
    assert at()["pos"] == 0
    opened.after(lambda: control("Prompt").select_option("0"))

    now = page.locator(".numbers >> nth=0").locator("tbody tr")
    assert now.nth(0).inner_text().split("\t")[1:] == now.nth(1).inner_text().split("\t")[1:]
    for box in page.locator(".pane >> nth=0").locator(".head input").all():
        opened.after(box.check)
    assert sorted(at()["off"]) == ["L0H0", "L0H1", "L1H0", "L1H1"]
    assert now.nth(0).inner_text().split("\t")[1:] != now.nth(1).inner_text().split("\t")[1:]
    mean = now.nth(0).inner_text()
    opened.after(lambda: control("Heads that").select_option("zero"))
    assert now.nth(0).inner_text() != mean
    opened.after(page.get_by_role("button", name="All heads on").click)
    assert at()["off"] == []
    opened.after(page.get_by_role("button", name="Play").click)
    assert page.get_by_role("button", name="Pause").is_visible()
    opened.until("mechdistill.state().checkpoint === 1")
    opened.after(page.get_by_role("button", name="Pause").click)


def test_keys_do_what_the_help_says_and_leave_text_alone(opened: Opened) -> None:
    at, press = opened.state, opened.page.keyboard.press
    opened.page.locator("h1").click()
    last = at()["checkpoint"]
    opened.after(lambda: opened.page.locator(".pick").nth(3).click())
    for key, name, value in (
        ("ArrowUp", "layer", 0),
        ("ArrowLeft", "head", 0),
        ("ArrowRight", "head", 1),
        ("ArrowDown", "layer", 1),
        ("x", "off", ["L1H1"]),
        ("PageUp", "checkpoint", last - 1),
        ("Comma", "checkpoint", last - 2),
        ("Period", "checkpoint", last - 1),
        ("PageDown", "checkpoint", last),
    ):
        opened.after(lambda key=key: press(key))
        assert at()[name] == value, key
    opened.after(lambda: press("p"))
    assert opened.page.get_by_role("button", name="Pause").is_visible()
    opened.after(lambda: press("p"))
    before = at()
    field = opened.page.locator("textarea")
    field.focus()
    press("x")
    press("ArrowLeft")
    assert {**at(), "tokens": None} == {**before, "tokens": None}


def test_a_link_restores_the_view(opened: Opened, browser: Any, file: Path) -> None:
    fragment = "#arm=dpt&seed=0&step=6&layer=1&head=0&twin=teacher%3Ayoung&tokens=1.2.3.1.2&pos=4&off=L0H1&mode=zero"
    other = Opened(browser, file, fragment=fragment)
    state = other.state()
    assert (state["run"], state["twin"], state["step"]) == ("dpt/seed-0", "teachers/young/seed-0", 6)
    assert (state["layer"], state["head"], state["pos"], state["mode"]) == (1, 0, 4, "zero")
    assert (state["tokens"], state["off"]) == ([1, 2, 3, 1, 2], ["L0H1"])
    assert other.page.locator(".notice >> nth=0").is_hidden()
    other.page.locator("h1").click()
    other.after(lambda: other.page.keyboard.press("ArrowRight"))
    other.until("location.hash.includes('head=1')")
    written = other.page.evaluate("location.hash")
    again = Opened(browser, file, fragment=written)
    assert again.state() == other.state()
    again.close()
    other.close()
    assert opened.page.evaluate("location.hash") == "", "looking changes no address"


HOSTILE = (
    "#arm=<img src=x onerror=alert(1)>&seed=__proto__&step=1e99&layer=-1&head=2&twin=javascript:alert(1)"
    "&tokens=1.2.99&pos=Infinity&off=L9H9&mode=constructor&%E0%A4%A=1&<script>alert(1)</script>=2&prompt=0"
)


def test_a_hostile_link_changes_nothing_and_is_named(opened: Opened, browser: Any, file: Path) -> None:
    other = Opened(browser, file, fragment=HOSTILE)
    assert other.state() == opened.state()
    note = other.page.inner_text(".notice >> nth=0")
    for word in ("arm '<img", "seed", "step", "layer", "head", "twin", "tokens", "pos", "off", "mode", "<script>"):
        assert word in note
    assert other.page.locator("img").count() == 0
    other.close()


def test_names_and_symbols_of_users_are_text(browser: Any, trained: Experiment, tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    place = copied(trained.path, tmp_path / hostile)
    made = explore(md.load(place))
    made.save(tmp_path / "page.html")
    opened = Opened(browser, tmp_path / "page.html")
    assert hostile in opened.page.inner_text("h1")
    assert hostile in opened.page.title()
    assert opened.page.locator("img").count() == 0
    opened.close()

    text = tmp_path / "text.txt"
    text.write_text('<b>&"\' </b>\n<i>&amp;"\n</i> <b>&amp;</b>\n' * 20, encoding="utf-8")
    rows = {"kind": "corpus", "path": str(text)}
    sandbox = SandboxConfig.model_validate({"vocab": 12, "seq_len": 16, "rows": rows, "triggers": {"count": 2}})
    run = invented({"n_layers": 1, "d_model": 8, "n_heads": 2}, sandbox, trained.runs[0].config)
    alone(run).save(tmp_path / "corpus.html")
    opened = Opened(browser, tmp_path / "corpus.html")
    opened.after(lambda: opened.page.locator("textarea").fill('<b>&"\n <b>'))
    strip = opened.page.locator(".strip >> nth=0").locator("button").all_inner_texts()
    assert strip == ["<", "b", ">", "&", '"', r"'\n'", "' '", "<", "b", ">"]
    assert opened.page.locator(".pane b:has-text('L0H0')").count() == 1
    opened.close()


def test_a_notebook_shows_it_in_a_frame(browser: Any, made: Exploration, tmp_path: Path) -> None:
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!DOCTYPE html><body>{made._repr_html_()}</body>", encoding="utf-8")
    opened = Opened(browser, notebook, ready="document.querySelector('iframe') !== null")
    frame = next(frame for frame in opened.page.frames if frame != opened.page.main_frame)
    for _ in range(400):
        if frame.evaluate(READY):
            break
        opened.page.wait_for_timeout(10)
    frame.locator(".pick").nth(0).click()
    opened.page.wait_for_timeout(300)
    assert (frame.evaluate("mechdistill.state().layer"), frame.evaluate("location.hash")) == (0, "")
    opened.problems = [problem for problem in opened.problems if "about:srcdoc" not in problem]
    opened.close()


def test_a_browser_that_cannot_unpack_it_says_so(browser: Any, file: Path) -> None:
    bare = browser.new_page()
    bare.add_init_script("delete window.DecompressionStream")
    bare.goto(file.as_uri())
    assert "newer one" in bare.locator("[role=alert] >> nth=0").inner_text()
    bare.close()


def test_keystrokes_are_drawn_at_once(browser: Any, trained: Experiment, tmp_path: Path) -> None:
    """No assertion of time: the median is printed. Two panes of the default model and 64 tokens, new at every key."""
    sandbox = SandboxConfig()
    runs = [invented({}, sandbox, trained.run(name).config) for name in ("spt/seed-0", "dpt/seed-0")]
    parts = explorer(runs, scores=None, effects=None, choice=choose(runs, 10**7))
    Exploration("default", parts, 900).save(tmp_path / "default.html")
    opened = Opened(browser, tmp_path / "default.html")
    opened.page.locator("textarea").fill(" ".join(["7"] * 63) + " ")
    opened.page.locator("textarea").press("End")
    times: list[float] = []
    for number in range(30):
        key = "Backspace" if number % 2 else "5"
        opened.after(lambda key=key: opened.page.keyboard.press(key))
        times.append(opened.page.evaluate("mechdistill.lasted()"))
    assert len(opened.state()["tokens"]) == 63
    print(f"median {np.median(times):.1f} ms, slowest {max(times):.1f} ms from keystroke to drawn")
    opened.close()


def test_checkpoints_come_in_the_order_in_which_they_are_wanted(trained: Experiment) -> None:
    runs = trained.runs
    size = packed_bytes(sum(tensor.numel() for tensor in runs[0].weights(0).values()))
    everything = choose(runs, 10**9)
    every = [(c.run.name, c.step) for c in everything.checkpoints]
    last = [("spt/seed-0", 24), ("dpt/seed-0", 24), ("teachers/young/seed-0", 8)]
    assert every[:3] == last
    assert every[3:5] == [("spt/seed-0", 0), ("dpt/seed-0", 0)], "twins at the same steps"
    assert len(set(every)) == len(every) == sum(len(run.steps) for run in runs)
    for count in (1, 2, 5, 8):
        some = choose(runs, size * count + size // 2)
        assert [(c.run.name, c.step) for c in some.checkpoints] == every[:count]
        assert f"{count} of {len(every)} checkpoints" in some.said
    assert "without any: teachers/young/seed-0" in choose(runs, size * 2).said
    with pytest.raises(MechdistillError, match=r"max-size=0\.001 MB: one checkpoint of spt/seed-0 alone takes"):
        choose(runs, 1000)
    assert far_apart(range(0, 1001, 10), 5) == [1000, 0, 250, 560, 60]
    for bad in (0, -1, "18", True, float("nan"), 10**6):
        with pytest.raises(MechdistillError, match="max_size="):
            budget_of(bad)


def test_a_page_is_about_as_large_as_was_allowed(made: Exploration, trained: Experiment) -> None:
    run = invented({}, SandboxConfig(), trained.runs[0].config)
    numbers = sum(tensor.numel() for tensor in run.weights(0).values())
    parts = explorer([run], scores=None, effects=None, choice=choose([run], 10**7))
    weights = {name: blob for name, blob in parts.blobs.items() if name.startswith("weights")}
    assert len(Payload({}, weights).packed()) * 4 / 3 == pytest.approx(packed_bytes(numbers), rel=0.03)
    assert made.html == Exploration(made.title, made.explorer, 1).html, "the same input gives the same file"
    packed = gzip.decompress(Payload({"a": [1, "é"]}, {"one": b"12", "two": b"345"}).packed())
    length = int.from_bytes(packed[:4], "little")
    assert json.loads(packed[4 : 4 + length]) == {"json": {"a": [1, "é"]}, "blobs": [["one", 2], ["two", 3]]}
    assert packed[4 + length :] == b"12345"
    whole = page(title="</title><b>", body="<p>", styles=["p{}"], scripts=["1"], payload=Payload({}))
    assert html.escape("</title><b>") in whole


def test_rows_of_any_size_keep_their_digits(scripts: Any) -> None:
    """Far beyond half precision's range, and a row of zeros."""
    model, data = transformer(norm="none"), EvaluationSet(world(), world().evaluation(4))
    model.W_U[0] *= 1e7
    model.W_U[1] *= 1e-12
    model.W_U[2] = 0.0
    logits, _ = expected(model, data, [1, 2, 3], [], "mean")
    found = by_scripts(scripts, model, data, ([1, 2, 3], [], "mean"))
    assert np.abs(found["logits"] - logits).max() < 2e-4 * np.abs(logits).max()


def test_explore_checks_what_it_is_given(trained: Experiment) -> None:
    with pytest.raises(MechdistillError, match="target='runs/x': must be a run or an experiment"):
        md.explore("runs/x")
    with pytest.raises(MechdistillError, match="height=3"):
        md.explore(trained, height=3)
