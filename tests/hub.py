"""A small Hub on 127.0.0.1: what huggingface_hub and datasets ask of the real one, for files made in a test.

Run a program with `HF_ENDPOINT=hub.url`. A file whose name is in `cut` breaks off in the middle; a repository in `gated`
is refused as one whose terms nobody accepted; what is not there is 404 with the header that the real one sends.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Hub:
    """`repositories`: (kind, id) -> revision -> file -> bytes; `plain`: path -> bytes, as a server of files has them."""

    repositories: dict[tuple[str, str], dict[str, dict[str, bytes]]] = field(default_factory=dict)
    plain: dict[str, bytes] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def add(self, kind: str, name: str, files: dict[str, bytes], revision: str = "main") -> None:
        self.repositories.setdefault((kind, name), {})[revision] = files


def commit_of(revision: str) -> str:
    return hashlib.sha1(revision.encode()).hexdigest()


def etag_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        self.hub.asked.append(f"{self.command} {self.path}")

    def answer(self, status, content=b"", **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer_json(self, value):
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def refuse(self, status, code, message):
        self.answer(status, X_Error_Code=code, X_Error_Message=message)

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        try:
            paths = json.loads(body)["paths"]
        except ValueError:
            paths = parse_qs(body).get("paths", [])
        self.do_GET(paths if isinstance(paths, list) else [paths])

    def do_GET(self, paths=None):
        path = unquote(urlsplit(self.path).path).strip("/")
        if path in self.hub.plain:
            return self.file(path, self.hub.plain[path])
        parts = path.split("/")
        is_api = parts[0] == "api"
        parts = parts[1:] if is_api else parts
        kind = parts.pop(0) if parts[0] in ("models", "datasets") else "models"
        name, rest = "/".join(parts[:2]), parts[2:]
        if (kind, name) not in self.hub.repositories:
            return self.refuse(404, "RepoNotFound", "Repository not found")
        what, revision, inner = (rest[0], rest[1], "/".join(rest[2:])) if len(rest) > 1 else ("revision", "main", "")
        revisions = self.hub.repositories[kind, name]
        by_commit = {commit_of(revision): revision for revision in revisions}
        revision = by_commit.get(revision, revision)
        if revision not in revisions:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = revisions[revision]
        if what == "resolve":
            if name in self.hub.gated:
                return self.refuse(403, "GatedRepo", f"Access to {name} is restricted; its terms were not accepted.")
            if inner not in files:
                return self.refuse(404, "EntryNotFound", "Entry not found")
            return self.file(inner, files[inner], X_Repo_Commit=commit_of(revision))
        if what == "revision":
            return self.answer_json(self.about(kind, name, revision, files))
        below = f"{inner}/" if inner else ""
        listed = [file for file in files if (file.startswith(below) if paths is None else file in paths)]
        entries = [
            {"type": "file", "oid": etag_of(files[file])[:40], "size": len(files[file]), "path": file}
            for file in listed
            if paths is not None or "recursive=true" in self.path.lower() or "/" not in file.removeprefix(below)
        ]
        folders = {
            below + file.removeprefix(below).split("/")[0] for file in listed if "/" in file.removeprefix(below)
        }
        if paths is not None:
            folders = {path for path in paths if any(file.startswith(f"{path}/") for file in files)}
        entries += [{"type": "directory", "oid": commit_of(one), "size": 0, "path": one} for one in sorted(folders)]
        if what == "tree" and inner and not entries:
            return self.refuse(404, "EntryNotFound", f"{inner} does not exist")
        self.answer_json(entries)

    def about(self, kind, name, revision, files):
        return {
            "_id": commit_of(name)[:24],
            "id": name,
            **({"modelId": name} if kind == "models" else {}),
            "sha": commit_of(revision),
            "private": False,
            "gated": "manual" if name in self.hub.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "lastModified": "2024-01-01T00:00:00.000Z",
            "createdAt": "2024-01-01T00:00:00.000Z",
            "siblings": [{"rfilename": file} for file in files],
        }

    def file(self, name, content, **headers):
        headers |= {"ETag": f'"{etag_of(content)}"', "Accept_Ranges": "bytes"}
        start = 0
        if asked := self.headers.get("Range"):
            start = int(asked.removeprefix("bytes=").split("-")[0])
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        whole = content[start:]
        if name in self.hub.cut and self.command == "GET":
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(whole)))
            for key, value in headers.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(whole[: len(whole) // 2])
            self.wfile.flush()
            self.close_connection = True
            return None
        return self.answer(206 if asked else 200, whole, **headers)


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve on a free port of 127.0.0.1; nothing else can reach it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OfThisHub", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
