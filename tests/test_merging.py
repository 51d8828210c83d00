"""An adapter merged into its base is the same model, in one piece."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from tests.tiny_lm import tiny_gpt2, tiny_llama, tiny_reward_model, tiny_tokenizer
from trl_kochat import merging, response_logps
from trl_kochat.measure.generate import load_generator
from trl_kochat.measure.score import load_reward_model, score_completions
from trl_kochat.merging import merge_adapter


PROMPT = [{"role": "user", "content": "불고기용 고기 한우에요?"}]
COMPLETIONS = ["네, 한우입니다.", "hello world", "몰라요."]


def adapter(base, folder, **kwargs):
    torch.manual_seed(3)
    config = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False, "task_type": "CAUSAL_LM"}
    get_peft_model(base, LoraConfig(**config | kwargs)).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    tiny_llama(hidden_size=64).save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    adapter(base, tmp_path / "adapter")
    return tmp_path


@torch.no_grad()
def logps(model):
    return torch.cat(response_logps(model.float(), tiny_tokenizer(), PROMPT, COMPLETIONS, per_token=True))


def left_in(folder):
    return {path.name for path in folder.iterdir()}


def test_the_merged_model_needs_no_peft_and_says_what_the_adapter_says(folder):
    merge = merge_adapter(folder / "adapter", folder / "out")
    with_adapter = logps(load_generator(folder / "base", [folder / "adapter"]))
    merged = AutoModelForCausalLM.from_pretrained(folder / "out")
    assert (logps(merged) - with_adapter).abs().max() < 1e-4
    assert (logps(AutoModelForCausalLM.from_pretrained(folder / "base")) - with_adapter).abs().max() > 0.5
    assert merge.dtype == torch.float32 and 0 <= merge.difference <= 1e-3 and merge.effect > 0.5
    assert merge.base == str(folder / "base") and not merge.is_reward_model
    card = (folder / "out" / "README.md").read_text(encoding="utf-8")
    assert card.count("# out") == 1 and "made from `base` by `trl-kochat merge`" in card


def test_layers_that_lie_the_other_way_round_are_merged_right(tmp_path):
    tiny_gpt2().save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    adapter(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter", fan_in_fan_out=True)
    merge_adapter(tmp_path / "adapter", tmp_path / "out")
    with_adapter = logps(load_generator(tmp_path / "base", [tmp_path / "adapter"]))
    assert (logps(AutoModelForCausalLM.from_pretrained(tmp_path / "out")) - with_adapter).abs().max() < 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_precision_is_that_of_the_base(folder, dtype):
    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    for parameter in model.parameters():  # as quiet as a trained model: rounding is small beside what it says
        parameter.data *= 0.5
    model.to(dtype).save_pretrained(folder / "base")
    merge = merge_adapter(folder / "adapter", folder / "out")
    assert merge.dtype == dtype and 0 < merge.difference <= merging.BOUNDS[dtype]
    with safe_open(folder / "out" / "model.safetensors", "pt") as tensors:
        assert {tensors.get_tensor(key).dtype for key in tensors.keys()} == {dtype}
    assert json.loads((folder / "out" / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")


def test_a_reward_model_keeps_its_head(folder):
    torch.manual_seed(0)
    base = type(tiny_reward_model()).from_pretrained(folder / "base", num_labels=1)
    adapter(base, folder / "reward", task_type="SEQ_CLS")
    merge = merge_adapter(folder / "reward", folder / "out")
    prompts = ["한우에요?"] * len(COMPLETIONS)
    expected = score_completions(load_reward_model(folder / "reward"), tiny_tokenizer(), prompts, COMPLETIONS)
    merged = AutoModelForSequenceClassification.from_pretrained(folder / "out")
    assert score_completions(merged, tiny_tokenizer(), prompts, COMPLETIONS) == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 1e-2
    # By the padding other programs find the last token, at which the score is read.
    assert merged.config.num_labels == 1 and merged.config.pad_token_id == tiny_tokenizer().pad_token_id
    assert merge.is_reward_model and merge.effect > 1e-3 > merge.difference


def test_the_folder_holds_a_whole_model_and_no_pickle(folder):
    merge_adapter(folder / "adapter", folder / "out")
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= left_in(folder / "out")
    assert not {path.suffix for path in (folder / "out").iterdir()} & {".bin", ".pt", ".pth"}
    config = json.loads((folder / "out" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert left_in(folder) == {"base", "adapter", "out"}


def test_the_tokenizer_is_the_one_it_was_trained_with(folder):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} 끝.{{ eos_token }}{% endfor %}"
    tokenizer.save_pretrained(folder / "adapter")
    merge_adapter(folder / "adapter", folder / "out")
    assert AutoTokenizer.from_pretrained(folder / "out").chat_template == tokenizer.chat_template


@pytest.mark.parametrize("kind", ["adapter", "reward"])
def test_a_merge_that_does_nothing_is_refused_though_the_adapter_does_little(folder, monkeypatch, kind):
    """In bfloat16 the bound alone, half a nat, is more than many an adapter changes."""
    classes = {"adapter": AutoModelForCausalLM, "reward": type(tiny_reward_model())}
    quiet = AutoModelForCausalLM.from_pretrained(folder / "base")
    for parameter in quiet.parameters():  # as a trained model: rounding is small beside what it says
        parameter.data *= 0.3
    quiet.bfloat16().save_pretrained(folder / "base")
    base = classes[kind].from_pretrained(folder / "base", num_labels=1)
    task = "CAUSAL_LM" if kind == "adapter" else "SEQ_CLS"
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type=task))
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    model.save_pretrained(folder / "faint")
    merged = merge_adapter(folder / "faint", folder / "out")
    assert merged.difference < merged.effect / 4 and merged.effect < merging.BOUNDS[torch.bfloat16]

    def unload(self, **kwargs):
        return self.unload()

    monkeypatch.setattr(PeftModel, "merge_and_unload", unload, raising=False)
    with pytest.raises(
        ValueError, match=r"has lost the adapter: it differs by .* makes a difference of .* not written"
    ):
        merge_adapter(folder / "faint", folder / "nothing")
    assert "nothing" not in left_in(folder)


@pytest.mark.parametrize(
    "kwargs",
    [{"target_modules": ["lm_head"]}, {"target_modules": ["embed_tokens"]}, {"modules_to_save": ["lm_head"]}],
    ids=str,
)
def test_a_change_of_weights_that_embedding_and_head_share_is_refused(folder, kwargs):
    tiny_llama(hidden_size=64, tie_word_embeddings=True).save_pretrained(folder / "base")
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    adapter(base, folder / "tied", **{"target_modules": ["q_proj"]} | kwargs)
    with pytest.raises(ValueError, match="changes .*(lm_head|embed_tokens).*, and its base has one matrix"):
        merge_adapter(folder / "tied", folder / "out")
    assert left_in(folder) == {"base", "adapter", "tied"}


def test_a_head_of_its_own_may_be_merged(folder):
    adapter(AutoModelForCausalLM.from_pretrained(folder / "base"), folder / "head", target_modules=["lm_head"])
    assert merge_adapter(folder / "head", folder / "out").difference < 1e-3


def test_the_merged_folder_ends_answers_where_the_template_does(folder):
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}<turn>{% endfor %}"
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    base.resize_token_embeddings(len(tokenizer))
    base.generation_config.eos_token_id = tokenizer.bos_token_id  # an end of its own
    base.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    adapter(base, folder / "adapter")
    merge_adapter(folder / "adapter", folder / "out")
    merged = AutoModelForCausalLM.from_pretrained(folder / "out")
    ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<turn>"), tokenizer.bos_token_id}
    for config in (merged.config, merged.generation_config):
        assert set(config.eos_token_id) == ends and config.pad_token_id == tokenizer.pad_token_id


def test_an_empty_folder_may_be_there(folder):
    (folder / "out").mkdir()
    merge_adapter(folder / "adapter", folder / "out")
    assert "model.safetensors" in left_in(folder / "out")


def test_an_adapter_without_a_base_takes_the_one_given(folder):
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    (folder / "adapter" / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": None}), encoding="utf-8"
    )
    with pytest.raises(ValueError, match="does not name its base model; give it"):
        merge_adapter(folder / "adapter", folder / "out")
    merge_adapter(folder / "adapter", folder / "out", base=folder / "base")
    assert "model.safetensors" in left_in(folder / "out")


def test_a_model_that_came_out_otherwise_is_refused_and_not_left(folder, monkeypatch):
    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    model.bfloat16().save_pretrained(folder / "base")
    monkeypatch.setitem(merging.BOUNDS, torch.bfloat16, 1e-9)  # rounding alone is more
    with pytest.raises(ValueError, match="another one: it differs by .* more than 1e-09.* bfloat16 .* is not written"):
        merge_adapter(folder / "adapter", folder / "out")
    assert left_in(folder) == {"base", "adapter"}


def test_weights_lost_on_the_way_are_noticed(folder, monkeypatch):
    def base_alone(name, adapters=(), **kwargs):
        return load_generator(name if adapters else folder / "base", adapters, **kwargs)

    monkeypatch.setattr(merging, "load_generator", base_alone)
    with pytest.raises(ValueError, match="another one"):
        merge_adapter(folder / "adapter", folder / "out")
    assert left_in(folder) == {"base", "adapter"}


@pytest.mark.parametrize("what", ["file", "full"])
def test_nothing_that_exists_is_written_over(folder, what):
    if what == "file":
        (folder / "out").write_text("text")
    else:
        (folder / "out").mkdir()
        (folder / "out" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="out exists and is not an empty folder"):
        merge_adapter(folder / "adapter", folder / "out")


def test_a_quantized_base_is_refused(folder):
    path = folder / "base" / "config.json"
    quantization = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": quantization}))
    with pytest.raises(ValueError, match="stored quantized.*--base"):
        merge_adapter(folder / "adapter", folder / "out")


def test_prompt_tuning_has_nothing_to_merge(folder):
    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)).save_pretrained(
        folder / "prompts"
    )
    with pytest.raises(ValueError, match="PROMPT_TUNING: prompts, no weights to add"):
        merge_adapter(folder / "prompts", folder / "out")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        ("other base", "does not belong to the base model"),
        ("other task", "is for TOKEN_CLS; CAUSAL_LM and SEQ_CLS can be merged"),
        ("pickle", "holds pickled weights .adapter_model.bin. and no safetensors"),
        ("no folder", "No adapter .*: no folder of that name here"),
        ("not a number", "NaN"),
    ],
)
def test_what_cannot_be_merged_is_an_error_and_leaves_nothing(folder, break_it, message):
    path = folder / "adapter" / "adapter_config.json"
    name = folder / "adapter"
    if break_it == "other base":
        tiny_llama().save_pretrained(folder / "base")
    elif break_it == "other task":
        path.write_text(path.read_text().replace("CAUSAL_LM", "TOKEN_CLS"))
    elif break_it == "pickle":
        (folder / "adapter" / "adapter_model.safetensors").rename(folder / "adapter" / "adapter_model.bin")
    elif break_it == "no folder":
        name = folder / "nowhere"
    else:
        base = AutoModelForCausalLM.from_pretrained(folder / "base")
        base.lm_head.weight.data[0, 0] = float("nan")
        base.model.layers[0].self_attn.q_proj.weight.data[0, 0] = float("nan")
        base.save_pretrained(folder / "base")
    with pytest.raises(ValueError, match=message):
        merge_adapter(name, folder / "out")
    assert left_in(folder) == {"base", "adapter"}
