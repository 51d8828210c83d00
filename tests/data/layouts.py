"""A row of each layout of docs/data.md, written by us, and what it becomes."""

from typing import Any, NamedTuple


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


class Layout(NamedTuple):
    given: Any
    """A row, or the text of a file."""
    made: list[dict[str, Any]]
    columns: tuple[str, ...] = ()
    """What `--columns` says."""
    file: str = "rows.jsonl"


ASKED, GOOD, FAIR, BAD = "하늘은 왜 파래요?", "빛이 흩어져서요.", "공기 때문이에요.", "몰라요."
BEFORE = [user("안녕?"), assistant("네, 안녕하세요.")]
ANSWERED = [{"prompt": [user(ASKED)], "completion": [assistant(GOOD)]}]
IN_TURN = [
    {"prompt": BEFORE[:1], "completion": BEFORE[1:]},
    {"prompt": [*BEFORE, user(ASKED)], "completion": [assistant(GOOD)]},
]
BEHIND_A_SYSTEM_TEXT = [{**ANSWERED[0], "prompt": [system("짧게 답해."), user(ASKED)]}]
PAIR = [{"prompt": [user(ASKED)], "chosen": [assistant(GOOD)], "rejected": [assistant(BAD)]}]
PAIR_BEHIND_A_SYSTEM_TEXT = [{**PAIR[0], "prompt": [system("짧게 답해."), user(ASKED)]}]
TURNS = [*BEFORE, user(ASKED), assistant(GOOD)]
SHAREGPT = [{"from": {"user": "human", "assistant": "gpt"}[turn["role"]], "value": turn["content"]} for turn in TURNS]
TALK = "\n\nHuman: {}\n\nAssistant: {}"
TOOL = {"type": "function", "function": {"name": "weather", "description": "날씨", "parameters": {"type": "object"}}}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": "{}"}}],
}


def ranked(*margins):
    """The three pairs of GOOD, FAIR and BAD, in that order, as their margins tell."""
    pairs = ((GOOD, FAIR), (GOOD, BAD), (FAIR, BAD))
    return [
        {"prompt": [user(ASKED)], "chosen": [assistant(better)], "rejected": [assistant(worse)], "margin": margin}
        for (better, worse), margin in zip(pairs, margins, strict=True)
    ]


