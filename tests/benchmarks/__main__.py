"""Run the pairs and print them: `python -m tests.benchmarks [--rounds N] [--steps N] [--set KEY=VALUE] [NAME ...]`."""

import argparse
import statistics

import torch

from tests.benchmarks import pairs, query, scoring

# name: the pair, its goal (a ratio, or seconds), and whether more is better
PAIRS = {
    "train loop / plain PyTorch step": (pairs.loop_against_plain, 0.85, True),
    "train loop / boot_native bridge step": (pairs.loop_against_bridge, 1.5, True),
    "distilled step / step + teacher forward": (pairs.distilled_against_parts, 1.15, False),
    "sampler / per-token choice loop": (pairs.sampler_against_loop, 150.0, True),
    "cached sampler / uncached": (pairs.cached_against_uncached, 5.0, True),
    "every head ablated / a hooked pass each": (pairs.ablation_against_hooks, 3.0, True),
    "bare forward passes / scores of checkpoints": (scoring.scores_against_forward, 0.6, True),
    "--help / import torch": (pairs.help_against_torch, 4.0, True),
    "peak memory growth, train / plain loop": (pairs.memory_against_plain, 1.3, False),
    "sql over 500 runs - DuckDB on one file, s": (query.seconds_beyond_one_file, 1.0, False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="run only pairs whose name contains one of these")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE, to measure another model")
    arguments = parser.parse_args()
    pairs.SETTINGS.extend(arguments.set)
    torch.set_num_threads(1)
    print(f"{'pair':42} {'median':>8} {'min':>8} {'max':>8}   goal")
    for name, (pair, goal, more) in PAIRS.items():
        if arguments.names and not any(wanted in name for wanted in arguments.names):
            continue
        ratios = pair(arguments.rounds, arguments.steps)
        median = statistics.median(ratios)
        met = median >= goal if more else median <= goal
        print(
            f"{name:42} {median:8.2f} {min(ratios):8.2f} {max(ratios):8.2f}   "
            f"{'≥' if more else '≤'} {goal:g} {'met' if met else 'SHORT'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
