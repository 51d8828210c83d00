import io
import json
import sys

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tests.tiny_lm import tiny_llama, tiny_tokenizer
from trl_kochat.cli import chat as command
from trl_kochat.cli import main
from trl_kochat.data import format_dataset, load_rows
from trl_kochat.measure.generate import Generation, generate_answers


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A base with two adapters, `sft` and a reward model, and a `wide` adapter of another base. It reads 256 tokens."""
    folder = tmp_path_factory.mktemp("models")
    for name, model in (("base", tiny_llama()), ("other", tiny_llama(hidden_size=64))):
        model.save_pretrained(folder / name)
        tiny_tokenizer().save_pretrained(folder / name)
    for name, base, task in (
        ("sft", "base", "CAUSAL_LM"),
        ("wide", "other", "CAUSAL_LM"),
        ("reward", "base", "SEQ_CLS"),
    ):
        torch.manual_seed(7)
        config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type=task)
        get_peft_model(type(tiny_llama()).from_pretrained(folder / base), config).save_pretrained(folder / name)
    return folder


@pytest.fixture
def chat(models, monkeypatch, capsys):
    """`chat(lines, flags)`: what is answered on stdout and noted on stderr when those lines come on a pipe."""

    def talk(lines, *flags, status=0, model="base"):
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        assert main(["chat", str(models / model), "--max_new_tokens", "8", *map(str, flags)]) == status
        return capsys.readouterr()

    return talk


def expected_answers(*questions, system=None, **settings):
    """What the library answers to a conversation, turn by turn."""
    turns = [{"role": "system", "content": system}] if system else []
    answers = []
    for question in questions:
        turns.append({"role": "user", "content": question})
        (answer,) = generate_answers(tiny_llama(), tiny_tokenizer(), [turns], max_new_tokens=8, **settings)
        turns.append({"role": "assistant", "content": answer.text})
        answers.append(answer.text)
    return answers


def plain(*answers):
    return "".join(f"{command.printable(answer)}\n" for answer in answers)


def test_each_line_of_a_pipe_is_a_turn_and_each_answer_is_printed_plainly(chat):
    said = chat(["\ufeff오늘?", "", "네, 그래요?"])
    assert said.out == plain(*expected_answers("오늘?", "네, 그래요?"))


def test_reset_forgets_and_system_stands_before_the_conversation(chat):
    said = chat(["오늘?", "/reset", "오늘?", "/system hello world", "/reset", "오늘?", "/quit", "네?"])
    first, again, told, *rest = said.out.splitlines()
    assert first == again != told and not rest
    assert "System text: hello world" in said.err
    assert chat(["오늘?"], "--system", "hello world").out == f"{told}\n"


def test_a_decomposed_message_is_composed_and_two_slashes_are_one(chat):
    assert chat(["\u110b\u1169늘?"]).out == chat(["오늘?"]).out
    assert chat(["//오늘?"]).out == plain(*expected_answers("/오늘?"))


def test_another_adapter_answers_and_the_base_again(chat, models):
    said = chat(["오늘?", "/reset", f"/adapter {models / 'sft'}", "오늘?", "/reset", "/adapter", "오늘?"])
    base, adapted, again = said.out.splitlines()
    assert base == again != adapted
    assert chat(["오늘?"], model="sft").out == f"{adapted}\n"


def test_an_adapter_that_does_not_fit_leaves_all_as_it_was(models):
    talk = command.Chat(
        command.Candidate("", str(models / "base"), str(models / "sft")),
        {"do_sample": False, "num_beams": 1},
        command.argparse.Namespace(load_in_4bit=False, trust_remote_code=False, max_new_tokens=8),
    )
    before, _ = talk.answer("오늘?", str)
    for name, why in (("wide", "does not belong"), ("reward", "gives scores"), ("nowhere", "No adapter")):
        with pytest.raises(command.InputError, match=why):
            talk.use(str(models / name))
        talk.turns.clear()
        assert talk.answer("오늘?", str)[0] == before


def test_a_seed_draws_again_and_each_answer_is_drawn_anew(chat):
    drawn = ["--sample", "--temperature", 3]
    lines = ["오늘?", "/reset", "오늘?", "/reset", "/seed 5", "오늘?"]
    one, same, other = chat(lines, *drawn).out.splitlines()
    assert one == same != other
    assert "no effect" in chat(["/seed 5"], status=2).err


def test_with_beams_the_answer_comes_whole(chat):
    assert chat(["오늘?"], "--beam", 3).out == plain(*expected_answers("오늘?", num_beams=3))


def test_a_saved_conversation_is_read_back_as_rows(chat, tmp_path):
    file = tmp_path / "대화.jsonl"
    said = chat(["오늘?", f"/save {file}", "네?", f"/save {file}"], "--system", "hello")
    first, second = expected_answers("오늘?", "네?", system="hello")
    assert f"{file}: 2 turns" in said.err and f"{file}: 4 turns" in said.err
    rows = list(format_dataset(load_rows(file)))
    assert [row["completion"][0]["content"] for row in rows] == [first, second]
    assert [turn["content"] for turn in rows[1]["prompt"]] == ["hello", "오늘?", first, "네?"]


def test_a_file_of_somebody_else_is_never_written_over(chat, tmp_path):
    (tmp_path / "mine.jsonl").write_text("{}\n")
    assert "give another name" in chat(["오늘?", f"/save {tmp_path / 'mine.jsonl'}"], status=2).err
    assert (tmp_path / "mine.jsonl").read_text() == "{}\n"


def test_what_is_left_out_of_a_long_conversation_is_said(chat):
    long = "hello world " * 20
    said = chat([f"{number} {long}" for number in range(4)])
    assert "turns from the beginning were left out: the model reads 256 tokens" in said.err
    assert len(said.out.splitlines()) >= 4
    refused = chat(["hello " * 250], status=2)
    assert "the model reads 256, of which 8 are kept for its answer" in refused.err and refused.out == ""


def test_the_answer_after_a_cut_is_that_to_the_turns_that_were_left(models):
    talk = command.Chat(
        command.Candidate("", str(models / "base"), None),
        {"do_sample": False, "num_beams": 1},
        command.argparse.Namespace(load_in_4bit=False, trust_remote_code=False, max_new_tokens=8),
    )
    for number in range(4):
        answer, left_out = talk.answer(f"{number} " + "hello world " * 20, str)
    assert left_out and left_out % 2 == 0 and talk.turns[left_out]["role"] == "user"
    turns = talk.turns[left_out:-1]
    assert [answer] == generate_answers(tiny_llama(), tiny_tokenizer(), [turns], max_new_tokens=8)
    assert len(talk.turns) == 8  # all of it is saved


def test_an_answer_that_was_cut_by_length_is_said(chat):
    assert "(cut after 8 tokens; --max_new_tokens allows more)" in chat(["오늘?"]).err


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["/rest"], "No command /rest; there are /reset, /system"),
        (["/save x.jsonl"], "no conversation to save yet"),
        (["오늘?", "/save x.csv"], "ends in .jsonl, not 'x.csv'"),
        (["/adapter ./nowhere"], "There is no folder ./nowhere"),
        (["a\ud83d"], "half a character"),
    ],
)
def test_what_makes_no_sense_ends_a_pipe_with_one_line(lines, message, chat):
    error = chat(lines, status=2).err.splitlines()[-1]
    assert error.startswith("trl-kochat chat: ") and message in error


def test_a_system_text_that_the_template_would_lose_is_refused(models, chat, tmp_path):
    deaf = tiny_tokenizer()
    deaf.chat_template = "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}</s>{% endfor %}"
    tiny_llama().save_pretrained(tmp_path / "deaf")
    deaf.save_pretrained(tmp_path / "deaf")
    assert "leaves a system text out" in chat([], "--system", "hello", status=2, model=tmp_path / "deaf").err


def test_a_pipe_that_is_not_utf_8_is_said(models, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("안녕?\n".encode("cp949")), encoding="utf-8"))
    assert main(["chat", str(models / "base")]) == 2
    assert "is not utf-8; convert it" in capsys.readouterr().err


# Typed.


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def typed(models, monkeypatch):
    """`typed(lines)`: what is shown when these lines are typed where prompt_toolkit is missing; an error is raised."""

    def talk(lines, *flags):
        shown = Terminal()
        lines = iter(lines)

        def read(mark):
            line = next(lines, EOFError())
            if isinstance(line, BaseException):
                raise line
            return line

        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, shown)
        monkeypatch.setattr(sys, "stdin", Terminal())
        monkeypatch.setattr(command, "find_spec", lambda name: None)
        monkeypatch.setattr("builtins.input", read)
        assert main(["chat", str(models / "base"), "--max_new_tokens", "8", *flags]) == 0
        return shown.getvalue()

    return talk


def test_without_prompt_toolkit_lines_are_read_plainly_and_it_is_said(typed):
    shown = typed(["오늘?"])
    assert "Without prompt_toolkit" in shown and plain(*expected_answers("오늘?")) in shown


def test_at_a_terminal_a_mistake_is_said_and_the_conversation_goes_on(typed):
    shown = typed(["/rest", KeyboardInterrupt(), "오늘?", "/help"])
    assert "No command /rest" in shown and "/quit ends." in shown and "/save FILE" in shown
    assert plain(*expected_answers("오늘?")) in shown


def test_a_stopped_answer_leaves_no_trace_in_the_conversation(typed, monkeypatch, tmp_path):
    import trl_kochat.measure.generate as generation

    generate = generation.generate_answers

    def stopped(model, tokenizer, prompts, **settings):
        if prompts[0][-1]["content"] == "그만":
            raise KeyboardInterrupt
        return generate(model, tokenizer, prompts, **settings)

    monkeypatch.setattr(generation, "generate_answers", stopped)
    shown = typed(["오늘?", "그만", f"/save {tmp_path / 'c.jsonl'}"])
    assert "neither question nor answer is kept" in shown
    (row,) = load_rows(tmp_path / "c.jsonl")
    assert [turn["content"] for turn in row["messages"][::2]] == ["오늘?"]


def test_hangul_is_edited_by_the_syllable():
    pytest.importorskip("prompt_toolkit")
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text("안녕하세요\x7f\x1b[D\x1b[D\x7f\r")  # rub out 요, two to the left, rub out 녕
        keys.send_text("\x04")
        assert list(command.typed_lines()) == ["안하세"]


def test_a_terminal_obeys_nothing_that_a_model_says(capsys):
    class Evil:
        positions = 1

        def answer(self, message, write):
            write("\x1b[2J네")
            return Generation("?", "네", [1], True), 0

    command.reply(Evil(), "?")
    assert capsys.readouterr().out == "\\x1b[2J네\n"


def test_json_of_a_saved_row_holds_hangul_as_it_is(chat, tmp_path):
    chat(["오늘?", f"/save {tmp_path / 'c.jsonl'}"])
    text = (tmp_path / "c.jsonl").read_text(encoding="utf-8")
    assert "오늘?" in text and json.loads(text)["messages"][0] == {"role": "user", "content": "오늘?"}
