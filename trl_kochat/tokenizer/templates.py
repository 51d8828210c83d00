"""Chat templates of our own: plain-text `ko_instruct`, and `chatml` for vocabularies that hold its tokens."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ..encode import encode_texts
from ..errors import InputError
from .training import training_template


_FOLDER = Path(__file__).parent / "chat_templates"
# Tokens that a template writes and that must be single tokens of the vocabulary.
_TOKENS_OF_TEMPLATE = {"chatml": ("<|im_start|>", "<|im_end|>")}


def template_names() -> list[str]:
    return sorted(path.stem for path in _FOLDER.glob("*.jinja"))


def read_template(name: str) -> str:
    """The jinja text of one of our templates.

    Raises:
        ValueError: There is no template of that name.
    """
    if name not in template_names():
        raise InputError(f"No chat template {name!r}; there are {', '.join([*template_names(), 'training'])}.")
    return (_FOLDER / f"{name}.jinja").read_text(encoding="utf-8").rstrip("\n")


def set_chat_template(tokenizer: PreTrainedTokenizerBase, name: str) -> PreTrainedTokenizerBase:
    """Install a chat template in place and return the tokenizer. No token is added.

    `ko_instruct` is the KoChatGPT course's prompt, `"### Instruction(명령어):\\n{prompt}\\n\\n### Response(응답):"`, the
    answer and the tokenizer's own EOS. A system text stands before the first instruction, followed by an empty line.
    `koalpaca` and `kullm` are the prompts that the models of these names were trained with, which have no template of
    their own. `chatml` needs `<|im_start|>` and `<|im_end|>` as single tokens. All carry `{% generation %}` markers
    around the answer and the token that ends it, so that `assistant_only_loss` works. Where the tokenizer begins every
    text with a BOS of its own (Gemma, Llama), so does the template: Gemma without it writes nothing of sense.

    `training` is the tokenizer's own template with such markers (see [`training_template`]).

    Raises:
        ValueError: Unknown name, a tokenizer without EOS, one whose vocabulary lacks the template's tokens, or an own
            template that cannot be marked.
    """
    if name == "training":
        tokenizer.chat_template = training_template(tokenizer)
        return tokenizer
    template = read_template(name)
    for token in _TOKENS_OF_TEMPLATE.get(name, ()):
        (ids,) = encode_texts(tokenizer, [token], add_special_tokens=False)
        if len(ids) != 1 or tokenizer.convert_ids_to_tokens(ids) != [token]:
            raise InputError(
                f"{name} needs {token} as a single token; this vocabulary writes it as {len(ids)} tokens. Use "
                "set_chat_template(tokenizer, 'ko_instruct'), which needs no token but EOS, or add the tokens and "
                "train the embeddings yourself (trl.clone_chat_template)."
            )
    if tokenizer.eos_token is None:
        raise InputError(f"{name} ends every answer with EOS, and this tokenizer has none; set tokenizer.eos_token.")
    tokenizer.chat_template = "{{- bos_token -}}" + template if _begins_with_bos(tokenizer) else template
    return tokenizer


def _begins_with_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    (ids,) = encode_texts(tokenizer, [""])
    bos = tokenizer.bos_token_id
    return bos is not None and bos != tokenizer.eos_token_id and ids[:1] == [bos]
