import torch

from mechdistill.config import ModelConfig
from mechdistill.model import Bigram, build


def test_it_is_a_table_of_the_current_token() -> None:
    model = build(ModelConfig(kind="bigram"), d_vocab=5, n_ctx=8, init_seed=0)
    assert isinstance(model, Bigram)
    assert (model(torch.arange(5)[None]) == 0).all(), "it starts from the uniform law"
    table = torch.randn(5, 5)
    model.load_state_dict({"table": table})
    torch.testing.assert_close(model(torch.tensor([[3, 3, 0]])), table[torch.tensor([[3, 3, 0]])])
