import io

from rich.console import Console

from trl_kochat.report import before_after_table

from .runs import make_record


def rendered(record) -> list[str]:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(before_after_table(record))
    return console.export_text().splitlines()


def test_one_row_for_each_measure_of_either_side():
    lines = rendered(make_record(before={"eval_loss": 2.0, "accuracy": 0.5}, after={"eval_loss": None, "kl": 1.0}))
    (loss,) = [line for line in lines if "loss on held-out rows" in line]
    assert "not finite" in loss and "worse" in loss
    assert sum("right order" in line or "KL to" in line for line in lines) == 2


def test_markup_in_names_is_shown_and_not_obeyed():
    assert any("[red]x[/red]" in line for line in rendered(make_record(model="[red]x[/red]", before={"[b]": 1.0})))
