"""The words of the field, explained where they stand: a page marks the ones that it uses, and lists all at its end.

A marked word says what it means while the pointer or the keyboard's focus is on it.
"""

import re
from html import escape

WORDS: dict[str, str] = {
    "spt": "Standard pretraining: cross-entropy with the hard label only. The undistilled twin.",
    "dpt": "Distilled pretraining: the hard label's cross-entropy and the KL to a teacher's law, mixed; dpt-90 is 90 % "
    "teacher.",
    "twins": "Two runs of one seed: the same initial weights and the same batches, trained on other targets.",
    "seed": "One choice of initial weights and batches. Seeds are what an experiment repeats: one proves nothing.",
    "teacher": "Whose law of the next token a distilled student learns from, beside the label.",
    "oracle": "The exact Bayes-optimal law of the next token, given all tokens before it. No model does better.",
    "trigger": "A token after which each sequence has its own target: what came after it last time comes again.",
    "occurrence": "How many times a trigger has come so far, this one included. At the first, its target is unknown; "
    "from the second on it can be copied.",
    "copying": "Saying at a trigger what followed it earlier in this sequence. Takes two heads that work together.",
    "copy accuracy": "How often the likeliest guess is right at a trigger's second or later occurrence; 0 to 1.",
    "copy loss": "Cross-entropy at a trigger's second or later occurrence, in nats.",
    "copy excess": "Copy loss less the oracle's, in nats: 0 is perfect, more is worse.",
    "no matching": "What a guesser reaches who knows the world and all that followed triggers, but not after which "
    "trigger each came. Copy accuracy means something only above it.",
    "lookup heads": "Heads that attend from a trigger to what followed it last time: the induction heads here.",
    "lookup head": "A head that attends from a trigger to what followed it last time: an induction head.",
    "previous-token heads": "Heads of an earlier layer that attend from a trigger's successor back to the trigger; "
    "lookup heads read what they write.",
    "knocking out": "Replacing what heads write by its mean over held-out sequences (mean ablation).",
    "controls": "The same knock-out of as many other heads, or of as large a random part of what the heads write: what "
    "any damage of this size costs.",
    "ordinary rows": "Positions whose token is no trigger: the next token follows the transition matrix.",
    "row entropy": "Entropy of a token's row of the transition matrix, in nats: how uncertain its successor is.",
    "KL": "Kullback-Leibler divergence of the model from the oracle, in nats: what its wrong law costs a token.",
    "nats": "Units of information with the natural logarithm: 1 nat is 1.44 bits; guessing among 64 tokens costs 4.16.",
    "forms copying": "Reaches, and keeps for three evaluations, a copy accuracy half-way between what needs no "
    "circuit and the oracle's.",
    "routing": "Taking the distillation term away from some positions, as the paper does where the teacher is surest; "
    "the opposite route leaves it there alone.",
    "manipulation checks": "Whether what an arm is taught is what the study says, whatever its students do.",
    "table without context": "The next token's law by the current token alone, counted in the same data under the same "
    "objective: what a model without circuits can learn.",
    "95 % interval": "Paired t interval over seeds: an interval that covers the true mean difference 95 times in 100.",
}
"""By the word as it is written; a plural has its own line where it differs by more than an s."""

_LONGEST_FIRST = sorted(WORDS, key=len, reverse=True)
_PATTERN = re.compile(rf"(?<![\w/-])({'|'.join(re.escape(word) for word in _LONGEST_FIRST)})(s?)(?![\w/])")


def marked(text: str) -> str:
    """Plain text as HTML, escaped, each word of the glossary marked where it first stands."""
    seen: set[str] = set()

    def mark(match: "re.Match[str]") -> str:
        word = match[1]
        if word in seen:
            return match[0]
        seen.add(word)
        return f'<dfn tabindex="0" aria-describedby="{_anchor(word)}">{match[0]}</dfn>'

    return _PATTERN.sub(mark, escape(text))


def glossary() -> str:
    """All words and what they mean, as a list."""
    lines = "".join(f'<dt>{escape(word)}</dt><dd id="{_anchor(word)}">{escape(WORDS[word])}</dd>' for word in WORDS)
    return f"<dl>{lines}</dl>"


def _anchor(word: str) -> str:
    return "word-" + re.sub(r"\W+", "-", word.lower())
