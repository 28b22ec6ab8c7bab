"""A world's symbols as a tokenizer that transformers opens: token i is the symbol of token i, and text of them is read
back as the tokens that it was written from."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mechdistill.errors import MechdistillError, quoted

UNKNOWN = "<|endoftext|>"
"""What text is taken for that is no symbol. Its id lies beyond the model's vocabulary, so that a model which is given
it raises instead of reading something else. It is GPT-2's name for it, and what tools put before a text, as a token of
its own, where a tokenizer has none for that."""


def tokenizer(symbols: Sequence[str], n_ctx: int) -> Any:
    """A `PreTrainedTokenizerFast` of `len(symbols)` tokens and `UNKNOWN`.

    Symbols stand apart by white space, as "12 7 0"; where all are single characters and one is no digit, text is read
    character by character, white space included.

    Raises `MechdistillError` naming a symbol from which text could not be read back.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    characters = all(len(symbol) == 1 for symbol in symbols) and not all(symbol.isdigit() for symbol in symbols)
    refused = _unreadable(symbols, characters)
    if refused is not None:
        raise MechdistillError(refused)
    ids = {symbol: token for token, symbol in enumerate([*symbols, UNKNOWN])}
    core = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    if characters:
        core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        core.decoder = decoders.Fuse()
    else:
        core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.add_special_tokens([AddedToken(UNKNOWN, special=True, normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token=UNKNOWN, model_max_length=n_ctx, clean_up_tokenization_spaces=False
    )


def tokenizer_files(symbols: Sequence[str], n_ctx: int) -> dict[str, str]:
    """The files of `tokenizer` by name, as `AutoTokenizer.from_pretrained` opens them."""
    words = tokenizer(symbols, n_ctx)
    config = {
        "clean_up_tokenization_spaces": words.clean_up_tokenization_spaces,
        "model_max_length": words.model_max_length,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": words.unk_token,
    }
    return {
        "tokenizer.json": words.backend_tokenizer.to_str(pretty=True),
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
    }


def _unreadable(symbols: Sequence[str], characters: bool) -> str | None:
    """What is wrong with the first symbol that text could not be read back from."""
    for symbol, times in Counter(symbols).items():
        where = f"symbol {quoted(symbol)}"
        if times > 1:
            return f"{where}: stands for {times} tokens, so text of it has no one reading; publish --format native"
        if symbol == UNKNOWN:
            return f"{where}: is what the tokenizer calls text that is no symbol; publish --format native"
        if not characters and symbol.split() != [symbol]:
            return f"{where}: holds white space, which parts symbols in text, or nothing; publish --format native"
    return None
