"""Rows of a run."""

import copy
import json

import pytest
from datasets import Dataset, DatasetDict
from transformers import AutoTokenizer
from trl import SFTConfig

from trl_kochat.data import RowCounts
from trl_kochat.errors import InputError
from trl_kochat.run.arguments import RecipeArguments, parse
from trl_kochat.run.rows import as_ids, check_rendering, choose_formatter, formatted_rows
from trl_kochat.sample import SAMPLE_DIR


MESSAGE = {"role": "user", "content": "안녕?"}
ANSWER = [{"role": "assistant", "content": "네, 안녕하세요."}]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(SAMPLE_DIR / "tiny-ko")


@pytest.mark.parametrize(
    ("argv", "by_the_trainer"),
    [
        ([], False),
        (["--max_length", "64", "--packing", "True"], False),
        (["--completion_only_loss", "False"], True),
        (["--assistant-only-loss"], True),
        (["--chat_template_path=other.jinja"], True),
        (["--eos_token", "</s>"], True),
    ],
)
def test_rows_become_ids_unless_the_trainer_is_asked_for_other_ones(tokenizer, argv, by_the_trainer):
    given = parse("some_recipe", SFTConfig, ["--dataset_name", "rows", *argv])
    rows = Dataset.from_list([{"prompt": [{"role": "user", "content": "안녕?"}], "completion": ANSWER}])
    assert (as_ids(rows, tokenizer, given.config, given.given) is rows) == by_the_trainer


# Which formatter makes the rows of a recipe.

PREFERENCE = {"prompt": "하늘은?", "chosen": "파래요.", "rejected": "빨개요."}
ORCA = {"question": "하늘은?", "chosen": "파래요.", "rejected": "빨개요."}
PAIR = {"prompt": "하늘은?", "completion": "파래요."}


def to_preference(row):
    return [{name: row[name] for name in PREFERENCE}]


@pytest.mark.parametrize(
    ("asked", "own", "row", "name"),
    [
        (None, "orca_pairs", PREFERENCE, "preference"),
        (None, "orca_pairs", ORCA, "orca_pairs"),
        (None, "kochatgpt_rm", ORCA, "orca_pairs"),
        (None, "kochatgpt_sft", {"instruction": "하늘은?", "output": "파래요."}, "alpaca"),
        (None, "kochatgpt_sft", {"text": "하늘은 파랗다."}, "text"),
        (None, "kochatgpt_ppo", PAIR, "kochatgpt_ppo"),  # which asks its prompts
        (None, "kochatgpt_ppo", {"prompt": "하늘은?", "reply": "x"}, "kochatgpt_ppo"),
        (None, "unpaired_preference", PREFERENCE, "preference"),  # KTOTrainer unpairs them
        ("whole_messages", "kochatgpt_sft", {"messages": []}, "whole_messages"),
        ("trl", "orca_pairs", PREFERENCE, "trl"),
        (None, to_preference, ORCA, "to_preference"),  # the recipe's own word on its rows
    ],
)
def test_rows_are_made_by_what_fits_and_makes_what_the_recipe_trains_on(asked, own, row, name):
    assert choose_formatter(asked, own, row).name == name


@pytest.mark.parametrize(
    ("asked", "own", "row", "message"),
    [
        (None, "orca_pairs", PAIR, "makes prompt-completion rows .* trains on preference rows. .*trl-kochat sft"),
        (None, "kochatgpt_sft", PREFERENCE, "makes preference rows .*language-modeling or prompt-completion.*trl-kochat dpo"),
        ("alpaca", "kochatgpt_ppo", PAIR, "alpaca makes prompt-completion rows .* trains on prompt-only"),
        (None, "orca_pairs", {"물음": "a", "좋은 답": "b", "나쁜 답": "c"}, "--columns 물음=prompt '좋은 답=chosen'"),
        ("nothing", "orca_pairs", PREFERENCE, "No formatter 'nothing'"),
    ],
)  # fmt: skip
def test_rows_of_another_type_are_refused_with_who_trains_on_them(asked, own, row, message):
    with pytest.raises(InputError, match=message):
        choose_formatter(asked, own, row)


def test_every_source_has_its_own_formatter_and_is_counted(tmp_path):
    sources = {
        "a": [PAIR] * 2,
        "b": [{"Q": "하늘은?", "A": "파래요.", "label": "0"}],
        "c": [{"messages": [MESSAGE, *ANSWER]}],
    }
    for name, rows in sources.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    names = [str(tmp_path / f"{name}.json") for name in sources]
    counts = RowCounts()
    rows = formatted_rows(RecipeArguments(dataset_name=names), "kochatgpt_sft", counts)
    assert len(rows) == counts.made == counts.read == 4 and counts.unread == {"label": 1}
    assert rows.column_names == ["prompt", "completion"]


def test_rows_of_trl_have_the_type_that_their_columns_make(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([PAIR]), encoding="utf-8")
    arguments = RecipeArguments(dataset_name=[str(tmp_path / "a.json")], formatter="trl")
    assert formatted_rows(arguments, "kochatgpt_sft", RowCounts()).to_list() == [PAIR]
    with pytest.raises(InputError, match="trl makes prompt-completion rows"):
        formatted_rows(arguments, "orca_pairs", RowCounts())


def test_the_split_that_is_named_is_trained_on(tmp_path):
    sides = {name: Dataset.from_list([PAIR | {"prompt": name}]) for name in ("train", "more")}
    DatasetDict(sides).save_to_disk(tmp_path)
    arguments = RecipeArguments(dataset_name=[str(tmp_path)], formatter="trl", dataset_train_split="more")
    assert [row["prompt"] for row in formatted_rows(arguments, "kochatgpt_sft", RowCounts())] == ["more"]


@pytest.mark.parametrize(
    ("other", "message"),
    [({"text": "하늘은 파랗다."}, "different types"), ({"prompt": "하늘은?", "completion": 3}, "b.json")],
)
def test_files_of_different_types_are_not_mixed(tmp_path, other, message):
    for name, row in (("a", PAIR), ("b", other)):
        (tmp_path / f"{name}.json").write_text(json.dumps([row]), encoding="utf-8")
    names = [str(tmp_path / f"{name}.json") for name in "ab"]
    with pytest.raises(InputError, match=message):
        formatted_rows(RecipeArguments(dataset_name=names), "kochatgpt_sft", RowCounts())


def test_tools_that_the_template_leaves_out_are_refused_with_the_row(tokenizer):
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    rows = Dataset.from_list(
        [{"prompt": [MESSAGE], "completion": ANSWER, "tools": None if n < 2 else json.dumps(tools)} for n in range(3)]
    )
    with pytest.raises(InputError, match="Row 2 .*the chat template leaves out tools"):
        check_rendering(rows, tokenizer)
    check_rendering(rows.select([0, 1]), tokenizer)
    knows = copy.deepcopy(tokenizer)
    knows.chat_template = "{{ tools }}" + tokenizer.chat_template
    check_rendering(rows, knows)


def test_a_call_that_the_template_leaves_out_is_refused(tokenizer):
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "weather", "arguments": "{}"}}]}
    with pytest.raises(InputError, match="leaves out the call of 'weather'"):
        check_rendering(Dataset.from_list([{"prompt": [MESSAGE], "completion": [call]}]), tokenizer)
