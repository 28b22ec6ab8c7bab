"""Scores of models that are no runs of ours: bridges, and folders in Hugging Face's format, without a network."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

import mechdistill as md
from mechdistill.circuits import SCORES, HeadView, open_bridge
from mechdistill.circuits._probes import random_probes
from mechdistill.circuits.scores import LOGIT_LENS, OF_WEIGHTS
from mechdistill.errors import MechdistillError
from mechdistill.model import Transformer, to_transformer_lens
from mechdistill.runs import Experiment
from mechdistill.subject import PROBE_SEED
from tests.helpers import copied, induction_network, mechdistill, transformer

VOCAB, CONTEXT = 24, 32


def saved_gpt2(model: Transformer, folder: Path) -> Path:
    """A hand-built network as a Hugging Face GPT-2 whose MLPs are zero; its embedding and unembedding are tied."""
    from transformers import GPT2Config, GPT2LMHeadModel

    d = model.cfg.d_model
    config = GPT2Config(
        vocab_size=VOCAB, n_positions=CONTEXT, n_embd=d, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    theirs = GPT2LMHeadModel(config).requires_grad_(False)
    for name, parameter in theirs.named_parameters():
        parameter.fill_(float("ln" in name and name.endswith("weight")))
    body = theirs.transformer
    body.wte.weight.copy_(model.W_E)
    body.wpe.weight.copy_(model.W_pos)
    for ours, block in zip(model.blocks, body.h, strict=True):
        block.attn.c_attn.weight.copy_(ours.attn.W_QKV.T)
        block.attn.c_proj.weight.copy_(ours.attn.W_O.flatten(0, 1))
    theirs.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = induction_network(VOCAB, CONTEXT, d_head=(2 * VOCAB + CONTEXT) // 2)
    return saved_gpt2(model, tmp_path_factory.mktemp("hf") / "hand-built")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, max_position_embeddings=40, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("hf") / "llama"
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def at(table: pd.DataFrame, metric: str, layer: int, head: int) -> pd.Series:
    rows = table[(table["metric"] == metric) & (table["layer"] == layer) & (table["head"] == head)]
    return rows[rows["source_layer"].isna()].iloc[0]


def test_an_induction_head_of_gpt2_is_found(gpt2: Path) -> None:
    result = mechdistill("induction-scores", gpt2, "--json")
    assert result.returncode == 0, result.stderr
    table = pd.DataFrame(json.loads(result.stdout)["rows"])
    for metric in ("induction", "induction-strength", "prefix-matching", "copying"):
        assert at(table, metric, 1, 0)["value"] == pytest.approx(1, abs=0.02), metric
    assert at(table, "induction", 1, 0)["p"] < 0.01
    assert at(table, "induction", 1, 0)["null_mean"] < 0.2
    assert at(table, "previous-token", 0, 0)["value"] > 0.95
    assert at(table, "direct-logit-attribution", 1, 0)["value"] > 1
    assert at(table, "induction", 0, 1)["value"] == pytest.approx(at(table, "induction", 0, 1)["chance"], abs=1e-3)
    assert set(table["run"]) == {"hand-built"}
    assert table["untrained"].isna().all()
    assert len([line for line in result.stderr.splitlines() if "left out" in line]) == 1
    left_out = set(SCORES) - set(table["metric"])
    assert left_out == {
        "induction-general", "prefix-matching-general", "previous-token-after-trigger", "trigger-lookup", "icl-score",
        "late-minus-early",
    }  # fmt: skip
    assert all(name in result.stderr for name in left_out)


def test_rotary_positions_and_grouped_heads_are_read_rightly(llama: Path) -> None:
    """Weights that are scored are Hugging Face's own, head by head."""
    with pytest.warns(UserWarning, match="left out: .*k-composition"):
        table = md.induction_scores(str(llama))
    from safetensors.torch import load_file

    weights = load_file(llama / "model.safetensors")
    layer, d = "model.layers.1.", 4
    for head in range(4):
        value = weights[f"{layer}self_attn.v_proj.weight"].T[:, head // 2 * d : (head // 2 + 1) * d]
        output = weights[f"{layer}self_attn.o_proj.weight"].T[head * d : (head + 1) * d]
        read, final = weights[f"{layer}input_layernorm.weight"], weights["model.norm.weight"]
        embed, unembed = weights["model.embed_tokens.weight"], weights["lm_head.weight"].T
        whole = (embed * read) @ value @ (output * final) @ unembed
        eigenvalues = torch.linalg.eigvals(whole.double())
        expected = float(eigenvalues.real.sum() / eigenvalues.abs().sum())
        assert at(table, "copying", 1, head)["value"] == pytest.approx(expected, abs=1e-3)


def test_a_bridge_is_scored_as_the_model_it_is_of(tmp_path: Path) -> None:
    model = transformer(d_vocab=VOCAB, n_ctx=CONTEXT)
    with pytest.warns(UserWarning, match="left out"):
        of_bridge = md.induction_scores(to_transformer_lens(model))
    with pytest.warns(UserWarning, match="left out"):
        of_ours = md.induction_scores(model)
    pd.testing.assert_frame_equal(
        of_bridge.drop(columns=["run", "arm"]), of_ours.drop(columns=["run", "arm"]), atol=1e-4
    )
    with pytest.raises(md.MechdistillError, match="must be a run, an experiment, a bridge"):
        md.induction_scores(3)
    with pytest.raises(md.MechdistillError, match="is no run, and has none"):
        md.induction_scores(model, "all")


def broken(kind: str, gpt2: Path, folder: Path) -> str:
    """A folder that cannot be scored, and what is said of it."""
    shutil.copytree(gpt2, folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    if kind == "pickled":
        weights.rename(folder / "pytorch_model.bin")
        return "pytorch_model.bin is pickled, which can run code"
    if kind == "empty":
        weights.unlink()
        return "holds no safetensors weights"
    if kind == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    if kind == "code":
        config.write_text(
            json.dumps(json.loads(config.read_text()) | {"model_type": "x", "auto_map": {"AutoConfig": "x.X"}})
        )
        (folder / "x.py").write_text("raise SystemExit('this ran')")
    if kind == "garbled":
        config.write_text("{")
    if kind == "lacking":
        from safetensors.torch import load_file, save_file

        kept = {name: w for name, w in load_file(weights).items() if "h.1.attn.c_attn.weight" not in name}
        save_file(kept, weights, metadata={"format": "pt"})
        return "weights are missing"
    return "cannot be opened"


@pytest.mark.parametrize("kind", ["pickled", "empty", "cut", "code", "garbled", "lacking"])
def test_what_cannot_be_opened_is_one_line(kind: str, gpt2: Path, tmp_path: Path) -> None:
    said = broken(kind, gpt2, tmp_path / "model")
    result = mechdistill("induction-scores", tmp_path / "model")
    assert result.returncode == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stdout == ""


def test_what_is_there_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gpt2").mkdir()
    result = mechdistill("induction-scores", "gpt2", cwd=tmp_path)
    assert (result.returncode, "neither a run nor an experiment" in result.stderr) == (2, True), (
        "and nothing is fetched"
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = mechdistill("induction-scores", "nobody/nothing", cwd=tmp_path)
    assert result.returncode == 2
    assert "nobody/nothing: no such directory, and no model of that name can be had" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


SMALL = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}


def tiny(kind: str, folder: Path) -> Path:
    """A random model of an architecture, with every weight away from where it starts."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")
    heads = {} if kind == "Bert" else {"num_key_value_heads": 2}
    own = {"Gemma": {"head_dim": 8}, "Granite": {"logits_scaling": 4.0, "residual_multiplier": 0.3}}.get(kind, {})
    model = transformers.AutoModelForCausalLM.from_config(config(**SMALL, **heads, **own))
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore:left out. .*without meaning")
@pytest.mark.parametrize("kind", ["Gemma", "Granite", "Olmo2"])
def test_scores_of_weights_are_left_out_where_weights_are_read_in_another_way(kind: str, tmp_path: Path) -> None:
    """A norm that multiplies by 1 + weight, logits that are scaled, a norm behind attention."""
    with pytest.warns(UserWarning, match="scales or caps"):
        found = md.induction_scores(tiny(kind, tmp_path / "x"))
    assert "induction" in set(found["metric"])
    assert not set(found["metric"]) & {score.name for score in OF_WEIGHTS}


def test_where_they_are_read_as_they_stand_the_last_layers_lens_is_the_models_own_loss(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = tiny("Qwen2", tmp_path / "x")
    with pytest.warns(UserWarning, match="left out: .*without meaning"):
        found = md.induction_scores(folder)
    model, view = AutoModelForCausalLM.from_pretrained(folder), HeadView(open_bridge(folder))
    generator = torch.Generator().manual_seed(PROBE_SEED)
    probe = random_probes(300, 64, min(129, view.n_ctx), view.start_token, generator).repeated
    at, last = slice(probe.length + 1, -1), slice(probe.length + 2, None)
    with torch.no_grad():
        law = model(probe.tokens).logits.log_softmax(-1)[:, at]
    loss = -law.gather(2, probe.tokens[:, last, None]).mean()
    lens = found[found["metric"] == LOGIT_LENS.name]["value"]
    assert lens.iloc[-1] == pytest.approx(float(loss), abs=1e-4)


def test_what_attends_to_the_future_is_refused(tmp_path: Path) -> None:
    with pytest.raises(md.MechdistillError, match="attends to later positions"):
        md.induction_scores(tiny("Bert", tmp_path / "x"))


def test_sequences_start_with_the_models_own_start_whatever_its_tokenizer_holds(llama: Path, tmp_path: Path) -> None:
    """A tokenizer that fills the embedding: the bridge would add a start of its own, beyond the last row."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    folder = copied(llama, tmp_path / "x")
    words = Tokenizer(models.WordLevel({f"w{n}": n for n in range(300)}, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0", bos_token="w5").save_pretrained(folder)
    assert HeadView(open_bridge(folder)).start_token == 1, "which config.json names"
    with pytest.warns(UserWarning, match="left out"):
        pd.testing.assert_frame_equal(
            md.induction_scores(folder).drop(columns=["run", "arm"]),
            md.induction_scores(llama).drop(columns=["run", "arm"]),
        )


def test_what_we_publish_for_others_is_scored_as_our_own(trained: Experiment, tmp_path: Path) -> None:
    run = trained.run("spt/seed-0")
    md.publish(run, tmp_path / "x", format="transformers")
    with pytest.warns(UserWarning, match="left out"):
        theirs = md.induction_scores(tmp_path / "x")
    with pytest.warns(UserWarning, match="left out"):
        ours = md.induction_scores(run.model())
    keys = ["metric", "layer", "head", "source_layer", "source_head"]
    both = theirs.merge(ours, on=keys, suffixes=("", "_ours"))
    assert len(both) == len(theirs) == len(ours)
    assert both["value"].to_numpy() == pytest.approx(both["value_ours"].to_numpy(), abs=2e-3)


@pytest.mark.parametrize("kind", ["opt", "short", "stablelm"])
def test_what_transformer_lens_cannot_run_or_has_no_room_for_a_repetition_is_one_line(
    kind: str, tmp_path: Path
) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, OPTConfig, OPTForCausalLM, StableLmConfig, StableLmForCausalLM

    sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    if kind == "opt":
        config = OPTConfig(
            **sizes, ffn_dim=64, word_embed_proj_dim=32, do_layer_norm_before=False, max_position_embeddings=32
        )
        model, why = OPTForCausalLM(config), "TransformerLens cannot run it"
    elif kind == "short":
        model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=2, n_embd=16, n_layer=1, n_head=2))
        why = "a context of 2 has no room"
    else:
        config = StableLmConfig(**sizes, intermediate_size=64, num_key_value_heads=32, max_position_embeddings=32)
        model, why = StableLmForCausalLM(config), "TransformerLens cannot run it"
    model.save_pretrained(tmp_path / kind)
    with pytest.raises(MechdistillError, match=why) as raised:
        md.induction_scores(str(tmp_path / kind))
    assert "\n" not in str(raised.value)
