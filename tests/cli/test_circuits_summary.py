"""What the terminal and LaTeX say of circuits: also where there is nothing to say."""

from mechdistill.cli._latex import latex
from mechdistill.cli.summaries import circuits as summary
from mechdistill.tables import CIRCUITS, frame, with_run
from mechdistill.tables.metrics import COPY_GAP


def test_a_model_that_tells_no_copy_from_another_has_a_table_that_says_so() -> None:
    rows = frame(CIRCUITS, [COPY_GAP.row(-0.001, p=0.25)])
    (grid,) = summary(with_run(rows.assign(step=15, tokens=1), run="spt/seed-0", arm="spt", seed=0))
    title, heads, numbers = (line.text for line in grid.lines(80))
    assert title == "spt/seed-0 at step 15: tells no copy from another, so no edge recovers any"
    assert heads.split() == ["copy", "gap,", "logits", "p"]
    assert [float(cell) for cell in numbers.split()] == [-0.001, 0.25]
    assert latex(grid).count("&") == 2
