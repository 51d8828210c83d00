import warnings

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, ByT5Tokenizer, GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from tests.tokenizers import kogpt2_like, qwen_like
from trl_kochat.tokenizer import check_tokenizer, load_tokenizer, tokenize_dataset, tokenize_rows
from trl_kochat.tokenizer.examined import ExaminedTokenizer
from trl_kochat.tokenizer.rows import check_encoded_rows


PROMPTS = ["오늘 미세먼지 어때?", "불고기용 고기 한우에요?", "파이썬이 뭐야?\n자세히", ""]
ANSWERS = ["맑아요.", "네, 한우입니다. " * 5, "언어 ㅋㅋ", "(음) 글쎄요"]


def user(text):
    return [{"role": "user", "content": text}]


def assistant(text):
    return [{"role": "assistant", "content": text}]


def completion_rows(conversational=True):
    wrap = (user, assistant) if conversational else (str, str)
    return [{"prompt": wrap[0](p), "completion": wrap[1](a)} for p, a in zip(PROMPTS, ANSWERS, strict=True)]


def preference_rows(conversational=True):
    wrap = (user, assistant) if conversational else (str, str)
    return [
        {"prompt": wrap[0](p), "chosen": wrap[1](a), "rejected": wrap[1](a[::-1])}
        for p, a in zip(PROMPTS, ANSWERS, strict=True)
    ]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(kogpt2_like(tmp_path_factory.mktemp("kogpt2")))


@pytest.fixture(scope="module")
def model(tokenizer):
    return GPT2LMHeadModel(tiny_config(tokenizer))


def tiny_config(tokenizer):
    return GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=1, n_positions=512, num_labels=1)


def arguments(config, folder, **kwargs):
    return config(output_dir=str(folder), report_to="none", bf16=False, use_cpu=True, **kwargs)


