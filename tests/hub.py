"""A Hugging Face Hub on 127.0.0.1: what huggingface_hub and datasets ask of `HF_ENDPOINT`, and no more."""

import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit


COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = r"(?P<kind>models/|datasets/|)(?P<name>[^/]+/[^/]+)"
API = re.compile(rf"/api/{REPO}(/revision/(?P<revision>[^/]+))?$")
TREE = re.compile(rf"/api/{REPO}/tree/(?P<revision>[^/]+)(/(?P<path>.*))?$")
PATHS = re.compile(rf"/api/{REPO}/paths-info/(?P<revision>[^/]+)$")
RESOLVE = re.compile(rf"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)$")


@dataclass
class Repository:
    """Files by their path; `gated` answers 403, and a file of `cut` is never sent beyond its first half."""

    files: dict[str, bytes]
    revisions: tuple[str, ...] = ("main", COMMIT)
    gated: bool = False
    cut: set[str] = field(default_factory=set)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _with_folders(repository: Repository) -> list[str]:
    folders = {str(folder) for path in repository.files for folder in PurePosixPath(path).parents} - {"."}
    return sorted([*folders, *repository.files])


class _Handler(http.server.BaseHTTPRequestHandler):
    repositories: dict[str, Repository]  # "owner/name" of a model, "datasets/owner/name"
    pages: dict[str, bytes]  # files under a path of their own, as on another host

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path in self.pages:
            return self._send(self.pages[path])
        for pattern, answer in ((RESOLVE, self._file), (TREE, self._tree), (PATHS, self._paths), (API, self._info)):
            found = pattern.match(path)
            if found:
                return self._of_repository(found.groupdict(), answer)
        return self._fail(404, "EntryNotFound", "nothing here")

    do_HEAD = do_GET
    do_POST = do_GET

    def _of_repository(self, asked: dict, answer) -> None:
        kind = "datasets/" if asked["kind"] == "datasets/" else ""
        repository = self.repositories.get(kind + asked["name"])
        if repository is None:
            return self._fail(404, "RepoNotFound", "Repository not found")
        if repository.gated and answer == self._file:
            return self._fail(403, "GatedRepo", "Access to this repository is restricted; ask for access first")
        if (asked["revision"] or "main") not in repository.revisions:
            return self._fail(404, "RevisionNotFound", f"Invalid rev id: {asked['revision']}")
        return answer(repository, asked)

    def _file(self, repository: Repository, asked: dict) -> None:
        content = repository.files.get(asked["path"])
        if content is None:
            return self._fail(404, "EntryNotFound", "Entry not found")
        return self._send(content, cut=asked["path"] in repository.cut)

    def _info(self, repository: Repository, asked: dict) -> None:
        siblings = [{"rfilename": path} for path in repository.files]
        about = {
            "id": asked["name"],
            "sha": COMMIT,
            "siblings": siblings,
            "private": False,
            "tags": [],
            "downloads": 0,
        }
        self._send(json.dumps({**about, "gated": "auto" if repository.gated else False}).encode())

    def _tree(self, repository: Repository, asked: dict) -> None:
        folder = f"{asked['path']}/" if asked["path"] else ""
        paths = [path for path in _with_folders(repository) if path.startswith(folder)]
        if folder and not paths:
            return self._fail(404, "EntryNotFound", "no such folder")
        if parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() != "true":
            paths = [path for path in paths if "/" not in path.removeprefix(folder)]
        return self._send(json.dumps([self._entry(repository, path) for path in paths]).encode())

    def _paths(self, repository: Repository, asked: dict) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        form = json.loads(body) if body.startswith("{") else parse_qs(body)
        paths = [path for path in form.get("paths", []) if path in _with_folders(repository)]
        self._send(json.dumps([self._entry(repository, path) for path in paths]).encode())

    def _entry(self, repository: Repository, path: str) -> dict:
        if path not in repository.files:
            return {"type": "directory", "path": path, "size": 0, "oid": COMMIT}
        content = repository.files[path]
        return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def _send(self, content: bytes, *, cut: bool = False) -> None:
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(start[1]) if start else 0
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[first : len(content) // 2 if cut else None])

    def _fail(self, status: int, code: str, message: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def hub(repositories: dict[str, Repository], pages: dict[str, bytes] | None = None) -> Iterator[str]:
    """Serve them as long as the context lasts; yields the address to set as `HF_ENDPOINT`."""
    handler = type("Handler", (_Handler,), {"repositories": repositories, "pages": pages or {}})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
