"""A run's config in words: its world, its network, its treatment. For `runs show` and for model cards."""

from collections.abc import Mapping
from typing import Any

from mechdistill.config import ModelConfig, RoutingConfig, RunConfig, SandboxConfig


def world(sandbox: SandboxConfig) -> str:
    """The world in two sentences."""
    chain = (
        f"A first-order Markov chain over {sandbox.vocab} tokens, {sandbox.seq_len} predictions a sequence (seed "
        f"{sandbox.seed}); rows of the transition matrix: {_settings(sandbox.rows.model_dump(mode='json'))}."
    )
    if sandbox.is_plain:
        return f"{chain} No triggers: there is nothing to copy."
    triggers = _settings(sandbox.triggers.model_dump(mode="json"))
    return (
        f"{chain} Triggers: {triggers}; after a trigger comes that sequence's own target, unknown at the trigger's "
        "first occurrence and copyable from context at every later one."
    )


def network(model: ModelConfig) -> str:
    """The student's network in one sentence."""
    if not model.has_heads:
        return "A bigram table: one row of logits a token, the null model."
    text = f"A {_settings(model.model_dump(mode='json', exclude={'clamps'}))}."
    if not model.clamps:
        return text
    clamps = ", ".join(f"{clamp.head} at {clamp.pattern}" for clamp in model.clamps)
    return f"{text} Clamped throughout, in training and whatever is measured: {clamps}."


def treatment(config: RunConfig) -> str:
    """What the run minimises, in words and as a formula, and its budget."""
    objective = config.objective.model_dump(mode="json", exclude={"training", "model", "sandbox"})
    usual = type(config.objective)().model_dump(mode="json")
    alpha = objective["alpha"]
    told = {"alpha", "teacher"}
    if not config.objective.distils:
        text = "Standard training on the labels alone: `L = CE(labels)`"
    else:
        told |= {"temperature", "divergence"}
        weight = alpha if isinstance(alpha, int | float) else "alpha"
        divergence = objective["divergence"]
        distance = config.objective.divergence.formula or f"{divergence['kind']}(teacher, student)"
        text = f"Distillation from `{objective['teacher']}`: `L = (1 - {weight})·CE(labels) + {weight}·{distance}`"
        if weight == "alpha":
            text += f", alpha {_settings(alpha)}"
        if len(divergence) > 1:
            text += f", {_settings(divergence)}"
        if objective["temperature"] != 1:
            text += f", the teacher softened by the temperature {objective['temperature']:g}"
    told |= {"routing", "normalise"}
    further = {k: v for k, v in objective.items() if k not in told and v != usual[k]}
    text += "".join(f"; {key.replace('_', ' ')}: {_settings(value)}" for key, value in further.items())
    if config.objective.routing is not None:
        text += f"; {_routed(config.objective.routing)}"
    text += "; each term is a mean over the positions where it weighs" * (config.objective.normalise == "per-term")
    training = config.training
    budget = f"{training.tokens:,} tokens in batches of {training.batch} sequences"
    if config.start is not None:
        text += f"; begun at step {config.start.step} of `{config.start.arm or config.start.run}`"
    return f"{text}. {config.steps:,} steps, {budget}; AdamW, learning rate {training.lr:g}, {training.schedule}."


def _routed(routing: RoutingConfig) -> str:
    """Which positions lose the distillation term, and what labels weigh there."""
    end = {"low": "lowest", "high": "highest"}[routing.tail]
    if routing.by.is_random:
        which = "at random"
    elif routing.quantile is not None:
        which = f"of {end} {routing.signal}"
    elif routing.nats is not None:
        which = f"of {routing.signal} {'up to' if routing.tail == 'low' else 'from'} {routing.nats:g} nats"
    else:
        which = f"of the {end} {routing.signal}"
    of = "" if routing.quantile is None else f"{100 * routing.quantile:g} % of each {routing.scope}'s "
    return f"no distillation term at {of}positions {which}, where labels weigh {routing.keep}"


def teachers(config: RunConfig) -> dict[str, str]:
    """Definitions of the run's teachers by name, parts first."""
    return {name: _settings(teacher.model_dump(mode="json")) for name, teacher in config.teachers.items()}


def _settings(value: Any) -> str:
    """A mapping as 'kind (key value, key value)', what is null or false left out; another value as it is."""
    if isinstance(value, list):
        return "[" + ", ".join(_settings(part) for part in value) + "]"
    if not isinstance(value, Mapping):
        return f"{value:g}" if isinstance(value, float) else str(value)
    given = {k.replace("_", " "): v for k, v in value.items() if k != "kind" and v is not None and v is not False}
    inside = ", ".join(key if v is True else f"{key} {_settings(v)}" for key, v in given.items())
    if "kind" not in value:
        return f"({inside})"
    return f"{value['kind']} ({inside})" if inside else str(value["kind"])
