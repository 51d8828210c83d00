"""Raw rows from wherever they lie: files, folders, URLs, the course's repository, the Hub."""

import os
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import InputError, network_errors
from ..sample import embedded
from ..text.shown import cut, listed, shown
from .files import Row, broken_parquet, check_parquet, read_file
from .source import Source, is_parquet, sources_of


if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

# The course's files by name, where no local file of that name exists; the variable TRL_KOCHAT_COURSE_URL names another
# place that has them, a mirror say.
COURSE_URL = "https://raw.githubusercontent.com/airobotlab/KoChatGPT/main/data_kochatgpt/"
COURSE_FILES = (
    "kochatgpt_1_SFT.jsonl",
    "kochatgpt_1_SFT_conversation.jsonl",
    "kochatgpt_2_RM.jsonl",
    "kochatgpt_3_PPO.jsonl",
)
SUFFIXES = (".json", ".jsonl", ".ndjson", ".txt", ".csv", ".tsv", ".xlsx", ".parquet", ".gz", ".zip")


def load_rows(
    source: str | PathLike[str], *, split: str = "train", streaming: bool = False, encoding: str = "utf-8"
) -> "list[Row] | Dataset | IterableDataset":
    """Read raw rows; what a file holds is told by its content, not by its name.

    Args:
        source (`str` or path): One of

            - a file: a JSON array or JSON lines (under either name), one JSON object with the rows under `data`, CSV or
              TSV (commas, tabs, semicolons or bars, as its header has them), an Excel workbook (its first sheet; the extra
              `excel` reads it), parquet, or the text of KoChatGPT's dialogues; in UTF-8, with or without a BOM; packed
              with gzip, or any number of them in a zip archive;
            - a folder of such files, or one that `save_to_disk` wrote;
            - an `http(s)` URL of a file, kept in the datasets cache;
            - the name of one of the course's files (`COURSE_FILES`), fetched from its public repository, or from where
              the environment variable `TRL_KOCHAT_COURSE_URL` says, when there is no local file of that name;
            - `sample:FILE`, rows embedded in this package;
            - the id of a dataset on the Hugging Face Hub, `owner/name`; one that needs a script of its own is refused.
        split (`str`, *optional*, defaults to `"train"`): Split of a dataset on the Hub, or of a saved `DatasetDict`.
        streaming (`bool`, *optional*, defaults to `False`): Read row by row while the rows are used. A JSON array and
            dialogues are still read whole.
        encoding (`str`, *optional*, defaults to `"utf-8"`): That of the files: `"cp949"` (also for what calls itself
            EUC-KR), `"utf-16"`, ... An error names the one that a file looks like.

    Returns:
        A list of rows for JSON, CSV and dialogues, a [`datasets.Dataset`] for parquet and the Hub, a
        [`datasets.IterableDataset`] when streaming. A dialogue is `{"conversation": [{"speaker", "text"}, ...]}`.

    Raises:
        ValueError: The file is empty, of another encoding, or broken (with line and column), there is no such file, or what is
            not here cannot be fetched.
    """
    if not isinstance(source, str | PathLike) or not str(source).strip():
        raise InputError(
            f"load_rows takes a file, folder, URL or Hub id, not {shown(source)}; one call for each source."
        )
    name = str(source)
    if name.lower().startswith(("http://", "https://")):
        return _load_files([_download(name)], streaming, encoding, name)
    if "\0" in name:  # which no file system takes
        raise InputError(f"There is no file or folder {shown(name)}: a name holds no NUL character.")
    path = Path(os.path.expanduser(embedded(source)))
    if os.path.isdir(path):
        return _load_folder(path, split, streaming, encoding)
    if os.path.isfile(path):
        return _load_files([path], streaming, encoding)
    if name in COURSE_FILES:
        url = os.environ.get("TRL_KOCHAT_COURSE_URL", COURSE_URL) + name
        return _load_files([_download(url)], streaming, encoding, name)
    if path.suffix.lower() in SUFFIXES or path.is_absolute() or name.startswith((".", "~")):
        raise InputError(f"There is no file or folder {cut(name, 300)}.")
    return _load_from_hub(name, split, streaming)


def _load_folder(path: Path, split: str, streaming: bool, encoding: str) -> "list[Row] | Dataset | IterableDataset":
    import datasets

    splits = (path / "dataset_dict.json").is_file()
    if splits or ((path / "state.json").is_file() and (path / "dataset_info.json").is_file()):
        saved = datasets.load_from_disk(path)
        if splits and split not in saved:
            raise InputError(f"Folder {path} has no split {shown(split)}; there are {listed(saved)}.")
        rows = saved[split] if splits else saved
        return rows.to_iterable_dataset() if streaming else rows
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"Folder {path} holds no file of rows ({', '.join(SUFFIXES)}).")
    return _load_files(files, streaming, encoding)


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
    except (*network_errors(), ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"{nowhere}: {cut(' '.join(str(error.__cause__ or error).split()), 500)}") from error


def _download(url: str) -> Path:
    import datasets

    try:
        urlsplit(url)
    except ValueError as error:
        raise InputError(f"{cut(url, 300)} is no URL: {error}.") from error
    try:
        return Path(datasets.DownloadManager().download(url))
    except (*network_errors(), ValueError, datasets.exceptions.DatasetsError) as error:
        raise InputError(
            f"{cut(url, 300)} is not on this machine and cannot be fetched: {cut(' '.join(str(error).split()), 300)}"
        ) from error


def _load_files(
    files: list[Path], streaming: bool, encoding: str, name: str | None = None
) -> "list[Row] | Dataset | IterableDataset":
    import datasets

    sources = [one for file in files for one in sources_of(file, name or str(file), encoding, SUFFIXES)]
    names = ", ".join(source.name for source in sources)
    parquet = [is_parquet(source) for source in sources]
    if any(parquet) and not all(parquet):
        raise InputError(f"{cut(names, 300)}: parquet files and others cannot be read together.")
    if all(parquet):
        check_parquet(sources)
        paths = [str(source.path) for source in sources]
        try:
            return datasets.load_dataset("parquet", data_files=paths, split="train", streaming=streaming)
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            raise InputError(broken_parquet(names, error.__cause__ or error)) from error
    if not streaming:
        return list(_read_files(sources))
    for source in sources:
        next(read_file(source))  # raises now what the stream would raise at its first row
    return datasets.IterableDataset.from_generator(_read_files, gen_kwargs={"sources": sources})


def _read_files(sources: list[Source]) -> Iterator[Row]:
    for source in sources:
        yield from read_file(source)
