"""Raw rows from wherever they lie, and the split that keeps a prompt on one side."""

import csv
import json
import os
import re
import unicodedata
from collections.abc import Iterator
from hashlib import blake2b
from math import ceil
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import InputError
from ..text.prompts import prompt_key, prompt_text
from ..text.shown import cut, listed, shown


if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

Row = dict[str, Any]

# The course's files by name, where no local file of that name exists.
COURSE_URL = "https://raw.githubusercontent.com/airobotlab/KoChatGPT/main/data_kochatgpt/"
COURSE_FILES = (
    "kochatgpt_1_SFT.jsonl",
    "kochatgpt_1_SFT_conversation.jsonl",
    "kochatgpt_2_RM.jsonl",
    "kochatgpt_3_PPO.jsonl",
)
CONVERSATION_START = "<<start conversation>>"
SUFFIXES = (".json", ".jsonl", ".ndjson", ".txt", ".csv", ".parquet")

_SPEAKERS = ("사람", "챗봇")
# In either Unicode form: a file that went through macOS may be decomposed.
_TURN = re.compile(
    rf"^<({'|'.join(unicodedata.normalize(form, name) for name in _SPEAKERS for form in ('NFC', 'NFD'))})>:",
    flags=re.MULTILINE,
)
_BOM = b"\xef\xbb\xbf"


def load_rows(
    source: str | PathLike[str], *, split: str = "train", streaming: bool = False
) -> "list[Row] | Dataset | IterableDataset":
    """Read raw rows; what a file holds is told by its content, not by its name.

    Args:
        source (`str` or path): One of

            - a file: a JSON array or JSON lines (under either name), CSV, parquet, or the text of KoChatGPT's
              dialogues; UTF-8, with or without a BOM;
            - a folder of such files, or one that `save_to_disk` wrote;
            - an `http(s)` URL of a file, kept in the datasets cache;
            - the name of one of the course's files (`COURSE_FILES`), fetched from its public repository when there is
              no local file of that name;
            - the id of a dataset on the Hugging Face Hub, `owner/name`; one that needs a script of its own is refused.
        split (`str`, *optional*, defaults to `"train"`): Split of a dataset on the Hub, or of a saved `DatasetDict`.
        streaming (`bool`, *optional*, defaults to `False`): Read row by row while the rows are used. A JSON array and
            dialogues are still read whole.

    Returns:
        A list of rows for JSON, CSV and dialogues, a [`datasets.Dataset`] for parquet and the Hub, a
        [`datasets.IterableDataset`] when streaming. A dialogue is `{"conversation": [{"speaker", "text"}, ...]}`.

    Raises:
        ValueError: The file is empty, not UTF-8, or broken (with line and column), there is no such file, or what is
            not here cannot be fetched.
    """
    import datasets

    if not isinstance(source, str | PathLike) or not str(source).strip():
        raise InputError(
            f"load_rows takes a file, folder, URL or Hub id, not {shown(source)}; one call for each source."
        )
    if _is_url(str(source)):
        return _load_files([_download(str(source))], streaming, name=str(source))
    if "\0" in str(source):  # which no file system takes
        raise InputError(f"There is no file or folder {shown(str(source))}: a name holds no NUL character.")
    path = Path(os.path.expanduser(source))
    if os.path.isdir(path):
        if (path / "dataset_dict.json").is_file():
            splits = datasets.load_from_disk(path)
            if split not in splits:
                raise InputError(f"Folder {path} has no split {shown(split)}; there are {listed(splits)}.")
            return splits[split].to_iterable_dataset() if streaming else splits[split]
        if (path / "state.json").is_file() and (path / "dataset_info.json").is_file():
            dataset = datasets.load_from_disk(path)
            return dataset.to_iterable_dataset() if streaming else dataset
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not files:
            raise InputError(f"Folder {path} holds no file of rows ({', '.join(SUFFIXES)}).")
        return _load_files(files, streaming)
    if os.path.isfile(path):
        return _load_files([path], streaming)
    if str(source) in COURSE_FILES:
        return _load_files([_download(COURSE_URL + str(source))], streaming, name=str(source))
    if path.suffix.lower() in SUFFIXES or path.is_absolute() or str(source).startswith((".", "~")):
        raise InputError(f"There is no file or folder {cut(str(source), 300)}.")
    return _load_from_hub(str(source), split, streaming)


