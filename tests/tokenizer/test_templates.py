import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, processors
from transformers import PreTrainedTokenizerFast
from trl.chat_template_utils import has_generation_markers, is_chat_template_stop_token_trained

from tests.tiny_lm import tiny_tokenizer
from tests.tokenizers import byte_fallback, healthy, kogpt2_like, qwen_like
from trl_kochat.tokenizer import load_tokenizer, set_chat_template


# The course's text, spelled out here once more on purpose.
PROMPT = "### Instruction(명령어):\n{prompt}\n\n### Response(응답):"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(healthy(tmp_path_factory.mktemp("healthy")), chat_template="ko_instruct")


@pytest.fixture(scope="module", params=[healthy, kogpt2_like, byte_fallback])
def any_tokenizer(request, tmp_path_factory):
    return load_tokenizer(request.param(tmp_path_factory.mktemp("any")), chat_template="ko_instruct")


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


@given(prompt=st.text(), completion=st.text())
def test_ko_instruct_renders_the_courses_prompt_completion_and_eos(tokenizer, prompt, completion):
    rendered = tokenizer.apply_chat_template([user(prompt), assistant(completion)], tokenize=False)
    assert rendered == PROMPT.format(prompt=prompt) + completion + tokenizer.eos_token


@given(prompt=st.text())
def test_ko_instruct_asks_with_exactly_the_courses_prompt(tokenizer, prompt):
    rendered = tokenizer.apply_chat_template([user(prompt)], tokenize=False, add_generation_prompt=True)
    assert rendered == PROMPT.format(prompt=prompt)


@given(turns=st.lists(st.tuples(st.text(), st.text()), min_size=2, max_size=4))
def test_ko_instruct_gives_every_turn_the_same_form(tokenizer, turns):
    messages = [message for prompt, answer in turns for message in (user(prompt), assistant(answer))]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False)
    assert rendered == "".join(PROMPT.format(prompt=p) + a + tokenizer.eos_token for p, a in turns)
    for k in range(len(turns)):
        prompt = tokenizer.apply_chat_template(messages[: 2 * k + 1], tokenize=False, add_generation_prompt=True)
        assert rendered.startswith(prompt)


@pytest.mark.parametrize("name", ["ko_instruct", "koalpaca", "kullm"])
def test_a_template_begins_with_bos_where_the_tokenizer_begins_every_text_with_it(name):
    """Gemma without its BOS answers with white space."""
    with_bos = tiny_tokenizer()
    bos = (with_bos.bos_token, with_bos.bos_token_id)
    with_bos.backend_tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[bos])
    plain = set_chat_template(tiny_tokenizer(), name)
    messages = [{"role": "system", "content": "짧게."}, user("안녕?"), assistant("네."), user("또?"), assistant("네.")]
    written = plain.apply_chat_template(messages, tokenize=False)
    assert not written.startswith("<s>")
    assert set_chat_template(with_bos, name).apply_chat_template(messages, tokenize=False) == "<s>" + written
    # EOS that a tokenizer appends, and that is its BOS as well (KoGPT2), begins nothing.
    appends = tiny_tokenizer()
    appends.bos_token = appends.eos_token
    eos = (appends.eos_token, appends.eos_token_id)
    appends.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[eos])
    assert set_chat_template(appends, name).apply_chat_template(messages, tokenize=False) == written


def test_ko_instruct_puts_a_system_text_before_the_first_instruction(tokenizer):
    messages = [{"role": "system", "content": "친절하게 답하세요."}, user("안녕?")]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered == "친절하게 답하세요.\n\n" + PROMPT.format(prompt="안녕?")


def test_ko_instruct_leaves_an_empty_system_text_out(tokenizer):
    messages = [{"role": "system", "content": ""}, user("안녕?")]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered == PROMPT.format(prompt="안녕?")


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([user("안녕?"), {"role": "system", "content": "늦은 지시"}], "first place"),
        ([user("안녕?"), {"role": "tool", "content": "3"}], "not tool"),
        ([{"role": "user", "content": [{"type": "text", "text": "안녕?"}]}], "one string"),
    ],
)
def test_ko_instruct_refuses_what_it_cannot_render(tokenizer, messages, message):
    with pytest.raises(Exception, match=message):
        tokenizer.apply_chat_template(messages, tokenize=False)


