from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from trl_kochat.report.lengths import first_rows, histogram, token_lengths

from ..tiny_lm import tiny_tokenizer


@given(st.lists(st.integers(0, 5000), min_size=1))
def test_every_row_is_in_one_bin(lengths):
    found = histogram(lengths)
    assert sum(found["counts"]) == found["rows"] == len(lengths)
    assert len(found["edges"]) == len(found["counts"]) + 1
    assert found["edges"][0] <= min(lengths) == found["min"] <= found["median"] <= found["max"] <= found["edges"][-1]


def test_columns_of_ids_are_counted_and_others_are_not():
    dataset = Dataset.from_dict({"chosen_ids": [[1, 2], [3]], "rejected_ids": [[1], [1, 2, 3]], "text": ["a", "b"]})
    assert token_lengths(dataset) == {"chosen": [2, 1], "rejected": [1, 3]}


def test_a_large_dataset_is_looked_at_in_part():
    assert len(first_rows(Dataset.from_dict({"input_ids": [[1]] * 9}), max_rows=4)) == 4


def test_prompts_that_are_not_tokenized_yet_are():
    tokenizer = tiny_tokenizer()
    text = Dataset.from_dict({"prompt": ["점심 뭐 먹지?"]})
    assert token_lengths(text, tokenizer)["prompt"] == [len(tokenizer("점심 뭐 먹지?")["input_ids"])]
    messages = Dataset.from_dict({"prompt": [[{"role": "user", "content": "점심 뭐 먹지?"}]]})
    (length,) = token_lengths(messages, tokenizer)["prompt"]
    assert length > len(tokenizer("점심 뭐 먹지?")["input_ids"])  # the template's own tokens


def test_a_streamed_dataset_is_left_alone():
    stream = Dataset.from_dict({"input_ids": [[1]]}).to_iterable_dataset()
    assert token_lengths(stream) == {} == token_lengths(None)