def _load_from_hub(name: str, split: str, streaming: bool) -> "Dataset | IterableDataset":
    import datasets
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    nowhere = f"There is no file or folder {cut(name, 300)} here, and as a dataset of the Hub it is not to be had"
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise InputError(f"{nowhere}: such a dataset is named owner/name.") from error
    # A name without an owner may be one of the datasets library's own readers ("text", "json"), which would read
    # whatever lies in the working folder.
    if "/" not in name or name.endswith(".py"):
        raise InputError(f"{nowhere}: such a dataset is named owner/name.")
    try:
        return datasets.load_dataset(name, split=split, streaming=streaming)
    # Not there or not to be reached; no such split; a dataset that is made by a script of its own; broken files.
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"{nowhere}: {cut(str(error.__cause__ or error), 500)}") from error


def _is_url(name: str) -> bool:
    if not name.lower().startswith(("http://", "https://")):
        return False
    try:
        urlsplit(name)
    except ValueError as error:
        raise InputError(f"{cut(name, 300)} is no URL: {error}.") from error
    return True


def _download(url: str) -> Path:
    import datasets

    try:
        return Path(datasets.DownloadManager().download(url))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{cut(url, 300)} is not on this machine and cannot be fetched: {cut(str(error), 300)}"
        ) from error


def _load_files(
    files: list[Path], streaming: bool, name: str | None = None
) -> "list[Row] | Dataset | IterableDataset":
    import datasets

    names = [name or str(file) for file in files]
    parquet = [_starts_with(file, b"PAR1") for file in files]
    if any(parquet) and not all(parquet):
        raise InputError(f"{', '.join(names)}: parquet files and others cannot be read together.")
    if all(parquet):
        _check_parquet(files, names)
        paths = [str(file) for file in files]
        try:
            return datasets.load_dataset("parquet", data_files=paths, split="train", streaming=streaming)
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            raise InputError(_broken_parquet(", ".join(names), error.__cause__ or error)) from error
    if streaming:
        _check_first_rows(files, names)
        return datasets.IterableDataset.from_generator(_read_files, gen_kwargs={"files": files, "names": names})
    return list(_read_files(files, names))


def _broken_parquet(name: str, error: BaseException) -> str:
    return f"{name} is a broken parquet file: {cut(' '.join(str(error).split()), 300)}"