LAYOUTS = {
    # Prompts and answers.
    "KoChatGPT, stage 1": Layout({"prompt": ASKED, "completion": f"'{GOOD}", "tokens": 12}, ANSWERED),
    "KoChatGPT, dialogues": Layout(
        f"<<start conversation>>\n<사람>: 안녕?\n<챗봇>: 네, 안녕하세요.\n<사람>: {ASKED}\n<챗봇>: {GOOD}\n", IN_TURN, file="talk.txt"
    ),
    "Alpaca, KULLM v2": Layout(
        {"id": "a_1", "instruction": "요약해 줘.", "input": "긴 글", "output": "글"},
        [{"prompt": [user("요약해 줘.\n\n긴 글")], "completion": [assistant("글")]}],
    ),
    "KoAlpaca v1.1a": Layout({"instruction": ASKED, "output": GOOD, "url": "https://example.com"}, ANSWERED),
    "Dolly": Layout({"instruction": ASKED, "context": "", "response": GOOD, "category": "open_qa"}, ANSWERED),
    "LLaMA-Factory, Alpaca": Layout(
        {"instruction": ASKED, "input": "", "output": GOOD, "system": "짧게 답해.", "history": [["안녕?", "네, 안녕하세요."]]},
        [{"prompt": [system("짧게 답해."), *BEFORE, user(ASKED)], "completion": [assistant(GOOD)]}],
    ),
    "OpenOrca": Layout(
        {"id": "flan.1", "system_prompt": "짧게 답해.", "question": ASKED, "response": GOOD}, BEHIND_A_SYSTEM_TEXT
    ),
    "KoAlpaca-RealQA": Layout({"custom_id": "q1", "question": ASKED, "answer": GOOD}, ANSWERED),
    "ChatbotData": Layout(f"Q,A,label\n{ASKED},{GOOD},0\n", ANSWERED, file="ChatbotData.csv"),
    "A Korean table": Layout(f"질문\t답변\n{ASKED}\t{GOOD}\n", ANSWERED, file="table.tsv"),
    "A table of other names": Layout(
        {"물음": ASKED, "대답": GOOD, "번호": 1}, ANSWERED, columns=("물음=prompt", "대답=completion")
    ),
    # Conversations.
    "OpenAI, TRL": Layout({"messages": TURNS}, IN_TURN),
    "ShareGPT": Layout({"id": "s_1", "conversations": SHAREGPT}, IN_TURN),
    "UltraChat 200k": Layout({"prompt": "안녕?", "prompt_id": "1", "messages": TURNS}, IN_TURN),
    "LIMA": Layout({"conversations": [turn["content"] for turn in TURNS], "source": "stackexchange"}, IN_TURN),
    "Calls of tools": Layout(
        {"messages": [user("날씨?"), CALL, {"role": "tool", "name": "weather", "content": "맑음"}, assistant("맑아요.")], "tools": [TOOL]},
        [
            {"prompt": [user("날씨?")], "completion": [CALL], "tools": [TOOL]},
            {
                "prompt": [user("날씨?"), CALL, {"role": "tool", "name": "weather", "content": "맑음"}],
                "completion": [assistant("맑아요.")],
                "tools": [TOOL],
            },
        ],
    ),
    # Pairs.
    "Orca pairs": Layout({"system": "짧게 답해.", "question": ASKED, "chosen": GOOD, "rejected": BAD}, PAIR_BEHIND_A_SYSTEM_TEXT),
    "Orca pairs, before": Layout({"system": "", "question": ASKED, "chatgpt": GOOD, "llama2-13b-chat": BAD}, PAIR),
    "OpenAI, preference": Layout(
        {
            "input": {"messages": [user(ASKED)], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [assistant(GOOD)],
            "non_preferred_output": [assistant(BAD)],
        },
        PAIR,
    ),
    "TRL, ko_Ultrafeedback_binarized": Layout({"prompt": ASKED, "chosen": GOOD, "rejected": BAD}, PAIR),
    "TRL, prompt within": Layout(
        {"chosen": [user(ASKED), assistant(GOOD)], "rejected": [user(ASKED), assistant(BAD)], "score_chosen": 8, "score_rejected": 2},
        PAIR,
    ),
    "UltraFeedback binarized": Layout(
        {
            "prompt": ASKED,
            "prompt_id": "1",
            "chosen": [user(ASKED), assistant(GOOD)],
            "rejected": [user(ASKED), assistant(BAD)],
            "messages": [user(ASKED), assistant(GOOD)],
            "score_chosen": 8.0,
            "score_rejected": 2.0,
        },
        PAIR,
    ),
    "argilla, Orca pairs": Layout(
        {"system": "짧게 답해.", "input": ASKED, "chosen": GOOD, "rejected": BAD, "generations": [GOOD, BAD], "rating": [9, 2], "status": "unchanged"},
        PAIR_BEHIND_A_SYSTEM_TEXT,
    ),
    "LLaMA-Factory, Alpaca pairs": Layout({"instruction": ASKED, "input": "", "chosen": GOOD, "rejected": BAD}, PAIR),
    "LLaMA-Factory, ShareGPT pairs": Layout(
        {
            "conversations": [{"from": "human", "value": ASKED}],
            "chosen": {"from": "gpt", "value": GOOD},
            "rejected": {"from": "gpt", "value": BAD},
        },
        PAIR,
    ),
    "HH-RLHF": Layout({"chosen": TALK.format(ASKED, GOOD), "rejected": TALK.format(ASKED, BAD)}, PAIR),
    "full-hh-rlhf": Layout({"prompt": TALK.format(ASKED, ""), "response": GOOD, "chosen": GOOD, "rejected": BAD}, PAIR),
    "stack-exchange-paired": Layout(
        {"qid": 1, "question": ASKED, "date": "2026/01/01", "response_j": GOOD, "response_k": BAD},
        PAIR,
        columns=("response_j=chosen", "response_k=rejected"),
    ),
    # Several answers with ranks or scores.
    "KoChatGPT, stage 2": Layout(
        {"prompt": ASKED, "completion_0": GOOD, "completion_1": FAIR, "completion_2": BAD, "ranking": [0, 1, 2]},
        ranked(1.0, 2.0, 1.0),
    ),
    "UltraFeedback": Layout(
        {
            "source": "flan",
            "instruction": ASKED,
            "models": ["a", "b", "c"],
            "completions": [
                {"model": "a", "response": GOOD, "overall_score": 9.0},
                {"model": "b", "response": FAIR, "overall_score": 7.0},
                {"model": "c", "response": BAD, "overall_score": 1.0},
            ],
            "correct_answers": ["None"],
        },
        ranked(2.0, 8.0, 6.0),
    ),
    "argilla, UltraFeedback": Layout(
        {"instruction": ASKED, "generations": [GOOD, FAIR, BAD], "ratings": [5, 4, 1], "rationales": ["", "", ""]}, ranked(1.0, 4.0, 3.0)
    ),
    "Nectar": Layout(
        {
            "prompt": TALK.format(ASKED, ""),
            "answers": [
                {"answer": GOOD, "model": "a", "rank": 1.0},
                {"answer": FAIR, "model": "b", "rank": 2.0},
                {"answer": BAD, "model": "c", "rank": 3.0},
            ],
            "turns": 1,
            "num_responses": 3,
            "good_natured": True,
        },
        ranked(1.0, 2.0, 1.0),
    ),
    "Numbered answers": Layout(
        {"prompt": ASKED, "response1": GOOD, "scores1": 5, "response2": FAIR, "scores2": 4, "response3": BAD, "scores3": 1},
        ranked(1.0, 4.0, 3.0),
    ),
    # Answers marked as good or bad.
    "TRL, KTO": Layout({"prompt": [user(ASKED)], "completion": [assistant(BAD)], "label": False}, [
        {"prompt": [user(ASKED)], "completion": [assistant(BAD)], "label": False}
    ]),
    "LLaMA-Factory, KTO": Layout({"messages": [user(ASKED), assistant(GOOD)], "label": True}, [{**ANSWERED[0], "label": True}]),
    # Prompts and text alone.
    "KoChatGPT, stage 3": Layout({"prompt": ASKED}, [{"prompt": [user(ASKED)]}]),
    "Running text": Layout(
        {"id": "1", "url": "https://example.com", "title": "하늘", "text": "하늘은 파랗다."}, [{"text": "하늘은 파랗다."}]
    ),
}  # fmt: skip
