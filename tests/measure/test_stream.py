import torch

from tests.tiny_lm import tiny_llama, tiny_tokenizer
from trl_kochat.measure.generate import generate_answers
from trl_kochat.measure.stream import AnswerStream


def test_what_is_streamed_is_the_answer_and_never_half_a_syllable():
    model, tokenizer = tiny_llama(eos_logit=3.0), tiny_tokenizer()
    for seed in range(5):  # random tokens of bytes: many are parts of syllables, some are control tokens
        pieces = []
        stream = AnswerStream(tokenizer, pieces.append)
        settings = {"max_new_tokens": 16, "do_sample": True, "temperature": 2.0, "seed": seed}
        (answer,) = generate_answers(model, tokenizer, ["오늘?"], streamer=stream, **settings)
        (alone,) = generate_answers(model, tokenizer, ["오늘?"], **settings)
        assert answer == alone
        assert "".join(pieces) == stream.text
        assert answer.text.startswith(stream.text)
        stream.rest(answer.text)
        assert "".join(pieces) == answer.text


def test_a_syllable_of_several_tokens_comes_whole():
    tokenizer = tiny_tokenizer()
    pieces = []
    stream = AnswerStream(tokenizer, pieces.append)
    stream.put(torch.tensor([[5, 6]]))  # the prompt
    for token in (*tokenizer("뚫 네")["input_ids"], tokenizer.eos_token_id):
        stream.put(torch.tensor([token]))
    assert "".join(pieces) == "뚫 네" and "뚫" in pieces[0]
