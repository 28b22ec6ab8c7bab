"""The terminal's tables as LaTeX (booktabs), to be put into a paper. Pure: tables in, text out."""

import re
from collections.abc import Iterable

from mechdistill.cli._grid import Grid
from mechdistill.errors import visible

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "\u00a0": "~",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{
        sign: f"$\\{name}$"
        for sign, name in {
            "≥": "geq",
            "≤": "leq",
            "±": "pm",
            "×": "times",
            "→": "rightarrow",
            "←": "leftarrow",
            "≈": "approx",
            "∞": "infty",
            "·": "cdot",
            "…": "dots",
            "Δ": "Delta",
            "Σ": "Sigma",
            "α": "alpha",
            "β": "beta",
            "μ": "mu",
            "µ": "mu",
            "π": "pi",
            "σ": "sigma",
        }.items()
    },
    **{sign: f"$_{i}$" for i, sign in enumerate("₀₁₂₃₄₅₆₇₈₉")},
    **{sign: f"$^{i}$" for i, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    "−": "$-$",
}
"""What LaTeX reads as a command, what it would curl, and what its usual fonts lack of the signs that we write."""


def document(tables: Iterable[Grid]) -> str:
    """All tables, each a float with its title as caption."""
    return (
        "% \\usepackage{booktabs} and, for quotes, \\usepackage[T1]{fontenc}, before 2020 textcomp too\n"
        + "\n".join(map(latex, tables))
    )


def latex(grid: Grid) -> str:
    """A table with all of its columns, however narrow the terminal is: names to the left, numbers to the right."""
    columns = "".join("l" if i in grid.texts else "r" for i in range(len(grid.columns)))
    lines = ["\\begin{table}[htbp]", "\\centering"]
    lines += [f"\\caption{{{escaped(grid.title)}}}"] if grid.title else []
    lines += [f"\\begin{{tabular}}{{{columns}}}", "\\toprule", _row(map(escaped, grid.columns)), "\\midrule"]
    lines += [
        _row(escaped(cell) if i in grid.texts else _number(cell) for i, cell in enumerate(row)) for row in grid.rows
    ]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""])


def escaped(text: str) -> str:
    """Text as LaTeX shows it, whatever it holds."""
    shown = "".join(_SPECIAL.get(sign, sign) for sign in visible(text))
    return re.sub("-(?=-)|,(?=,)", r"\g<0>{}", shown)  # else a dash, or a quote


def _number(cell: str) -> str:
    """With a minus sign where it is negative, and a dash where there is none."""
    return "--" if cell == "-" else re.sub(r"(?<![\w.])-(?=\.?\d)", "$-$", escaped(cell))


def _row(cells: Iterable[str]) -> str:
    # a bracket or a star after \\ would be read as its argument, and begins no cell of ours
    return " & ".join(f"{{{cell}}}" if cell.startswith(("[", "*")) else cell for cell in cells) + r" \\"