@settings(max_examples=60, deadline=None)
@given(
    prompt=st.text(st.sampled_from("안녕하세요 ab.?\n")),
    # ':' and what follows may be one token, as ":)" is in KoGPT2; the template's text cannot help that.
    answer=st.text(st.sampled_from("안녕하세요 ab.?\n")),
)
def test_the_mask_is_the_completion_and_eos(any_tokenizer, prompt, answer):
    messages = [user(prompt), assistant(answer)]
    both = any_tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    prompt_ids = any_tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=True)
    length = len(prompt_ids["input_ids"])
    assert both["input_ids"][:length] == prompt_ids["input_ids"]
    assert both["assistant_masks"] == [0] * length + [1] * (len(both["input_ids"]) - length)
    assert both["input_ids"][-1] == any_tokenizer.eos_token_id


@pytest.mark.parametrize("name", ["ko_instruct", "chatml", "koalpaca", "kullm"])
def test_trl_trains_on_the_templates_as_they_are(tmp_path, name):
    tokenizer = set_chat_template(load_tokenizer(qwen_like(tmp_path)), name)
    assert has_generation_markers(tokenizer.chat_template)
    assert is_chat_template_stop_token_trained(tokenizer)


# The prompts that the models' authors publish, https://github.com/Beomi/KoAlpaca and https://github.com/nlpai-lab/KULLM.
KULLM = "아래는 작업을 설명하는 명령어입니다. 요청을 적절히 완료하는 응답을 작성하세요."
PUBLISHED = {
    "koalpaca": "### 질문: 안녕?\n\n### 답변: 네.",
    "kullm": f"{KULLM}\n\n### 명령어:\n안녕?\n\n### 응답:\n네.",
}
WITH_SYSTEM = {
    "koalpaca": "짧게.\n\n" + PUBLISHED["koalpaca"],
    "kullm": PUBLISHED["kullm"].replace(KULLM, "짧게."),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_prompts_of_models_without_a_template(tmp_path, name):
    tokenizer = load_tokenizer(healthy(tmp_path), chat_template=name)
    turns = [user("안녕?"), assistant("네.")]
    eos = tokenizer.eos_token
    assert tokenizer.apply_chat_template(turns, tokenize=False) == PUBLISHED[name] + eos
    empty = {"role": "system", "content": ""}
    assert tokenizer.apply_chat_template([empty, *turns], tokenize=False) == PUBLISHED[name] + eos
    with_system = [{"role": "system", "content": "짧게."}, *turns]
    assert tokenizer.apply_chat_template(with_system, tokenize=False) == WITH_SYSTEM[name] + eos
    two = tokenizer.apply_chat_template([*turns, *turns], tokenize=False)
    prompt = tokenizer.apply_chat_template([*turns, *turns[:1]], tokenize=False, add_generation_prompt=True)
    assert two.startswith(prompt) and two.removeprefix(prompt).strip() == "네." + eos
    assert two.startswith(PUBLISHED[name] + eos + "\n\n### ")
    with pytest.raises(Exception, match="not tool"):
        tokenizer.apply_chat_template([*turns, {"role": "tool", "content": "3"}], tokenize=False)


def test_chatml_has_no_system_text_of_its_own(tmp_path):
    tokenizer = load_tokenizer(qwen_like(tmp_path), chat_template="chatml")
    rendered = tokenizer.apply_chat_template([user("안녕?"), assistant("네")], tokenize=False)
    assert rendered == "<|im_start|>user\n안녕?<|im_end|>\n<|im_start|>assistant\n네<|im_end|>\n"


def test_chatml_is_refused_where_its_tokens_are_several(tokenizer):
    before = tokenizer.chat_template
    with pytest.raises(ValueError, match=r"<\|im_start\|> as a single token.*ko_instruct"):
        set_chat_template(tokenizer, "chatml")
    assert tokenizer.chat_template == before


def test_an_unknown_template_names_the_known(tokenizer):
    with pytest.raises(ValueError, match="there are chatml, ko_instruct, koalpaca, kullm, training"):
        set_chat_template(tokenizer, "alpaca")


def test_a_template_needs_an_eos(tokenizer):
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(ValueError, match="tokenizer.eos_token"):
        set_chat_template(bare, "ko_instruct")


def test_a_vocabulary_without_its_unknown_token_is_refused_in_our_words():
    inner = Tokenizer(models.WordLevel({"</s>": 0, "가": 1}, unk_token="<unk>"))
    broken = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")
    with pytest.raises(ValueError, match="unk_token of its vocabulary is missing"):
        set_chat_template(broken, "chatml")
    assert broken.chat_template is None
