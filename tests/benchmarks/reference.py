"""What the ratios compare with: the same computation as a competent user would write it without us."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mechdistill.circuits import ABLATIONS
from mechdistill.config import ModelConfig, TrainingConfig
from mechdistill.model import Model, Transformer
from mechdistill.positions import EvaluationSet
from mechdistill.sandbox import Sandbox


class PlainBlock(nn.Module):
    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, length, 3, self.n_heads, width // self.n_heads)
        q, k, v = (t.transpose(1, 2) for t in qkv.unbind(2))
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.out(z.transpose(1, 2).reshape(batch, length, width))


class PlainTransformer(nn.Module):
    """The default model in plain PyTorch: fused QKV, scaled_dot_product_attention, no hooks."""

    def __init__(self, config: ModelConfig, d_vocab: int, n_ctx: int):
        super().__init__()
        self.embed, self.position = nn.Embedding(d_vocab, config.d_model), nn.Embedding(n_ctx, config.d_model)
        self.blocks = nn.ModuleList(PlainBlock(config.d_model, config.n_heads) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.unembed = nn.Linear(config.d_model, d_vocab, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.position.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.unembed(self.norm(x))


def bare_steps(model: nn.Module, training: TrainingConfig, sequences: Tensor, steps: int) -> None:
    """Forward, cross-entropy, backward, clip and AdamW on one fixed batch: nothing that a step could leave out."""
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=training.lr, betas=training.betas, weight_decay=training.weight_decay, fused=True
    )
    for _ in range(steps):
        logits = model(sequences[:, :-1])
        F.cross_entropy(logits.flatten(0, 1), sequences[:, 1:].flatten()).backward()
        if training.grad_clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), training.grad_clip)
        optimiser.step()
        optimiser.zero_grad()


def choice_loop(sandbox: Sandbox, n_sequences: int) -> np.ndarray:
    """A sampler as published sandboxes write it: one numpy `choice` a token."""
    rng = np.random.default_rng(0)
    ordinary = [t for t in range(sandbox.vocab) if t not in sandbox.triggers]
    sequences = np.empty((n_sequences, sandbox.seq_len + 1), dtype=np.int64)
    for sequence in sequences:
        targets = {trigger: rng.choice(ordinary) for trigger in sandbox.triggers}
        sequence[0] = rng.choice(sandbox.vocab, p=sandbox.stationary)
        for t in range(sandbox.seq_len):
            current = sequence[t]
            if current in targets:
                sequence[t + 1] = targets[current]
            else:
                sequence[t + 1] = rng.choice(sandbox.vocab, p=sandbox.pi[current])
    return sequences


@torch.no_grad()
def ablation_loop(model: Transformer, data: EvaluationSet) -> list[tuple[float, float]]:
    """Copy loss and bigram KL without each head, by each kind and in each mode: a pass of the whole model each."""
    _, clean = model.run_with_cache(data.tokens, names_filter=lambda name: name.endswith(("hook_z", "hook_pattern")))
    layers, law = range(model.config.n_layers), data.labels.log_probs
    found = []
    for ablation in ABLATIONS.values():
        for layer in layers:
            instead = ablation.replacement(clean["z", layer], torch.Generator().manual_seed(0))
            for head in range(model.config.n_heads):

                def write(z: Tensor, hook: object, head: int = head, instead: Tensor = instead) -> Tensor:
                    z[:, :, head] = instead[:, :, head]
                    return z

                for held in ([], [(f"blocks.{i}.attn.hook_pattern", clean["pattern", i]) for i in layers]):
                    hooks = [(name, lambda _, hook, pattern=pattern: pattern) for name, pattern in held]
                    hooks.append((f"blocks.{layer}.attn.hook_z", write))
                    log_probs = model.run_with_hooks(data.tokens, fwd_hooks=hooks).log_softmax(dim=-1)
                    loss = -log_probs.gather(-1, data.next_tokens[..., None])[..., 0]
                    kl = F.kl_div(log_probs, law, reduction="none", log_target=True).sum(-1)
                    found.append((float(loss[data.copyable].mean()), float(kl[data.ordinary].mean())))
    return found


@torch.no_grad()
def uncached_sampler(
    model: Model, prompts: Tensor, n_new: int, *, temperature: float, generator: torch.Generator
) -> Tensor:
    """A sampler that reads the whole sequence again for every token; its draws are those of `model.generate`."""
    tokens = prompts
    for _ in range(n_new):
        logits = model(tokens)[:, -1]
        if temperature == 0:
            new = logits.argmax(dim=-1, keepdim=True)
        else:
            new = torch.multinomial((logits / temperature).softmax(dim=-1), 1, generator=generator)
        tokens = torch.cat([tokens, new], dim=1)
    return tokens
