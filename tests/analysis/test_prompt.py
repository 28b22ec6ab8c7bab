import pandas as pd
import pytest
import torch

import mechdistill as md
from mechdistill.runs import Experiment
from tests.helpers import world


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
        ("xyz", "prompt symbol 'x'"),
    ):
        with pytest.raises(md.MechdistillError, match=message):
            md.prompt(run, tokens)


def test_public_names_are_all_there() -> None:
    for name in md.__all__:
        assert getattr(md, name) is not None
    assert set(md.__all__) | {"induction_scores", "row_curves", "ablate"} == set(dir(md))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = md.nothing
    assert world().symbols == tuple(str(i) for i in range(12))
