import json
import re
from collections.abc import Iterator
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest

from mechdistill.evals import describe
from mechdistill.plots import drawings, plain_figure, sandbox_figure
from mechdistill.plots._text import broken, shortened
from mechdistill.runs import Experiment
from mechdistill.tables import METRIC_COLUMNS, Column, Measure

EVIL = '<img src=x onerror=alert(1)><a href="http://x">%{x} &lt;'
OURS = re.compile(r"<br>|<extra></extra>")


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)
    elif isinstance(value, str):
        yield value


def check(figure: go.Figure) -> int:
    """Fails where there is markup, or what was escaped twice; else how often the text is shown."""
    found = list(texts(json.loads(figure.to_json())))
    assert not [text for text in found if "<" in OURS.sub("", text) or "&amp;amp;" in text]
    return sum("&lt;img src=x" in text for text in found)


def test_text_of_tables_is_no_markup(tables: dict[str, pd.DataFrame]) -> None:
    """In every text column of every table, in place of one value, and, where that leaves something to draw, of all."""
    shown = 0
    for name, table in tables.items():
        for column in table.columns[[pd.api.types.is_string_dtype(kind) for kind in table.dtypes]]:
            values = table[column].dropna().unique()
            tried = [{values[-1]: EVIL + values[-1]}] if len(values) else []
            if column in ("run", "note", "heads", "baseline"):
                tried.append({value: EVIL + value for value in values})
            for change in tried:
                changed = table.assign(**{column: table[column].replace(change)})
                changed.attrs = table.attrs
                for drawing in drawings():
                    if name in drawing.tables:
                        figure = drawing.draw(*(changed if of == name else tables[of] for of in drawing.tables))
                        shown += 0 if figure is None else check(figure)
    assert shown > 100


def test_symbols_questions_and_labels_are_no_markup(trained: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    world = trained.run("spt/seed-0").world
    monkeypatch.setattr(world, "symbols", [f"{EVIL}{i}" for i in range(world.vocab)])
    assert check(sandbox_figure(world, describe(world))) > world.vocab
    measure = Measure(
        "evil", (*METRIC_COLUMNS, Column("place", "string", "where")), question=EVIL, compute=lambda subject: None
    )
    run = {"run": "a", "arm": "a", "seed": 0, "step": 1, "tokens": 1}
    table = pd.DataFrame([{**run, "metric": EVIL, "value": 1.0, "place": EVIL}])
    assert check(plain_figure(measure, table)) >= 3


def test_lines_break_inside_names_only_where_that_saves_one() -> None:
    assert broken("dpt-90-random-route/seed-0 @30", 22) == "dpt-90-random-route/\nseed-0 @30"
    assert broken("copy excess at ≥ 2", 17) == "copy excess at\n≥\u00a02"
    assert broken("a-very-long-name", 8) == "a-very-\nlong-\nname"
    assert broken("x" * 20, 8).split("\n") == ["x" * 8, "x" * 8, "x" * 4]
    assert broken("", 8) == ""


def test_shortened_names_stay_apart() -> None:
    names = ["spt", "x" * 20 + "a" + "x" * 20, "x" * 20 + "b" + "x" * 20]
    short = shortened(names, 9)
    assert list(short) == names
    assert len(set(short.values())) == 3
    assert shortened(names[:2], 9) == {"spt": "spt", names[1]: "xxxx…xxxx"}