@pytest.mark.parametrize("conversational", [True, False])
def test_completions_are_what_sft_trainer_makes(tmp_path, tokenizer, model, conversational):
    rows = completion_rows(conversational)
    args = arguments(SFTConfig, tmp_path, max_length=None)
    trainer = SFTTrainer(model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    for ours, theirs in zip(tokenize_rows(tokenizer, rows), trainer.train_dataset, strict=True):
        ids, start = ours.sequences["completion"], ours.completion_start
        assert ids == theirs["input_ids"]
        assert [-100] * start + ids[start:] == theirs["labels"]


@pytest.mark.parametrize("conversational", [True, False])
def test_preferences_are_what_dpo_trainer_makes(tmp_path, tokenizer, model, conversational):
    rows = preference_rows(conversational)
    args = arguments(DPOConfig, tmp_path, max_length=None)
    trainer = DPOTrainer(
        model,
        ref_model=GPT2LMHeadModel(tiny_config(tokenizer)),
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    for ours, theirs in zip(tokenize_rows(tokenizer, rows), trainer.train_dataset, strict=True):
        assert ours.prompt_ids[: ours.completion_start] == theirs["prompt_ids"]
        for column in ("chosen", "rejected"):
            assert ours.sequences[column][ours.completion_start :] == theirs[f"{column}_ids"]


def test_preferences_are_what_reward_trainer_makes(tmp_path, tokenizer):
    model = GPT2ForSequenceClassification(tiny_config(tokenizer))
    args = arguments(RewardConfig, tmp_path, max_length=None)
    rows = preference_rows()
    trainer = RewardTrainer(model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    for ours, theirs in zip(tokenize_rows(tokenizer, rows), trainer.train_dataset, strict=True):
        assert ours.sequences == {"chosen": theirs["chosen_ids"], "rejected": theirs["rejected_ids"]}


@pytest.mark.parametrize("max_length", [None, 54])
@pytest.mark.parametrize("conversational", [True, False])
def test_sft_trainer_trains_on_ready_made_ids_as_on_its_own(tmp_path, tokenizer, model, conversational, max_length):
    rows = Dataset.from_list(completion_rows(conversational))
    own, ready = (
        SFTTrainer(
            model,
            args=arguments(SFTConfig, tmp_path, max_length=max_length, shuffle_dataset=True),
            train_dataset=dataset,
            processing_class=tokenizer,
        )
        for dataset in (rows, tokenize_dataset(rows, tokenizer))
    )
    assert ready.train_dataset.to_list() == own.train_dataset.select_columns(["input_ids", "labels"]).to_list()
    assert 0 < len(ready.train_dataset) <= len(rows)
    batches = [trainer.data_collator(list(trainer.train_dataset)) for trainer in (own, ready)]
    assert batches[0].keys() == batches[1].keys()
    assert all((batches[0][key] == batches[1][key]).all() for key in batches[0])


@pytest.mark.parametrize("max_length", [None, 60])
@pytest.mark.parametrize("conversational", [True, False])
@pytest.mark.parametrize("margin", [{}, {"margin": 2.0}], ids=["no margin", "margin"])
def test_reward_trainer_trains_on_ready_made_ids_as_on_its_own(
    tmp_path, tokenizer, conversational, max_length, margin
):
    model = GPT2ForSequenceClassification(tiny_config(tokenizer))
    rows = Dataset.from_list([{**row, **margin} for row in preference_rows(conversational)])
    own, ready = (
        RewardTrainer(
            model,
            args=arguments(RewardConfig, tmp_path, max_length=max_length),
            train_dataset=dataset,
            processing_class=tokenizer,
        )
        for dataset in (rows, tokenize_dataset(rows, tokenizer))
    )
    columns = ["chosen_ids", "rejected_ids", *margin]
    assert sorted(ready.train_dataset.column_names) == sorted(columns)
    assert (
        ready.train_dataset.to_list() == own.train_dataset.select_columns(ready.train_dataset.column_names).to_list()
    )
    assert 0 < len(ready.train_dataset) <= len(rows)


def test_a_row_far_down_in_a_dataset_is_named_by_its_number(tokenizer):
    good = {"prompt": "안녕?", "completion": "네"}
    for row, message in (
        ({**good, "completion": None}, "'completion' holds None"),
        ({**good, "prompt": None}, "None"),
    ):
        with pytest.raises(ValueError, match=rf"Row 1500 \(counted from 0\): .*{message}"):
            tokenize_dataset(Dataset.from_list([good] * 1_500 + [row]), tokenizer)
    rows = [{"prompt": user("안녕?"), "completion": assistant("네")}] * 1_200
    rows[1_100] = {"prompt": [{"role": "고양이", "content": "야옹"}], "completion": assistant("네")}
    with pytest.raises(ValueError, match=r"Row 1100 \(counted from 0\): .* with the roles 고양이"):
        tokenize_dataset(Dataset.from_list(rows), tokenizer)


def test_an_end_of_the_prompt_that_merges_with_the_answer_is_said(tokenizer):
    rows = Dataset.from_list([{"prompt": "안녕하", "completion": "세요"}])
    (row,) = tokenize_rows(tokenizer, rows)
    assert not row.prompt_is_prefix
    with pytest.warns(UserWarning, match="The prompt alone gets other tokens"):
        (ready,) = tokenize_dataset(rows, tokenizer)
    assert ready["labels"].count(-100) == row.completion_start


def test_ids_are_not_made_of_rows_that_no_trainer_takes_as_ids(tokenizer):
    for rows in (
        [{"messages": user("가") + assistant("나")}],
        [{"prompt": "가"}],
        [{"chosen": "가", "rejected": "나"}],
    ):
        with pytest.raises(ValueError, match="Give others to the trainer as they are"):
            tokenize_dataset(Dataset.from_list(rows), tokenizer)


def test_messages_and_text_are_what_sft_trainer_makes(tmp_path, tokenizer, model):
    conversations = [{"messages": user(p) + assistant(a)} for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    for rows in (conversations, [{"text": a} for a in ANSWERS]):
        args = arguments(SFTConfig, tmp_path, max_length=None)
        trainer = SFTTrainer(model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
        for ours, theirs in zip(tokenize_rows(tokenizer, rows), trainer.train_dataset, strict=True):
            assert list(ours.sequences.values()) == [theirs["input_ids"]] == [theirs["labels"]]
            assert ours.completion_start == 0


def test_preferences_without_a_prompt_column_are_what_dpo_trainer_makes(tmp_path, tokenizer, model):
    rows = [
        {"chosen": row["prompt"] + row["chosen"], "rejected": row["prompt"] + row["rejected"]}
        for row in preference_rows()
    ]
    assert tokenize_rows(tokenizer, rows) == tokenize_rows(tokenizer, preference_rows())
    args = arguments(DPOConfig, tmp_path, max_length=None)
    reference = GPT2LMHeadModel(tiny_config(tokenizer))
    trainer = DPOTrainer(
        model, ref_model=reference, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    for ours, theirs in zip(tokenize_rows(tokenizer, rows), trainer.train_dataset, strict=True):
        assert ours.sequences["chosen"] == theirs["prompt_ids"] + theirs["chosen_ids"]


def test_prompts_alone_have_no_sequences(tokenizer):
    row = tokenize_rows(tokenizer, [{"prompt": user("안녕?")}])[0]
    assert row.type == "prompt_only" and row.sequences == {} and row.length == len(row.prompt_ids)


def test_a_datasets_row_is_a_row(tokenizer):
    rows = preference_rows()
    assert tokenize_rows(tokenizer, Dataset.from_list(rows)) == tokenize_rows(tokenizer, rows)


def test_chat_template_kwargs_of_a_row_reach_the_template(tokenizer):
    template = tokenizer.chat_template
    row = {"prompt": user("안녕?"), "chat_template_kwargs": {"chat_template": "{{ messages[0]['content'] * 2 }}"}}
    assert tokenizer.decode(tokenize_rows(tokenizer, [row])[0].prompt_ids) == "안녕?안녕?"
    assert tokenizer.chat_template == template


def test_rows_of_no_type_say_what_was_expected(tokenizer):
    with pytest.raises(ValueError, match="columns answer, question are no rows of TRL"):
        tokenize_rows(tokenizer, [{"question": "가", "answer": "나"}])
    with pytest.raises(ValueError, match="no rows of TRL"):
        check_tokenizer(tokenizer, rows=[{"question": "가", "answer": "나"}])


PROMPT, ANSWER = [{"role": "user", "content": "안녕?"}], [{"role": "assistant", "content": "네"}]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"text": "가"}, {"text": None}, "'text' holds None, not text"),
        ({"text": "가"}, {"text": 3}, "'text' holds 3, not text"),
        ({"text": "가"}, {"prompt": "가", "completion": "나"}, "'text' holds None"),
        ({"text": "가"}, {"text": "네 \ud83d"}, "half a character"),
        ({"text": "가"}, "가", "'가' is not a row with named columns"),
        ({"prompt": PROMPT, "completion": ANSWER}, {"prompt": "가", "completion": "나"}, "not a list of messages"),
        ({"prompt": "가", "completion": "나"}, {"prompt": PROMPT, "completion": ANSWER}, "'prompt' holds .*not text"),
        ({"messages": PROMPT}, {"messages": []}, "not a list of messages"),
        ({"messages": PROMPT}, {"messages": [{"content": "가"}]}, "not a message"),
        ({"messages": PROMPT}, {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "not a message"),
        ({"messages": PROMPT}, {"messages": [{"role": "user", "content": "네 \ud83d"}]}, "half a character"),
        ({"messages": PROMPT}, {"messages": [{"role": "고양이", "content": "야옹"}]}, "the roles 고양이: .*render"),
        ({"messages": PROMPT}, {"messages": [{"role": "user", "content": None}]}, "the roles user: .*render"),
    ],
)
def test_a_row_that_cannot_be_tokenized_is_named(tmp_path, first, second, message):
    tokenizer = load_tokenizer(kogpt2_like(tmp_path))
    for look in (tokenize_rows, lambda tokenizer, rows: check_tokenizer(tokenizer, rows=rows)):
        with pytest.raises(ValueError, match=rf"Row 1 \(counted from 0\).*{message}"):
            look(tokenizer, [first, second])


def test_conversations_need_a_template(tmp_path):
    bare = load_tokenizer(kogpt2_like(tmp_path), chat_template=None)
    with pytest.raises(ValueError, match="set_chat_template"):
        tokenize_rows(bare, completion_rows())
    # A check still tells what can be told.
    codes = {finding.code for finding in check_tokenizer(bare, rows=completion_rows())}
    assert {"no_chat_template", "rows_tokens"} <= codes


def found(tokenizer, rows, **kwargs):
    return {finding.code: finding for finding in check_tokenizer(tokenizer, rows=rows, **kwargs)}


def test_tokens_per_syllable_and_eojeol(tokenizer):
    # ▁안녕 하세 요. is five syllables in three tokens; English does not count for syllables.
    rows = [{"prompt": "안녕하세요.", "completion": "abcd"}]
    measured = found(tokenizer, rows)["rows_tokens"].measured
    assert measured["tokens_per_syllable"] == pytest.approx(3 / 5)
    assert measured["tokens_per_eojeol"] == pytest.approx((3 + 5) / 2)


def test_unknown_rate_names_the_most_frequent(tokenizer):
    rows = [{"prompt": "걔가?", "completion": "걔 @"}] * 2 + [{"prompt": "안녕?", "completion": "네"}]
    finding = found(tokenizer, rows)["rows_unknown"]
    assert finding.severity == "warning"
    assert list(finding.measured["characters"].items()) == [("걔", 4), ("@", 2)]
    assert finding.measured["tokens"] == 6
    assert "rows_unknown" not in found(tokenizer, [{"prompt": "안녕?", "completion": "네"}])


def test_a_prompt_that_ends_in_a_space_is_no_prefix(tmp_path):
    """The space goes to the next word's token, so the prompt's last token is not there."""
    tokenizer = AutoTokenizer.from_pretrained(qwen_like(tmp_path))
    rows = [{"prompt": "답: ", "completion": answer} for answer in ("정말", "날씨", "정말이요")]
    finding = found(tokenizer, rows)["rows_prefix"]
    assert finding.severity == "warning" and finding.measured == {"rows": 3, "share": 1.0, "ends": {" ": 3}}
    assert "not on a space" in finding.message
    rows = [{"prompt": "답:", "completion": " " + row["completion"]} for row in rows]
    assert "rows_prefix" not in found(tokenizer, rows)


def test_a_tokenizer_that_ends_the_prompt_itself():
    rows = [{"prompt": "안녕?", "completion": "네"}]
    finding = found(ByT5Tokenizer(), rows)["rows_prefix"]
    assert finding.measured["ends"] == {"</s>": 1} and "use conversational rows" in finding.message


@pytest.mark.parametrize("trainer_class", [SFTTrainer, DPOTrainer, RewardTrainer])
@pytest.mark.parametrize("max_length", [51, 58, 80])
def test_what_max_length_drops_is_what_the_trainer_drops(tmp_path, tokenizer, trainer_class, max_length):
    rows = completion_rows() if trainer_class is SFTTrainer else preference_rows()
    config = {SFTTrainer: SFTConfig, DPOTrainer: DPOConfig, RewardTrainer: RewardConfig}[trainer_class]
    head = GPT2ForSequenceClassification if trainer_class is RewardTrainer else GPT2LMHeadModel
    model = head(tiny_config(tokenizer))
    extra = {"ref_model": head(tiny_config(tokenizer))} if trainer_class is DPOTrainer else {}
    args = arguments(config, tmp_path, max_length=max_length)
    dataset = Dataset.from_list(rows)
    lengths = [row.length for row in tokenize_rows(tokenizer, rows)]
    assert min(lengths) < max_length < max(lengths)
    measured = found(tokenizer, rows, max_length=max_length)["rows_length"].measured
    trainer = trainer_class(model, args=args, train_dataset=dataset, processing_class=tokenizer, **extra)
    told = measured["trainers"][trainer_class.__name__]
    assert told["drops"] == len(rows) - len(trainer.train_dataset)
    if trainer_class is SFTTrainer:
        eos = tokenizer.eos_token_id
        assert told["cuts"] == sum(row["input_ids"][-1] != eos for row in trainer.train_dataset)


def test_rows_that_fit_are_not_mentioned(tokenizer):
    assert "rows_length" not in found(tokenizer, completion_rows())


def test_no_max_length_cuts_nothing(tokenizer):
    rows = [{"text": "가나다라" * 500}]
    assert "rows_length" in {finding.code for finding in check_tokenizer(tokenizer, rows=rows, max_length=64)}
    assert "rows_length" not in {finding.code for finding in check_tokenizer(tokenizer, rows=rows, max_length=None)}


@pytest.mark.parametrize("max_length", [0, -1])
def test_a_max_length_below_one_is_an_error(tokenizer, max_length):
    with pytest.raises(ValueError, match=f"max_length is {max_length}; it must be 1 or more"):
        check_tokenizer(tokenizer, rows=[{"text": "가"}], max_length=max_length)


def test_prompts_without_room_for_an_answer(tokenizer):
    rows = [{"prompt": user("안녕?")}, {"prompt": user("가" * 100)}]
    finding = found(tokenizer, rows, max_length=96)["rows_length"]
    assert finding.measured["trainers"] == {"An online trainer": {"finds no room for an answer in": 1}}


def test_rows_longer_than_the_learned_positions_are_an_error(tokenizer):
    rows = [{"prompt": "가" * 600, "completion": "나"}, {"prompt": "다", "completion": "라"}]
    config = tiny_config(tokenizer)
    finding = {f.code: f for f in check_tokenizer(tokenizer, config, rows)}["rows_positions"]
    assert finding.severity == "error" and finding.measured == {"rows": 1, "positions": 512}
    assert "rows_positions" not in {f.code for f in check_tokenizer(tokenizer, config, rows, max_length=512)}


def test_no_rows_are_no_findings(tokenizer):
    assert not [finding for finding in check_tokenizer(tokenizer, rows=[]) if finding.code.startswith("rows")]


TEXT = st.text(st.sampled_from("안녕걔@ ㅋ😀a.\n\u1112\u1161"), max_size=12)


@settings(max_examples=50, deadline=None)
@given(pairs=st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=4), max_length=st.integers(1, 60))
def test_any_rows_can_be_checked(tokenizer, pairs, max_length):
    rows = [{"prompt": user(p), "chosen": assistant(c), "rejected": assistant(r)} for p, c, r in pairs]
    for finding in check_encoded_rows(ExaminedTokenizer(tokenizer), rows, max_length):
        share = finding.measured.get("share", finding.measured.get("rate", 0))
        assert 0 <= share <= 1
    for row in tokenize_rows(tokenizer, rows):
        for ids in row.sequences.values():
            assert ids[: row.completion_start] == row.prompt_ids[: row.completion_start]
            assert ids[-1] == tokenizer.eos_token_id


@settings(max_examples=25, deadline=None)
@given(pairs=st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=4), conversational=st.booleans())
def test_a_dataset_of_ids_holds_what_its_rows_are_one_by_one(tokenizer, pairs, conversational):
    wrap = (user, assistant) if conversational else (str, str)
    rows = [{"prompt": wrap[0](p), "chosen": wrap[1](c), "rejected": wrap[1](r)} for p, c, r in pairs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an end of a prompt that merges with its answer is said
        made = tokenize_dataset(Dataset.from_list(rows), tokenizer)
        completions = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]
        ready = tokenize_dataset(Dataset.from_list(completions), tokenizer)
    for row, ids, labelled in zip(rows, made, ready, strict=True):
        (alone,) = tokenize_rows(tokenizer, [row])
        assert ids == {f"{side}_ids": alone.sequences[side] for side in ("chosen", "rejected")}
        assert labelled["input_ids"] == ids["chosen_ids"]
        assert [
            i for i, label in zip(labelled["input_ids"], labelled["labels"], strict=True) if label not in (-100, i)
        ] == []
        assert labelled["labels"][-1] == tokenizer.eos_token_id
