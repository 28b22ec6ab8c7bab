from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import mechdistill as md
from mechdistill.runs import Experiment
from mechdistill.tables import MEASURES
from tests.helpers import micro, only, world


def test_a_prompt_shows_what_the_model_and_the_oracle_say(trained: Experiment) -> None:
    run = trained.run("spt/seed-0")
    seen = md.prompt(run, [3, 1, 4, 1, 5])
    model = run.model()
    tokens = torch.tensor([[3, 1, 4, 1, 5]])
    torch.testing.assert_close(seen.logits, model(tokens), rtol=1e-4, atol=1e-5)
    law, log_probs = run.sandbox.law(tokens)[0], model(tokens)[0].log_softmax(-1)
    table = seen.table
    assert table["token"].tolist() == [3, 1, 4, 1, 5]
    assert table["guess"].tolist() == [str(t) for t in log_probs.argmax(-1).tolist()]
    assert table["oracle_probability"].tolist() == pytest.approx(law.exp().amax(-1).tolist())
    assert table["next_probability"].tolist()[:-1] == pytest.approx(
        [log_probs[i, t].exp().item() for i, t in enumerate([1, 4, 1, 5])], rel=1e-4
    )
    assert pd.isna(table["next_probability"].iloc[-1])
    assert (table["kl"] > 0).all()
    assert seen.pattern(1, 0).shape == (5, 5)
    torch.testing.assert_close(seen.pattern(0, 1).sum(-1), torch.ones(5))


def test_prompts_that_do_not_fit_the_world_are_refused(trained: Experiment) -> None:
    run = trained.run("spt/seed-0")
    for tokens, message in (
        ([], "prompt of 0 tokens"),
        (list(range(12)) * 2, "prompt of 24 tokens: must have between 1 and seq_len = 16"),
        ([1, 12], "prompt token 12: must be between 0 and vocab - 1 = 11"),
        ("41", "prompt '41': this world's tokens are numbers"),
        ("", "prompt '': this world's tokens are numbers"),
        (torch.tensor([[3, 1], [4, 1]]), r"prompt of shape \[2, 2\]: must be one sequence"),
        ([[3, 1]], r"prompt of shape \[1, 2\]: must be one sequence"),
        ([[3], [1, 4]], "every sequence must have the same length"),
        ([1, 1.7], "token 1.7: must be a whole number"),
        (torch.tensor([1.0, 2.0]), "tokens of torch.float32: must be whole numbers"),
        ([True, 2], "token True: must be a whole number"),
        (np.array([True]), "tokens of bool: must be whole numbers"),
        ([1, "2"], "token '2': must be a whole number"),
        ([1, None], "token None"),
        (3, "tokens 3: must be a list or a tensor"),
        (None, "tokens None"),
        ({1: 2}, "tokens {1: 2}"),
        ([-1], "prompt token -1"),
    ):
        with pytest.raises(md.MechdistillError, match=message):
            md.prompt(run, tokens)
    for no_run in (trained, str(run.path), None):
        with pytest.raises(md.MechdistillError, match=r"^run=.*: must be a run"):
            md.prompt(no_run, [1])
    with pytest.raises(md.MechdistillError, match="layer 2, head 0: the model has no such head"):
        md.prompt(run, [1]).pattern(2, 0)


def test_public_names_are_all_there() -> None:
    for name in md.__all__:
        assert getattr(md, name) is not None
    assert set(md.__all__) | {measure.function_name for measure in MEASURES.values()} == set(dir(md))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = md.nothing
    assert world().symbols == tuple(str(i) for i in range(12))


def test_whole_numbers_of_any_kind_make_the_same_prompt(trained: Experiment) -> None:
    run = trained.run("spt/seed-0")
    expected = md.prompt(run, [3, 1, 4]).logits
    for same in (np.array([3, 1, 4]), torch.tensor([3, 1, 4]), (3, 1, 4), [np.int8(3), torch.tensor(1), 4]):
        assert torch.equal(md.prompt(run, same).logits, expected)


def test_only_a_world_of_text_is_spelled(tmp_path: Path) -> None:
    """Its symbols may be digits: there "10" is those two symbols, and nothing else."""
    text = tmp_path / "digits.txt"
    text.write_text("0102213021435465" * 20)
    config = micro(
        sandbox={"vocab": 7, "rows": only(kind="corpus", path=str(text)), "triggers": {"count": 1}}, arms=only(spt={})
    )
    md.train(config, tmp_path / "out")
    run = md.load(tmp_path / "out").run("spt/seed-0")
    assert [run.world.symbols[token] for token in md.prompt(run, "1002").tokens[0]] == ["1", "0", "0", "2"]
    with pytest.raises(md.MechdistillError, match="prompt symbol '9': this world has"):
        md.prompt(run, "19")
