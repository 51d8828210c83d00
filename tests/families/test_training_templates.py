"""A training template renders as the model's own, and marks what an answer teaches."""

import copy
import json
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from tests.families.tiny import FAMILIES, save_family, tiny_model, tokenizer_of
from trl_kochat import Run, load_tokenizer, set_chat_template
from trl_kochat.encode import answer_end
from trl_kochat.errors import InputError
from trl_kochat.tokenizer.training import training_findings, training_template


# TRL's training templates of Qwen 3 and Phi 3 render all turns alike, which their own do not; SOLAR's gets an end.
UNLIKE = ("SOLAR 10.7B", "Qwen 3", "Phi 3")
REGULAR = {name: family for name, family in FAMILIES.items() if family.template and name not in UNLIKE}
TURNS = [
    {"role": "user", "content": "안녕하세요?"},
    {"role": "assistant", "content": "네, 반갑습니다."},
    {"role": "user", "content": "  오늘 날씨는?\n"},
    {"role": "assistant", "content": "좋아요.\n"},
]
SYSTEM = {"role": "system", "content": "짧게 답하세요."}


def marked(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    ours = copy.copy(tokenizer)
    ours.chat_template = training_template(tokenizer)
    return ours


@pytest.fixture(scope="module", params=REGULAR)
def pair(request):
    tokenizer = tokenizer_of(FAMILIES[request.param])
    return tokenizer, marked(tokenizer)


def text(tokenizer, messages, **kwargs) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False, **kwargs)


@pytest.mark.parametrize(
    "system", [[], [SYSTEM], [{"role": "system", "content": ""}]], ids=["none", "system", "empty"]
)
def test_it_renders_byte_for_byte_as_the_models_own(pair, system):
    own, ours = pair
    for length in range(1, 5):
        conversation = [*system, *TURNS[:length]]
        assert text(ours, conversation) == text(own, conversation)
        if length % 2:
            options = {"add_generation_prompt": True}
            assert text(ours, conversation, **options) == text(own, conversation, **options)


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12), min_size=1, max_size=4)
)
def test_it_renders_any_text_as_the_models_own(pair, texts):
    roles = ("user", "assistant") * 2
    conversation = [{"role": role, "content": content} for role, content in zip(roles, texts, strict=False)]
    assert text(pair[1], conversation) == text(pair[0], conversation)


def test_marked_are_the_answers_and_their_stop(pair):
    own, ours = pair
    output = ours.apply_chat_template([SYSTEM, *TURNS], return_dict=True, return_assistant_tokens_mask=True)
    kept = zip(output["input_ids"], output["assistant_masks"], strict=True)
    learned = ours.decode([token_id for token_id, mask in kept if mask])
    end = answer_end(own)
    stop = ours.decode([end.stop_id])
    first, _, rest = learned.partition(stop)
    assert first.strip().endswith("네, 반갑습니다.") and "좋아요." in rest and rest.count(stop) == 1
    assert "안녕" not in learned and "오늘" not in learned and "짧게" not in learned
    # Nothing that the model writes before the answer is longer than its own opening of it.
    assert len(learned) <= len(TURNS[1]["content"] + TURNS[3]["content"]) + 2 * len("<|content|>" + end.text)


def test_an_earlier_part_of_a_conversation_stays_the_same(pair):
    _, ours = pair
    whole = text(ours, TURNS)
    assert whole.startswith(text(ours, TURNS[:2])) and whole.startswith(
        text(ours, TURNS[:3], add_generation_prompt=True)
    )


def test_a_template_that_writes_no_end_gets_the_end_token(caplog):
    own = tokenizer_of(FAMILIES["SOLAR 10.7B"])
    ours = marked(own)
    assert text(ours, TURNS[:2]) == "### User:\n안녕하세요?\n\n### Assistant:\n네, 반갑습니다.</s>"
    assert text(ours, TURNS).replace("</s>", "") == text(own, TURNS)
    assert "writes no token after an answer" in caplog.text


@pytest.mark.parametrize("name", ["gemma3", "llama3_2", "qwen2_5", "qwen3_instruct_2507", "lfm2", "cohere"])
def test_real_templates_render_the_same_in_either_projects_training_template(name):
    """TRL ships copies of models' files, and marked ones beside them: neither may change what is rendered."""
    own = tokenizer_of(FAMILIES["Qwen 3"])
    own.bos_token = "<|endoftext|>"
    own.add_tokens(["<end_of_turn>", "<|eot_id|>", "<|END_OF_TURN_TOKEN|>"], special_tokens=True)
    # A comment makes it a template that TRL does not know by its text.
    own.chat_template = "{# ours #}" + files("trl").joinpath("chat_templates", f"{name}.jinja").read_text()
    ours = marked(own)
    assert "{%- generation -%}" in ours.chat_template
    for conversation in (TURNS[:1], TURNS[:2], TURNS, [SYSTEM, *TURNS]):
        assert text(ours, conversation) == text(own, conversation)


def test_gemma_3_is_what_the_models_own_file_renders():
    ours = tokenizer_of(FAMILIES["Gemma 3"])
    own = copy.copy(ours)
    own.bos_token = "<bos>"
    own.chat_template = files("trl").joinpath("chat_templates", "gemma3.jinja").read_text()
    for conversation in (TURNS[:1], TURNS[:2], TURNS, [SYSTEM, *TURNS]):
        assert text(ours, conversation) == text(own, conversation)


