"""Broken and hostile experiment files: each is refused in one short line that a terminal can be shown, and soon."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechdistill.config import (
    ModelConfig,
    SandboxConfig,
    TrainingConfig,
    load_experiment,
    parse_yaml,
    refuse_what_does_not_fit,
)
from mechdistill.config._memory import parameters, training_bytes
from mechdistill.errors import MOST_OF_A_LINE, MechdistillError, one_line, quoted
from mechdistill.model import build
from mechdistill.reading import read_regular
from tests.helpers import micro

ABOVE = [None, *"abcdefgh"]
LEVELS = [
    f"&{name} [{', '.join([f'*{above}' if above else '1'] * 9)}]"
    for above, name in zip(ABOVE, "abcdefghi", strict=True)
]
BOMB = f"[{', '.join(LEVELS)}]"
LONG = "y" * 5000

REFUSED = {
    "seeds=" + BOMB: "means over 100,000 values",
    "arms.spt.training=" + BOMB: "means over 100,000 values",
    "seeds=&a [*a]": "an alias stands for what contains it",
    "arms={<<: &a {<<: *a}}": "an alias stands for what contains it",
    "seeds=" + "[" * 200_000: "nested more than",
    "seeds=" + "[" * 40 + "]" * 40: "nested more than 32 levels deep",
    "seeds=[" + "1," * 40_000 + "]": "has about 40,002 values",
    "name=" + "a " * 300_000: "characters; must be at most 500,000",
    "training.batch=1e9": "training.batch=1000000000: must be less than or equal to 1000000",
    "training.batch=1_000_000": "arms.spt: would need about",
    "training.tokens=1e300": "training.tokens=1e+300: must be less than",
    "training.tokens=1e400": "training.tokens=inf: must be a whole number",
    "training.tokens=0x" + "f" * 5000: "training.tokens=2**19999 and more: must be less than",
    "training.tokens=" + "1" * 4200: "must be less than",
    "training.tokens=" + "1" * 5000: "not valid YAML",
    "training={tokens: 1e12, batch: 1}": "must be at most 99,999,999",
    "model={n_layers: 64, d_model: 8192}": "GB of memory, and this machine has",
    "model={n_layers: 64, d_model: 8192, attn_only: false, d_mlp: 65536}": "lower model (d_model=8192",
    "model.d_mlp=1e9": "model.d_mlp=1000000000: must be less",
    "sandbox.vocab=100000": "sandbox.vocab=100000: must be less",
    "seeds=" + str(list(range(6000))): "12000 runs; must be at most 10000",
    "training.schedule=" + LONG: "must be 'cosine', 'constant' or 'trunk'",
    f"arms.{LONG}={{}}": "must be 1 to 64 letters",
    "training." + LONG + "=1": "unknown key",
    'training={"\\e[31m\\n\\u202e": 1}': "training.\\x1b[31m\\n\\u202e: unknown key",
    'name="\\e]0;x\\a"': "name='\\x1b]0;x\\x07': must be",
    "sandbox.rows={kind: corpus, path: " + LONG + "}": "must have at most 4096 characters",
    # what is meant, in the words of the file
    "training.tokens=30.000": "training.tokens=30.0: must be a whole number, without a decimal point; write 30 if",
    "seeds=[1.0]": "seeds.0=1.0: must be a whole number",
    "seeds=3": "seeds=3: must be a list, like [0, 1]",
    "arms.dpt-90.alpha=linear": "alpha='linear': must be a number from 0 to 1, or a schedule: a mapping with a kind (",
    "training=3": "training=3: must be a mapping of keys to values",
    "training={batch: x, lr: -1, warmup: 1.5}": "training.batch='x': must be a whole number (also wrong: training.lr, ",
}


@pytest.mark.parametrize("setting", list(REFUSED), ids=lambda setting: setting[:40])
def test_each_is_one_short_line_that_says_what_is_wrong(setting: str) -> None:
    with pytest.raises(MechdistillError) as error:
        refuse_what_does_not_fit(load_experiment(preset_name="tiny", settings=[setting]))
    line = str(error.value)
    assert REFUSED[setting] in line
    assert len(line) < 350
    assert line.isprintable()


def test_numbers_that_are_whole_as_written_are_read(tmp_path: Path) -> None:
    for text, value in {"3e6": 3_000_000, "3_000_000": 3_000_000, "1.5e3": 1500, "+2E2": 200, "0x10": 16}.items():
        assert load_experiment(settings=[f"training.tokens={text}"]).training.tokens == value
    assert parse_yaml("[3e-3, 1e0, 2.0, -0.5e1]", "test") == [0.003, 1, 2.0, -5]
    assert load_experiment(settings=["training.lr=1e0"]).training.lr == 1.0


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "huge", "nul", "missing", "link"])
def test_what_does_not_end_is_not_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "device":
            path = Path("/dev/zero")
        case "folder":
            path.mkdir()
        case "huge":
            path.touch()
            os.truncate(path, 10**12)
        case "nul":
            path = Path("a\0b")
        case "link":
            path.symlink_to("/dev/zero")
        case _:
            pass
    with pytest.raises(OSError, match=r"Not a |Is a directory|Larger than|No such file"):
        read_regular(path, 100)
    with pytest.raises(MechdistillError, match=r"no such experiment file|cannot be read as a text file|must be a path"):
        load_experiment(path)


@settings(max_examples=60)
@given(st.text(max_size=2000) | st.text(alphabet="[]{}&*a: ,\n-!|>'\"1e.", max_size=300))
def test_any_text_is_a_value_or_one_line(text: str) -> None:
    line = ""
    try:
        parse_yaml(text, "test")
    except MechdistillError as error:
        line = str(error)
    assert line == "" or line.isprintable()
    assert len(line) <= MOST_OF_A_LINE


@settings(max_examples=60)
@given(st.text(max_size=3000))
def test_a_line_is_printable_and_short_and_keeps_its_ends(text: str) -> None:
    line = one_line(f"key={text}: rule; fix")
    assert line.isprintable()
    assert len(line) <= MOST_OF_A_LINE
    assert line.startswith("key=")
    assert line.endswith("fix")


@settings(max_examples=20)
@given(
    st.recursive(
        st.integers() | st.floats() | st.text() | st.integers(9000, 9999).map(lambda power: (-16) ** power),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_value_can_be_quoted(value: object) -> None:
    assert len(quoted(value)) <= 60
    assert quoted(value).isprintable()


def test_what_a_run_needs_is_estimated_from_what_it_holds() -> None:
    for changes in ({}, {"attn_only": False}, {"attn_only": False, "act": "swiglu", "tied": True}, {"n_kv_heads": 2}):
        config = ModelConfig(n_layers=3, d_model=64, positions="learned", norm="none", **changes)
        model = build(config, d_vocab=20, n_ctx=24, init_seed=0)
        assert parameters(config, 20, 24) == sum(p.numel() for p in model.parameters())
    config = ModelConfig(kind="bigram")
    assert parameters(config, 20, 24) == 400
    sizes = [training_bytes(ModelConfig(), SandboxConfig(), TrainingConfig(batch=batch)) for batch in (32, 64, 128)]
    assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0]) > 0
    refuse_what_does_not_fit(micro())