def _check_parquet(files: list[Path], names: list[str]) -> None:
    """Raise for what reading would only say in the words of a library: no parquet after all, no rows, other columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = None
    for file, name in zip(files, names, strict=True):
        try:
            metadata = pq.read_metadata(file)
            types = {field.name: field.type for field in metadata.schema.to_arrow_schema()}
        except (OSError, ValueError, pa.ArrowException) as error:
            raise InputError(_broken_parquet(name, error)) from error
        if not metadata.num_rows:
            raise InputError(f"{name} has columns and no rows.")
        if types != (first := first or types):
            told = " and ".join(
                listed(f"{column} ({kind})" for column, kind in sorted(columns.items())) for columns in (first, types)
            )
            raise InputError(f"{names[0]} and {name} have different columns and cannot be read together: {told}.")


def _check_first_rows(files: list[Path], names: list[str]) -> None:
    """Raise now what a stream would raise at its first row."""
    for file, name in zip(files, names, strict=True):
        next(_read_file(file, name))


def _starts_with(file: Path, magic: bytes) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(magic)) == magic


def _read_files(files: list[Path], names: list[str]) -> Iterator[Row]:
    for file, name in zip(files, names, strict=True):
        yield from _read_file(file, name)


def _read_file(file: Path, name: str) -> Iterator[Row]:
    with file.open("rb") as stream:
        head = stream.read(4096).removeprefix(_BOM).lstrip()
        while not head and (more := stream.read(4096)):
            head = more.lstrip()
    if not head:
        raise InputError(f"{name} is empty.")
    if head.startswith(b"["):
        rows = _read_array(file, name)
    elif head.startswith(b"{"):
        rows = _read_lines(file, name)
    elif head.startswith(CONVERSATION_START.encode()):
        rows = _read_dialogues(file, name)
    elif Path(urlsplit(name).path if _is_url(name) else name).suffix.lower() == ".csv":
        rows = _read_csv(file, name)
    else:
        _read_whole(file, name)  # says so when it is not UTF-8
        raise InputError(
            f"{name} starts with {head[:40].decode(errors='replace')!r}: neither a JSON array, nor JSON lines, nor "
            f"dialogues ({CONVERSATION_START}); a CSV file must be named .csv."
        )
    return rows


def _decode(data: bytes, name: str, *, line: int | None = None) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = line or data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name}, line {line}: byte {data[error.start]:#04x} is not UTF-8. Save the file as UTF-8, "
            f"e.g. `iconv -f cp949 -t utf-8 FILE`."
        ) from error


def _read_whole(file: Path, name: str) -> str:
    return _decode(file.read_bytes().removeprefix(_BOM), name)


def _parse(text: str, name: str, *, line: int = 1) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line += error.lineno - 1
        raise InputError(f"{name}, line {line}, column {error.colno}: broken JSON: {error.msg}.") from error
    except ValueError as error:  # a number of more than 4,300 digits
        raise InputError(f"{name}, line {line} or later: broken JSON: {error}.") from error
    except RecursionError as error:
        raise InputError(f"{name}, line {line}: JSON nested too deeply to be rows.") from error


def _read_array(file: Path, name: str) -> Iterator[Row]:
    rows = _parse(_read_whole(file, name), name)
    if not rows:
        raise InputError(f"{name} is an array with no rows.")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputError(f"{name}: element {number} (counted from 0) is {shown(row)}, not an object with columns.")
        yield row


def _read_lines(file: Path, name: str) -> Iterator[Row]:
    with file.open("rb") as stream:
        # Lines of a binary file end at "\n" alone; text mode would also cut at U+2028 inside a string.
        for number, data in enumerate(stream, start=1):
            line = _decode(data.removeprefix(_BOM) if number == 1 else data, name, line=number).strip()
            if not line:
                continue
            if number == 1:
                _refuse_object(file, name)
            row = _parse(line, name, line=number)
            if not isinstance(row, dict):
                raise InputError(f"{name}, line {number}: {shown(row)} is not an object with columns.")
            yield row


def _refuse_object(file: Path, name: str) -> None:
    """Raise when the whole file is one JSON object, spread over lines or holding the rows under a key."""
    with file.open("rb") as stream:
        first, rest = stream.readline(), stream.read(1)
    if first.strip().endswith(b"}") and rest:
        return  # the first of several objects, one a line
    value = _parse(_read_whole(file, name), name)
    # Objects in a list are rows, unless they are the turns of one conversation.
    tables = [
        key
        for key, rows in value.items()
        if isinstance(rows, list) and rows and isinstance(rows[0], dict) and not {"role", "speaker"} & rows[0].keys()
    ]
    if first.strip().endswith(b"}") and not tables:
        return  # one row on one line
    raise InputError(
        f"{name} is one JSON object with the keys {listed(value)}; expected an array of rows or one object a line."
        + (f" If its {shown(tables[0])} holds the rows, save that array." if tables else "")
    )


def _read_dialogues(file: Path, name: str) -> Iterator[Row]:
    for text in _read_whole(file, name).split(CONVERSATION_START)[1:]:
        before, *rest = _TURN.split(text)
        if before.strip():
            raise InputError(f"{name}: a dialogue starts with {before.strip()[:40]!r}, not with <사람>: or <챗봇>:.")
        speakers = (unicodedata.normalize("NFC", speaker) for speaker in rest[::2])
        turns = [{"speaker": speaker, "text": turn} for speaker, turn in zip(speakers, rest[1::2], strict=True)]
        yield {"conversation": [{**turn, "text": turn["text"].strip("\n").removeprefix(" ")} for turn in turns]}


def _read_csv(file: Path, name: str) -> Iterator[Row]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            _decode(line, name, line=number)
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        empty = True
        try:
            header = list(reader.fieldnames or ())
            if twice := [column for column in dict.fromkeys(header) if header.count(column) > 1]:
                raise InputError(f"{name}, line 1: the header has {listed(twice)} more than once.")
            for row in reader:
                given = len(row) if None not in row else len(row) - 1 + len(row[None])
                given -= sum(value is None for value in row.values())
                if given != len(header):
                    raise InputError(
                        f"{name}, line {reader.line_num}: {given} fields where the header has {len(header)} "
                        f"({listed(header)})."
                    )
                empty = False
                yield row
        except csv.Error as error:
            # The row may begin there and go on: a quotation mark that nothing closes takes in the rest of the file.
            raise InputError(f"{name}, in the row that begins on line {reader.line_num + 1}: {error}.") from error
        if empty:
            raise InputError(f"{name} has a header and no rows.")


def split_by_prompt(dataset: "Dataset", eval_fraction: float, seed: int = 42) -> "tuple[Dataset, Dataset]":
    """Split into train and eval rows so that no prompt stands on both sides.

    Rows of one prompt stay together: the same text, or the same first user turn, whatever its spaces and Unicode form.
    Prompts are ordered by a hash of text and seed, and the first `eval_fraction` of them, at least one, are held out:
    the same prompt falls on the same side whatever the order of the rows, and nearly always so in another file, so
    that one seed holds out the same prompts in all stages.

    Args:
        dataset ([`datasets.Dataset`]): Rows with a `prompt`, as text or as messages.
        eval_fraction (`float`): Share of the distinct prompts to hold out, above 0 and below 1.
        seed (`int`, *optional*, defaults to `42`): Another seed holds out other prompts.

    Raises:
        ValueError: It is no dataset or a stream, there is no `prompt` column, a prompt is no text, the fraction is not
            between 0 and 1, or there are fewer than two prompts.
    """
    import datasets

    if not isinstance(dataset, datasets.Dataset):
        raise InputError(
            f"split_by_prompt takes a datasets.Dataset, as format_dataset makes of rows, not a {type(dataset).__name__}."
        )
    if "prompt" not in dataset.column_names:
        raise InputError(f"split_by_prompt needs a column 'prompt'; there are {listed(dataset.column_names)}.")
    if not isinstance(eval_fraction, Real) or not 0 < eval_fraction < 1:
        raise InputError(f"eval_fraction is {shown(eval_fraction)}; it must be above 0 and below 1.")
    keys = []
    spelt: dict[str, str] = {}  # key -> the first of its spellings, whatever the order of the rows
    for number, prompt in enumerate(dataset["prompt"]):
        try:
            key, text = prompt_key(prompt), prompt_text(prompt)
        except ValueError as error:
            raise InputError(f"Row {number} (counted from 0): {error}.") from error
        keys.append(key)
        spelt[key] = min(text, spelt.get(key, text))
    ordered = sorted(spelt, key=lambda key: blake2b(f"{seed}\n{spelt[key]}".encode(), digest_size=16).digest())
    if len(ordered) < 2:
        raise InputError(f"Cannot split {len(keys)} rows with {len(ordered)} distinct prompts: at least 2 are needed.")
    held_out = set(ordered[: min(ceil(eval_fraction * len(ordered)), len(ordered) - 1)])
    train = [i for i, key in enumerate(keys) if key not in held_out]
    evaluation = [i for i, key in enumerate(keys) if key in held_out]
    return dataset.select(train), dataset.select(evaluation)