def test_a_template_that_has_marks_is_kept():
    tokenizer = set_chat_template(tokenizer_of(FAMILIES["KoGPT2"]), "ko_instruct")
    assert training_template(tokenizer) == tokenizer.chat_template
    assert training_findings(tokenizer) == []


def test_a_template_that_turns_render_differently_in_is_refused_with_the_reason():
    tokenizer = tokenizer_of(FAMILIES["Phi 3"])
    tokenizer.chat_template = f"{{# ours #}}{tokenizer.chat_template}"
    with pytest.raises(InputError, match="No training template can be written .* once another follows.*ko_instruct"):
        training_template(tokenizer)
    (found,) = training_findings(tokenizer)
    assert found.code == "template_unmarked" and found.severity == "info"


def test_what_a_regular_template_would_not_write_is_shown():
    tokenizer = tokenizer_of(FAMILIES["A.X 4"])
    tokenizer.chat_template = tokenizer.chat_template.replace("m['content'] +", "m['content'] | replace('\"', '*') +")
    with pytest.raises(InputError, match="the own template writes .* where a regular one would write"):
        training_template(tokenizer)


@pytest.mark.parametrize(
    "conversation",
    [
        [{"role": "assistant", "content": "네."}],
        [*TURNS[:1], *TURNS[:1]],
        [*TURNS[:1], {"role": "tool", "content": "3"}],
        [*TURNS[:1], {"role": "assistant", "content": "<think>음</think>네."}],
    ],
    ids=["answer first", "two questions", "tool", "reasoning"],
)
def test_rows_that_it_does_not_render_as_the_own_one_are_refused(conversation):
    with pytest.raises(Exception, match="training template takes|leaves reasoning out"):
        text(marked(tokenizer_of(FAMILIES["EXAONE 4"])), conversation)


def test_load_tokenizer_gives_it(tmp_path):
    tokenizer_of(FAMILIES["EXAONE 4"]).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path, chat_template="training")
    assert "generation" in tokenizer.chat_template and text(tokenizer, TURNS) == text(load_tokenizer(tmp_path), TURNS)
    assert "generation" in load_without_template(tmp_path).chat_template


def load_without_template(folder):
    (folder / "chat_template.jinja").unlink()
    return load_tokenizer(folder, chat_template="training")


def test_the_loss_is_on_the_answers_alone(tmp_path):
    tokenizer = marked(tokenizer_of(FAMILIES["HyperCLOVA X SEED"]))
    model = tiny_model("hyperclovax", vocab_size=len(tokenizer))
    args = SFTConfig(str(tmp_path), assistant_only_loss=True, bf16=False, use_cpu=True, report_to="none", max_steps=1)
    rows = json.loads(json.dumps([{"messages": TURNS}] * 2))
    from datasets import Dataset

    trainer = SFTTrainer(model, args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    batch = next(iter(trainer.get_train_dataloader()))
    learned = tokenizer.decode([label for label in batch["labels"][0].tolist() if label != -100])
    assert learned == "네, 반갑습니다.<|im_end|><|endofturn|>좋아요.\n<|im_end|><|endofturn|>"


@pytest.fixture
def run(tmp_path):
    """A run on a tiny model of a family, before its trainer is built."""
    rows = [{"prompt": f"{n}?", "completion": "네."} for n in range(4)]
    (tmp_path / "rows.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")

    def run(name: str, *flags: str) -> Run:
        model = save_family(FAMILIES[name], tmp_path / "model")
        arguments = ["--preset", "cpu", "--model_name_or_path", str(model), "--output_dir", str(tmp_path / "run")]
        arguments += ["--dataset_name", str(tmp_path / "rows.json"), "--eval_fraction", "0.5", *flags]
        run = Run("sft_kochatgpt", SFTConfig, arguments)
        run.rows("kochatgpt_sft")
        return run

    return run


@pytest.mark.parametrize(("flags", "is_marked"), [((), False), (("--assistant_only_loss", "true"), True)])
def test_a_recipe_takes_it_where_the_loss_asks_and_keeps_the_models_own(run, flags, is_marked):
    one = run("EXAONE 4", *flags)
    assert ("generation -" in one.trainer_arguments["processing_class"].chat_template) == is_marked
    assert one.tokenizer.chat_template == FAMILIES["EXAONE 4"].template


def test_a_recipe_takes_the_template_that_one_names(run):
    one = run("Polyglot-Ko, KoAlpaca, KULLM 2", "--chat_template", "koalpaca")
    tokenizer = one.trainer_arguments["processing_class"]
    assert text(tokenizer, TURNS[:2]) == "### 질문: 안녕하세요?\n\n### 답변: 네, 반갑습니다.<|endoftext|>"


def test_a_model_whose_template_writes_no_end_learns_one_in_every_recipe(run):
    tokenizer = run("SOLAR 10.7B").trainer_arguments["processing_class"]
    assert text(tokenizer, TURNS[:2]).rstrip().endswith("네, 반갑습니다.</s>")
