"""The verdicts on the paper's claims: all of them in one line of the first screen, and the tested ones as a table."""

from html import escape
from typing import Any

import pandas as pd

from mechdistill.report._glossary import marked
from mechdistill.report._sections import table
from mechdistill.stats import NOT_TESTED


def verdicts(scorecard: pd.DataFrame | None) -> str:
    """Every claim under its verdict in a line or two, each saying what it is about; nothing without a scorecard."""
    if scorecard is None:
        return ""
    groups: list[str] = []
    each = scorecard.drop_duplicates("claim")
    for verdict in sorted(each["claim_verdict"].unique(), key=lambda name: (name == NOT_TESTED, name)):
        marks = [
            f'<b title="{escape(row["statement"], quote=True)}">{escape(row["claim"])}</b>'
            for row in each[each["claim_verdict"] == verdict].to_dict("records")
        ]
        kind = str(verdict).replace(" ", "-")
        groups.append(f'<span class="{kind}">{escape(str(verdict))}: {", ".join(marks)}</span>')
    return f'<p class="claims">The claims of arXiv 2509.01649 here: {"; ".join(groups)}.</p>'


def claims_section(scorecard: pd.DataFrame | None) -> str:
    """Each criterion of the claims that could be tested, and why the others could not; nothing without a scorecard."""
    if scorecard is None:
        return ""
    tested = scorecard[scorecard["claim_verdict"] != NOT_TESTED]
    heads = [
        "claim",
        "says",
        "criterion",
        "effect [95 % interval]",
        "seeds",
        "verdict",
        "a table without context",
        "arms",
    ]
    rows = [_row(row) for row in tested.to_dict("records")]
    others = scorecard[scorecard["claim_verdict"] == NOT_TESTED].drop_duplicates("claim")
    reasons = "".join(
        f"<li><b>{escape(row['claim'])}</b> {escape(row['statement'])}: {escape(str(row['note']))}</li>"
        for row in others.to_dict("records")
    )
    said = (
        "Supported: the interval lies on the claim's side of no effect and the estimate reaches the threshold; of an "
        "equivalence, the interval lies inside its bounds. Contradicted: the interval excludes the threshold. What a "
        "table without context shows as well, with the same data and objective, is not about circuits."
    )
    shown = table(heads, rows) if rows else ""
    missing = f"<details><summary>Not tested: {len(others)}</summary><ul>{reasons}</ul></details>" if reasons else ""
    return f'<section id="claims"><h2>Do the paper\'s claims hold?</h2><p>{marked(said)}</p>{shown}{missing}</section>'


def _row(row: dict[Any, Any]) -> list[str]:
    null = "" if pd.isna(row["null_verdict"]) else f"{_estimate(row, 'null_effect', 'null_low', 'null_high')}: "
    return [
        row["claim"],
        row["statement"],
        row["criterion"],
        _estimate(row, "effect", "low", "high"),
        str(row["n"]),
        row["verdict"],
        f"{null}{row['null_verdict']}" if null else "-",
        "-" if pd.isna(row["arms"]) else row["arms"],
    ]


def _estimate(row: dict[Any, Any], effect: str, low: str, high: str) -> str:
    if pd.isna(row[effect]):
        return "-"
    ends = "" if pd.isna(row[low]) else f" [{row[low]:.3g}, {row[high]:.3g}]"
    return f"{row[effect]:.3g}{ends}"
