"""What is read from the datasets that TRL's trainers make of their rows."""

import pytest
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from tests.tiny_lm import tiny_llama, tiny_reward_model, tiny_tokenizer
from trl_kochat.encode import answer_lengths, column_lengths, count_cut, count_rows, row_lengths, tokenize_rows


ANSWERS = ["네", "오늘은 맑아요.", "배우기 쉬운 언어입니다. " * 6]


def turn(role, text):
    return [{"role": role, "content": text}]


def completions():
    return [{"prompt": turn("user", "어때?"), "completion": turn("assistant", text)} for text in ANSWERS]


def pairs():
    return [
        {"prompt": turn("user", "어때?"), "chosen": turn("assistant", text), "rejected": turn("assistant", "몰라")}
        for text in ANSWERS
    ]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def trained(trainer_class, rows, tokenizer, folder, **kwargs):
    config = {SFTTrainer: SFTConfig, DPOTrainer: DPOConfig, RewardTrainer: RewardConfig}[trainer_class]
    model = tiny_reward_model() if trainer_class is RewardTrainer else tiny_llama()
    extra = {"ref_model": tiny_llama()} if trainer_class is DPOTrainer else {}
    args = config(str(folder), report_to=[], use_cpu=True, bf16=False, **kwargs)
    dataset = Dataset.from_list(rows)
    return trainer_class(model, args=args, train_dataset=dataset, processing_class=tokenizer, **extra).train_dataset


@pytest.mark.parametrize("trainer_class", [SFTTrainer, DPOTrainer, RewardTrainer])
def test_lengths_are_those_of_the_rows(tmp_path, tokenizer, trainer_class):
    rows = completions() if trainer_class is SFTTrainer else pairs()
    ours = tokenize_rows(tokenizer, rows)
    dataset = trained(trainer_class, rows, tokenizer, tmp_path, max_length=None)
    assert row_lengths(dataset) == row_lengths(dataset[:]) == [row.length for row in ours]
    assert count_rows(dataset) == 3 and count_cut(dataset, tokenizer, None) == 0
    named = {SFTTrainer: {"prompt and completion"}, DPOTrainer: {"prompt", "chosen", "rejected"}}
    assert column_lengths(dataset).keys() == named.get(trainer_class, {"chosen", "rejected"})
    if trainer_class is not RewardTrainer:  # its pairs hold their prompt
        whole = [row.sequences["completion" if trainer_class is SFTTrainer else "chosen"] for row in ours]
        answers = [len(ids) - row.completion_start for ids, row in zip(whole, ours, strict=True)]
        assert answer_lengths(dataset) == answers


@pytest.mark.parametrize("trainer_class", [SFTTrainer, DPOTrainer])
@pytest.mark.parametrize("packing", [False, True])
def test_a_row_of_just_max_length_is_not_cut_and_the_next_longer_one_is(tmp_path, tokenizer, trainer_class, packing):
    if packing and trainer_class is DPOTrainer:
        pytest.skip("DPOTrainer packs nothing")
    rows = completions() if trainer_class is SFTTrainer else pairs()
    longest = max(row.length for row in tokenize_rows(tokenizer, rows))
    options = {"packing": True} if packing else {}
    for max_length, cut in ((longest, 0), (longest - 1, 0), (longest - 2, 1)):
        # One token less takes the line feed that the template writes after EOS, and no end.
        cut = cut if trainer_class is SFTTrainer else int(max_length < longest)
        dataset = trained(trainer_class, rows, tokenizer, tmp_path, max_length=max_length, **options)
        assert count_cut(dataset, tokenizer, max_length) == cut
        assert count_rows(dataset) == len(rows)
    assert not packing or len(dataset) < len(rows)


def test_the_end_of_a_packed_row_is_its_own_and_not_its_neighbours(tokenizer):
    eos = tokenizer.eos_token_id
    rows = Dataset.from_dict({"input_ids": [[5, 6, 7, 8, 5, eos], [5, 6, 7, eos]], "seq_lengths": [[4, 2], [4]]})
    assert count_cut(rows, tokenizer, 4) == 1 and count_rows(rows) == 3


def test_rows_that_are_no_ids_have_no_lengths():
    rows = Dataset.from_list([{"prompt": "가"}, {"prompt": "나"}])
    for dataset in (rows, rows.select([1, 0])):  # the second is told by its indices
        assert column_lengths(dataset) == {} and row_lengths(dataset) == [] and answer_lengths(dataset) == []
