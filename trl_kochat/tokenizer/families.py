"""Facts per tokenizer family that no file of the model states and no measurement can find.

A family is known by its vocabulary, not by the name of a repository, so that a fine-tuned copy is recognized too.
What a repository declares, and what can be measured, goes before this table.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from ..errors import InputError
from ..plugins import entry_points_of, load_entry_point


@dataclass(frozen=True)
class Family:
    """Special tokens of a family.

    Args:
        name (`str`): What people call it.
        vocab_size (`int`): Entries of the vocabulary, without tokens added later.
        fingerprint (`dict`): Tokens and the ids they have; all of them must agree.
        special_tokens (`dict`): Role, such as `"eos_token"`, to a token of the vocabulary.
        source (`str`): Where the family's authors say so.
    """

    name: str
    vocab_size: int
    fingerprint: Mapping[str, int]
    special_tokens: Mapping[str, str]
    source: str


FAMILIES = (
    Family(
        name="KoGPT2 v2",
        vocab_size=51200,
        fingerprint={"<s>": 0, "</s>": 1, "<usr>": 2, "<pad>": 3, "<sys>": 4, "<unk>": 5, "<mask>": 6},
        # One token for both ends is how it was trained, as its author confirms in the pull request below.
        special_tokens={
            "bos_token": "</s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": "<pad>",
            "mask_token": "<mask>",
        },
        source="https://github.com/SKT-AI/KoGPT2/pull/51",
    ),
)


def family_of(vocab: Mapping[str, int], vocab_size: int) -> Family | None:
    """The family whose size and fingerprint `vocab` (token to id) has, of ours or of another package, or `None`.

    Other packages name theirs among their entry points, `trl_kochat.tokenizer_families`.

    Raises:
        ValueError: Such an entry point cannot be loaded or is no [`Family`].
    """
    for family in chain(FAMILIES, _of_other_packages()):
        if vocab_size == family.vocab_size and family.fingerprint.items() <= vocab.items():
            return family
    return None


def _of_other_packages() -> Iterator[Family]:
    for entry in entry_points_of("tokenizer_families").values():
        family = load_entry_point(entry)
        if not isinstance(family, Family):
            raise InputError(f"The tokenizer family {entry.name!r} ({entry.value}) is a {type(family).__name__}.")
        yield family
