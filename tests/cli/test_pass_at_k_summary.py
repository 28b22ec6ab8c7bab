import pandas as pd

from mechdistill.cli.summaries import pass_at_k
from mechdistill.tables import PASS_AT_K, frame, with_run


def test_a_line_a_run_says_what_one_of_k_samples_comes_to() -> None:
    def row(metric: str, value: float, k: int | None = None, temperature: float | None = None, *, exact: bool = True):
        return {"metric": metric, "value": value, "task": "chains", "k": k, "temperature": temperature, "exact": exact}

    rows = [row("pass-at-k", k / 1000, k, 1.0) for k in (1, 4, 16, 64, 256)]
    rows += [row("pass-at-k", 0.0175, 16, 1.0, exact=False), row("pass-at-k", 0.021, 16, 0.5)]
    rows += [row("pass-at-k-optimum", 0.03, 16), row("regret", 0.014, 16, 1.0)]
    rows += [row("majority-vote", 0.002, 16, 1.0, exact=False), row("enumerated-mass", 0.67)]
    table = with_run(frame(PASS_AT_K, rows), run="spt/seed-0", arm="spt", seed=0, step=9, tokens=90)
    earlier = table.assign(step=4, value=0.9)
    (grid,) = pass_at_k(pd.concat([earlier, table], ignore_index=True))
    assert "chains" in grid.title
    assert "67%" in grid.title
    values = dict(zip(grid.columns, grid.rows[0], strict=True))
    assert values == {
        "run": "spt/seed-0",
        "step": "9",
        "pass@1": "0.0010",
        "pass@4": "0.0040",
        "pass@16": "0.0160",
        "pass@64": "0.0640",
        "pass@256": "0.2560",
        "@16 sampled": "0.0175",
        "@16 possible": "0.0300",
        "@16 regret": "0.0140",
        "@16 best temperature": "0.0210 at 0.5",
        "vote of 16 (from samples)": "0.0020",
    }
    assert len(grid.rows) == 1
    narrow = [line.text for line in grid.lines(60)]
    assert any("pass@16" in line for line in narrow)
