"""Every figure, drawn from tables of five arms and two seeds, all derived from one micro run."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

import mechdistill as md
from mechdistill.evals import describe
from mechdistill.plots import drawings, induction_scores_figure, plain_figure, sandbox_figure
from mechdistill.runs import Run
from mechdistill.stats import (
    Case,
    compare_twins,
    dynamics,
    early_warning,
    learning_speed,
    predicted_risk,
    scorecard,
    variance_shares,
)
from mechdistill.tables import LATER, MEASURES, VARIANCE, frame, last_step, metrics, with_arms
from mechdistill.world import KnownWorld

ARMS = ["spt", "dpt-90", "dpt-90-random-route", "mine-with-a-name-that-is-long", "other"]
SEEDS = (0, 1)


def tables(run: Run) -> dict[str, pd.DataFrame]:
    """By the names of `Drawing.tables`."""
    differences = pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "metric": metric, "value": float(seed * (i + 1))}
            for i, arm in enumerate(ARMS)
            for seed in range(4 if arm != "other" else 2)
            for metric in ("kl", "copy-excess", "formation-tokens")
        ]
    )
    return {
        "metrics": _of_arms(_routing(run.metrics())),
        "compare": with_arms(compare_twins(differences, "spt"), ARMS),
        "induction-scores": _of_arms(md.induction_scores(run, "all")),
        **_dynamics(),
        "claims": _claims(),
        "variance-shares": _variance(),
        **_rows(_of_arms(md.row_curves(run))),
        "ablate": _of_arms(md.ablate(run)),
        "circuits": _of_arms(md.wiring(run)),
        "in-context": _of_arms(md.in_context(run)),
        "diversity": _of_arms(md.diversity(run)),
        "pass-at-k": _of_arms(md.pass_at_k(run)),
        "match": _of_arms(md.match_heads(run, run)),
    }


def _dynamics() -> dict[str, pd.DataFrame]:
    """Of logistic curves, of which one arm's do not form."""
    steps, parts = np.arange(0, 200, 5), ("trigger-lookup", "copy-accuracy")
    curves = pd.concat(
        [
            pd.DataFrame({"run": f"{arm}/seed-{seed}", "arm": arm, "seed": seed, "metric": part, "step": steps}).assign(
                value=(arm != "other") / (1 + np.exp(-0.1 * (steps - 60 - 9 * i - 7 * j - 3 * seed)))
            )
            for i, arm in enumerate(ARMS)
            for seed in range(4)
            for j, part in enumerate(parts)
        ],
        ignore_index=True,
    ).assign(tokens=lambda rows: rows["step"] * 64)
    table = dynamics(curves, parts, "copy-accuracy", {"copy-accuracy": 0.5}, 0.1)
    warning = early_warning(curves, table[table["metric"] == "copy-accuracy"])
    return {"dynamics": with_arms(table, ARMS), "early-warning": with_arms(warning, ARMS)}


def _claims() -> pd.DataFrame:
    """One claim that holds, one without an interval, the others not tested; of one a table says the opposite."""
    rng = np.random.default_rng(0)
    means = {"dpt-90": (0.4, 0.1, 0.75), "spt": (0.1, 0.0, 0.0)}
    names = ("copy-excess", "teacher-rows", "teacher-copying")
    values = pd.DataFrame(
        [
            {"role": role, "seed": seed, "quantity": name, "value": mean + 0.01 * rng.normal()}
            for role, of_role in means.items()
            for name, mean in zip(names, of_role, strict=True)
            for seed in range(5)
        ]
    )
    null = values.assign(value=0.1 + 0.001 * rng.normal(size=len(values)))
    cast = {"dpt-90": ARMS[1], "spt": ARMS[0]}
    return scorecard({"C3": Case(cast, values, null, frozenset(cast)), "C4": Case(cast, values, null, frozenset(cast))})


def _variance() -> pd.DataFrame:
    crossing = np.add.outer(3.0 * np.arange(3), np.array([0.0, 0.5, -1.0])) + np.eye(3)
    factors = ("init", "data", "rest")
    return with_arms(
        frame(
            VARIANCE,
            [
                {
                    "metric": metric,
                    "arm": arm,
                    "factor": factor,
                    "share": part.share,
                    "low": part.low,
                    "high": part.high,
                }
                | {"low": part.low, "high": part.high, "variance": part.variance, "clamped": part.clamped, "n": 9}
                for metric in ("kl", "formation-tokens")
                for arm in ARMS
                for factor, part in zip(factors, variance_shares(crossing), strict=True)
            ],
        ),
        ARMS,
    )


def _rows(curves: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Row curves and what they come to."""
    known = curves[(curves["metric"] == "squared-error") & curves["row"].notna() & (curves["arm"] == "spt")]
    teacher = known[known["step"] == known["step"].max()][["seed", "row", "value"]]
    tabular = known[["seed", "tokens", "row", "value"]]
    foretold = [
        predicted_risk(curves, teacher, tabular, arm=arm, baseline="spt", alpha=0.5) for arm in ("dpt-90", "other")
    ]
    return {
        "row-curves": curves,
        "predicted-risk": with_arms(pd.concat(foretold, ignore_index=True), ARMS),
        "learning-speed": with_arms(learning_speed(curves, "spt"), ARMS),
    }


def figures(
    tables: dict[str, pd.DataFrame], world: KnownWorld, described: pd.DataFrame | None = None
) -> dict[str, go.Figure]:
    """All that are not None, by name."""
    drawn = {drawing.name: drawing.draw(*(tables[name] for name in drawing.tables)) for drawing in drawings()}
    rows = tables["row-curves"]
    drawn |= {
        "heads, slider": induction_scores_figure(tables["induction-scores"]),
        "plain, curves": plain_figure(MEASURES["row-curves"], rows),
        "plain, bars": plain_figure(MEASURES["row-curves"], last_step(rows[rows["row"].isna()])),
        "world": sandbox_figure(world, describe(world) if described is None else described),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _of_arms(table: pd.DataFrame) -> pd.DataFrame:
    """The run's table once for every arm and seed, values a little apart."""
    rng = np.random.default_rng(0)
    parts = [
        table.assign(arm=arm, run=f"{arm}/seed-{seed}", seed=seed, value=table["value"] * rng.uniform(0.8, 1))
        for arm in ARMS
        for seed in SEEDS
    ]
    return with_arms(pd.concat(parts, ignore_index=True), ARMS)


def _routing(log: pd.DataFrame) -> pd.DataFrame:
    """The log as of a run that routes."""
    last = log[log["step"] == log["step"].max()].head(4).reset_index(drop=True)
    named = (metrics.ROUTED, metrics.ROUTING_PRECISION, metrics.ROUTING_RECALL, metrics.TEACHER_COPY_MASS)
    rows = last.assign(
        metric=[metric.name for metric in named],
        value=[0.2, 0.5, 0.8, 0.9],
        occurrence=pd.Series([None, None, None, LATER], dtype="string"),
        bucket=pd.Series([None] * 4, dtype="Int64"),
    )
    return pd.concat([log, rows], ignore_index=True)
