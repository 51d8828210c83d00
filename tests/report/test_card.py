"""A card tells what is in the folder, nothing of this machine, and how to use it in lines that run."""

import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.report.runs import make_record
from trl_kochat import load_tokenizer
from trl_kochat.report import write_card
from trl_kochat.sample import embedded
from trl_kochat.tokenizer import save_hand_over


BASE = embedded("tiny-ko")


def saved_adapter(folder, auto_class, task_type, **kwargs):
    base = auto_class.from_pretrained(BASE, **kwargs)
    model = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", task_type=task_type))
    model.save_pretrained(folder)
    save_hand_over(model, load_tokenizer(BASE), folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Kind -> a folder with its weights."""
    root = tmp_path_factory.mktemp("cards")
    saved_adapter(root / "answers", AutoModelForCausalLM, "CAUSAL_LM")
    saved_adapter(root / "scores", AutoModelForSequenceClassification, "SEQ_CLS", num_labels=1)
    model = AutoModelForCausalLM.from_pretrained(BASE)
    model.save_pretrained(root / "whole")
    save_hand_over(model, load_tokenizer(BASE), root / "whole")
    return root


@pytest.mark.parametrize("kind", ["answers", "scores", "whole"])
def test_the_snippet_runs_as_it_stands(kind, folders, monkeypatch, capsys):
    text = write_card(folders / kind, base=BASE, made_by="a test").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(folders / kind)
    exec(snippet, {"__name__": "__main__"})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("kind", ["answers", "scores", "whole"])
def test_nothing_is_told_of_this_machine(kind, folders, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.touch()
    record = make_record("dpo", model=BASE)
    record.run["command"] = f"python {Path(__file__).resolve()} --dataset_name {rows}"
    text = write_card(folders / kind, base=BASE, made_by="a test", record=record, data=[str(rows)]).read_text(
        encoding="utf-8"
    )
    assert "`tiny-ko`" in text and "`rows.jsonl`" in text
    assert str(Path(BASE).parent) not in text and str(tmp_path) not in text and "None" not in text


def test_a_card_of_a_run_has_its_command_counts_measures_and_versions(folders):
    record = make_record("dpo", before={"accuracy": 0.5}, after={"accuracy": 0.8125})
    record.rows = {"read": 1200, "train": 1000, "eval": 100, "dropped": {"too_long": 7}}
    record.run["command"] = "python recipes/dpo_orca.py --max_steps 50"
    record.versions = {"trl": "1.16.0"}
    path = write_card(
        folders / "answers",
        base="skt/kogpt2-base-v2",
        made_by="dpo_orca",
        record=record,
        data=["Intel/orca_dpo_pairs"],
    )
    card = ModelCard.load(path)
    assert (
        card.data.base_model == "skt/kogpt2-base-v2" and card.data.library_name == "peft" and "dpo" in card.data.tags
    )
    for told in (
        "python recipes/dpo_orca.py --max_steps 50",
        "1,200 rows read, 1,000 to train on, 100 held out",
        "too_long: 7",
        "| pairs in the right order | 0.5 | 0.8125 |",
        "trl 1.16.0",
        "`Intel/orca_dpo_pairs`",
    ):
        assert told in card.text


def test_a_base_that_the_hub_does_not_have_is_no_link(folders):
    card = ModelCard.load(write_card(folders / "whole", base="/home/someone/mine", made_by="trl-kochat merge"))
    assert card.data.base_model is None and "`mine`" in card.text and "/home" not in card.content
