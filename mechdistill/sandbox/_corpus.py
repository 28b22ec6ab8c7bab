"""The text behind `corpus` rows: read, checked and hashed in one place, whatever it is read for."""

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

from mechdistill.config import MOST_OF_A_TEXT, CorpusRows, SandboxConfig
from mechdistill.errors import MechdistillError
from mechdistill.reading import read_regular


class Text(NamedTuple):
    """A text file."""

    content: str  # with \n for every kind of line end
    sha256: str  # of the file as it lies there


def read(rows: CorpusRows, vocab: int) -> Text:
    """The text of a world of `vocab` tokens.

    Raises `MechdistillError` if it cannot be read, has fewer characters, or is not the one it was.
    """
    where = f"sandbox.rows.path={rows.path}"
    try:
        data = read_regular(Path(rows.path), MOST_OF_A_TEXT)
        content = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8").read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise MechdistillError(f"{where}: must be a readable UTF-8 text file ({reason})") from None
    text = Text(content, hashlib.sha256(data).hexdigest())
    if rows.sha256 not in (None, text.sha256):
        raise MechdistillError(f"{where}: has changed since sha256 was recorded; restore the file")
    symbols = len(set(content))
    if symbols < vocab:
        raise MechdistillError(
            f"sandbox.vocab={vocab}: must be at most {symbols}, the distinct characters of {rows.path}"
        )
    return text


def pinned(config: SandboxConfig) -> SandboxConfig:
    """The same world with the hash of its text filled in, so that another text can never pass for it.

    Its path no longer depends on the working directory.
    """
    if not isinstance(config.rows, CorpusRows):
        return config
    sha256 = read(config.rows, config.vocab).sha256
    known = {"sha256": sha256, "path": str(Path(config.rows.path).absolute())}
    return config.model_copy(update={"rows": config.rows.model_copy(update=known)})
