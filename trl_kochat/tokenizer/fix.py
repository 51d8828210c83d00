"""`fix_tokenizer`: repairs that lose nothing."""

import copy
import inspect
import logging
from dataclasses import replace
from typing import Any

from transformers import (
    AddedToken,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from ..errors import InputError
from ..findings import Finding, worst_first
from .check import findings_of
from .examined import ROLES, ExaminedTokenizer, as_ids
from .special_tokens import better_token, configs_of, disagreements, is_role_only


logger = logging.getLogger(__name__)

# Codes whose finding is about one role, repaired by giving the role an existing token.
_ROLE_OF_CODE = {
    "no_bos": "bos_token",
    "no_eos": "eos_token",
    "unk_is_eos": "unk_token",
    "no_unk": "unk_token",
    "no_pad": "pad_token",
    "pad_is_eos": "pad_token",
}

# What a rebuilt tokenizer keeps.
_SETTINGS = (
    "chat_template",
    "padding_side",
    "truncation_side",
    "model_max_length",
    "model_input_names",
    "clean_up_tokenization_spaces",
    "split_special_tokens",
    "name_or_path",
)


def fix_tokenizer(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel | PreTrainedConfig | None = None
) -> tuple[PreTrainedTokenizerBase, list[Finding]]:
    """Repair what can be repaired without losing anything, and say what was found.

    The pipeline is rebuilt from the tokenizer's own tokenizer.json, empty or wrong roles get special tokens that the
    vocabulary already has, `token_type_ids` are dropped, and the model's `config` and `generation_config` are brought
    in line, in place. No embedding is resized, no token invented, and BOS and EOS keep their meaning. Chat template,
    padding side and maximum length are kept.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): It is not changed.
        model ([`~transformers.PreTrainedModel`] or [`~transformers.PreTrainedConfig`], *optional*): Its configs are
            brought in line with the tokenizer.

    Returns:
        The tokenizer to use, the given one when nothing was to do, and the findings of
        [`check_tokenizer`] with `fixed` telling which of them a second check no longer makes.

    Raises:
        ValueError: There is no EOS and no special token that must be it.
    """
    return repair(ExaminedTokenizer(tokenizer, model))


def repair(examined: ExaminedTokenizer) -> tuple[PreTrainedTokenizerBase, list[Finding]]:
    """[`fix_tokenizer`] for a tokenizer whose files are known."""
    given = examined.tokenizer
    before = after = findings_of(examined)
    previous: set[str] = set()
    # A rebuilt pipeline shows what else is missing, and configs follow the tokens: repair until nothing new comes up.
    while (codes := {finding.code for finding in after if finding.fixable}) and codes != previous:
        previous = codes
        examined = ExaminedTokenizer(_repaired(examined, codes), examined.model, examined.origin)
        after = findings_of(examined)
    no_end = next((finding for finding in after if finding.code == "no_eos"), None)
    if no_end is not None:
        raise InputError(f"{no_end.message} For example load_tokenizer(..., eos_token='</s>').")
    remaining = {finding.code for finding in after}
    fixed = [replace(finding, fixed=True) for finding in before if finding.code not in remaining]
    _log_changes(given, examined.tokenizer, fixed)
    return examined.tokenizer, worst_first(fixed + after)


def _log_changes(old: PreTrainedTokenizerBase, new: PreTrainedTokenizerBase, fixed: list[Finding]) -> None:
    for finding in fixed:
        # The rest follows from these: Hangul comes back with the pipeline.
        if finding.fixable and finding.code not in _ROLE_OF_CODE:
            logger.warning("Fixed %s: %s", finding.code, finding.message)
    for role in ROLES:
        token, token_id = getattr(new, role), getattr(new, f"{role}_id")
        if token != getattr(old, role):
            logger.warning("Fixed %s: %r became %r (id %s).", role, getattr(old, role), token, token_id)


def _repaired(examined: ExaminedTokenizer, codes: set[str]) -> PreTrainedTokenizerBase:
    """The tokenizer after one round of repairs, a new one if it changed. The model's configs change in place."""
    if codes & {"pipeline_rebuilt", "outside_embedding"}:
        return _from_own_file(examined)
    if codes == {"config_disagrees"}:
        _align_configs(examined)
        return examined.tokenizer
    tokenizer = copy.deepcopy(examined.tokenizer)
    for code, role in _ROLE_OF_CODE.items():
        if code in codes:
            setattr(tokenizer, role, better_token(examined, role))
    if "eos_not_atomic" in codes:
        size = len(tokenizer)
        tokenizer.add_special_tokens({"eos_token": AddedToken(tokenizer.eos_token, normalized=False, special=True)})
        assert len(tokenizer) == size  # the token was in the vocabulary
    if "token_type_ids" in codes:
        tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
    return tokenizer


def _from_own_file(examined: ExaminedTokenizer) -> PreTrainedTokenizerBase:
    """The tokenizer as tokenizer.json describes it, with the settings and the added tokens of the one at hand.

    Raises:
        ValueError: Tokens were added that would get other ids now.
    """
    old = examined.tokenizer
    assert examined.origin.backend is not None  # a precondition of both findings
    own_vocab = examined.origin.backend.get_vocab(with_added_tokens=True)
    added = {token: token_id for token, token_id in examined.added.items() if token not in own_vocab}
    dropped = {token for token in added if is_role_only(examined, token) and not _is_users(examined, token)}
    settings: dict[str, Any] = {name: getattr(old, name) for name in _SETTINGS}
    settings |= {role: token for role, token in old.special_tokens_map.items() if token not in dropped}
    new = PreTrainedTokenizerFast(tokenizer_file=str(examined.origin.file("tokenizer.json")), **settings)
    decoder = old.added_tokens_decoder
    new.add_tokens([decoder[added[token]] for token in sorted(added.keys() - dropped, key=added.__getitem__)])
    moved = {token: token_id for token, token_id in added.items() if new.get_vocab().get(token) != token_id}
    if moved.keys() - dropped:
        raise InputError(
            f"The tokens {', '.join(moved)} were added to a tokenizer that does not follow its tokenizer.json, and "
            "would get other ids in one that does. Load with load_tokenizer first and add tokens then."
        )
    return new


def _is_users(examined: ExaminedTokenizer, token: str) -> bool:
    """Whether a token that only a role names was put there by the user, with a row of the model's embedding for it."""
    defaults = inspect.signature(type(examined.tokenizer).__init__).parameters
    of_class = {parameter.default for name, parameter in defaults.items() if name.endswith("_token")}
    return examined.model is not None and token not in of_class and examined.has_row(examined.vocab[token])


def _align_configs(examined: ExaminedTokenizer) -> None:
    """Give the model's configs the tokenizer's ids, in place. Further ends in a list of ends are kept."""
    for key in disagreements(examined):
        token_id = examined.token_id(key.removesuffix("_id"))
        for config in configs_of(examined):
            value = getattr(config, key, None)
            if token_id in as_ids(value):
                continue
            keeps_others = key == "eos_token_id" and (isinstance(value, list) or hasattr(config, "max_new_tokens"))
            setattr(config, key, [token_id, *as_ids(value)] if keeps_others and value is not None else token_id)
