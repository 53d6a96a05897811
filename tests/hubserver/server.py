"""A local server that speaks the Hugging Face Hub's documented protocol, and misbehaves on demand.

What it speaks: model info with blob metadata, the tree of a revision, auth-check, and `resolve` with ETag,
X-Repo-Commit, X-Linked-Size and X-Linked-ETag, redirecting large files to a "CDN" on another port that serves ranges.
No Xet: no answer offers it.
Run it by hand with `python -m tests.hubserver.server FOLDER` (FOLDER/owner/name/... are the repositories).
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType


@dataclass(frozen=True)
class Blob:
    """A file's content: served from `path`, known by its digests."""

    path: Path
    size: int
    sha256: str
    git_sha1: str
    lfs: bool


@dataclass
class Repo:
    """One repository: commits with their files, and the branches and tags that point to them."""

    name: str
    gated: str | bool = False
    private: bool = False
    readers: frozenset[str] = frozenset()  # tokens that may read a gated or private repository
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)


@dataclass
class Fault:
    """One way to misbehave, for the next `times` requests whose method and path match `pattern`."""

    pattern: str
    times: int = 1
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # bytes of the body, then the connection is closed
    trickle_s: float | None = None  # pause after each single byte of the body
    flip_byte: int | None = None  # this byte of the file is served wrong
    ignore_range: bool = False
    body: bytes | None = None


@dataclass(frozen=True)
class Request:
    """One request as it came in, and what went out."""

    method: str
    path: str
    range: str | None
    token: str | None
    status: int
    sent_bytes: int


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet about clients that were killed; loud about everything else."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class LocalHub:
    """The Hub and its CDN, each on a free port of the loopback interface; a context manager."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.repos: dict[str, Repo] = {}
        self.tokens: set[str] = {"hf_good"}
        self.log: list[Request] = []
        self.faults: list[Fault] = []
        self.blobs: dict[str, Blob] = {}
        self.lock = threading.Lock()
        self.gate = threading.Event()  # cleared: file bodies wait, so that a test can look while one is under way
        self.gate.set()
        self._servers = [_Server(("127.0.0.1", 0), _handler(self, cdn=cdn)) for cdn in (False, True)]
        self._threads: list[threading.Thread] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._servers[0].server_address[1]}"

    @property
    def cdn(self) -> str:
        return f"http://127.0.0.1:{self._servers[1].server_address[1]}"

    def __enter__(self) -> Self:
        for server in self._servers:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()

    def add(
        self,
        name: str,
        files: Mapping[str, bytes | Path],
        *,
        gated: str | bool = False,
        private: bool = False,
        readers: Iterable[str] = (),
        plain: Iterable[str] = (),
        branch: str = "main",
    ) -> str:
        """Commit `files` (all the commit has) to a repository, and return the commit's hash. `plain` are not LFS."""
        repo = self.repos.setdefault(name, Repo(name, gated, private, frozenset(readers)))
        tree = {path: self._store(content, lfs=path not in set(plain)) for path, content in files.items()}
        listing = "".join(f"{path} {blob.sha256}\n" for path, blob in sorted(tree.items()))
        commit = hashlib.sha1(f"{name}\n{listing}".encode()).hexdigest()
        repo.commits[commit] = tree
        repo.refs[branch] = commit
        return commit

    def misbehave(self, pattern: str, **how: Any) -> Fault:
        """Queue a fault for requests whose "METHOD /path" matches the regular expression."""
        fault = Fault(pattern, **how)
        with self.lock:
            self.faults.append(fault)
        return fault

    def file_bytes_sent(self) -> int:
        """Body bytes of all file requests so far."""
        with self.lock:
            return sum(request.sent_bytes for request in self.log if request.path.startswith("/cdn/"))

    def take_fault(self, line: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, line):
                    fault.times -= 1
                    return fault
        return None

    def _store(self, content: bytes | Path, *, lfs: bool) -> Blob:
        if isinstance(content, Path):
            path, size = content, content.stat().st_size
            with content.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            git = hashlib.sha1(b"pointer" + sha256.encode()).hexdigest()
        else:
            size, sha256 = len(content), hashlib.sha256(content).hexdigest()
            git = hashlib.sha1(b"blob %d\0" % size + content).hexdigest()
            self.store.mkdir(parents=True, exist_ok=True)
            path = self.store / sha256
            path.write_bytes(content)
        blob = Blob(path, size, sha256, git, lfs)
        self.blobs[sha256] = blob
        return blob


class _RefusalError(Exception):
    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})


def _handler(hub: LocalHub, *, cdn: bool) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        pass

    Handler.hub = hub
    Handler.is_cdn = cdn
    return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LocalHub
    is_cdn = False
    token: str | None = None

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in http.server
        """Quiet: `LocalHub.log` has it all."""

    def answer(self) -> None:
        url = urlsplit(self.path)
        authorization = self.headers.get("Authorization")
        self.token = authorization.removeprefix("Bearer ") if authorization else None
        fault = self.hub.take_fault(f"{self.command} {url.path}")
        try:
            if fault is not None and fault.status is not None:
                self.reply(fault.status, fault.headers, fault.body or b"")
            elif self.is_cdn:
                self.serve_blob(self.hub.blobs[url.path.removeprefix("/cdn/")], fault, {})
            else:
                self.route(unquote(url.path), parse_qs(url.query), fault)
        except _RefusalError as refusal:
            self.reply(refusal.status, refusal.headers, json.dumps({"error": str(refusal)}).encode())

    def route(self, path: str, query: dict[str, list[str]], fault: Fault | None) -> None:
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/auth-check", path):
            self.require_access(self.find_repo(match[1]))
            self.reply(200, {}, b"OK")
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/(.+)", path):
            repo, commit = self.find_commit(match[1], match[2])
            self.reply_json([_tree_entry(name, blob) for name, blob in sorted(repo.commits[commit].items())], fault)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/revision/(.+))?", path):
            repo, commit = self.find_commit(match[1], match[2] or "main")
            self.reply_json(_model_info(repo, commit, blobs="blobs" in query), fault)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(match[1], match[2], match[3], fault)
        else:
            raise _RefusalError(404, None, f"no such page: {path!a}")

    def resolve(self, name: str, revision: str, path: str, fault: Fault | None) -> None:
        repo, commit = self.find_commit(name, revision)
        self.require_access(repo)
        blob = repo.commits[commit].get(path)
        if blob is None:
            raise _RefusalError(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{blob.sha256 if blob.lfs else blob.git_sha1}"'}
        if not blob.lfs:
            self.serve_blob(blob, fault, headers)
            return
        headers |= {"X-Linked-Size": str(blob.size), "X-Linked-ETag": f'"{blob.sha256}"'}
        headers["Location"] = f"{self.hub.cdn}/cdn/{blob.sha256}?signature={quote('a/b+c=')}"
        self.reply(302, headers, b"")

    def find_repo(self, name: str) -> Repo:
        if self.token is not None and self.token not in self.hub.tokens:
            raise _RefusalError(401, None, "Invalid credentials in Authorization header")
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and self.token not in repo.readers):
            if self.token is None:
                raise _RefusalError(401, None, "Invalid username or password.")
            raise _RefusalError(404, "RepoNotFound", "Repository not found")
        return repo

    def find_commit(self, name: str, revision: str) -> tuple[Repo, str]:
        repo = self.find_repo(name)
        commit = repo.refs.get(revision, revision)
        if commit not in repo.commits:
            raise _RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repo, commit

    def require_access(self, repo: Repo) -> None:
        if repo.gated and self.token not in repo.readers:
            raise _RefusalError(
                401 if self.token is None else 403, "GatedRepo", f"Access to model {repo.name} is restricted"
            )

    def serve_blob(self, blob: Blob, fault: Fault | None, headers: dict[str, str]) -> None:
        start, end, status = 0, blob.size, 200
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted and not (fault and fault.ignore_range):
            start, end, status = int(wanted[1]), min(blob.size, int(wanted[2] or blob.size) + 1), 206
            if start >= blob.size:
                self.reply(416, {"Content-Range": f"bytes */{blob.size}"}, b"")
                return
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{blob.size}"
        headers |= {"Accept-Ranges": "bytes", "ETag": headers.get("ETag", f'"{blob.sha256}"')}
        with blob.path.open("rb") as file:
            file.seek(start)
            body = bytearray(file.read(end - start))
        if fault and fault.flip_byte is not None and start <= fault.flip_byte < end:
            body[fault.flip_byte - start] ^= 0xFF
        if fault is not None and fault.trickle_s is not None:
            self.trickle(status, headers, bytes(body), fault.trickle_s)
            return
        self.reply(status, headers, bytes(body), cut_after=fault.cut_after if fault else None, gated=True)

    def trickle(self, status: int, headers: Mapping[str, str], body: bytes, pause_s: float) -> None:
        """Byte after byte, each in time, for as long as anybody listens."""
        with self.hub.lock:
            path = urlsplit(self.path).path
            self.hub.log.append(Request(self.command, path, self.headers.get("Range"), self.token, status, 0))
        try:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            for byte in body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(pause_s)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def reply_json(self, value: object, fault: Fault | None) -> None:
        cut_after = fault.cut_after if fault else None
        self.reply(200, {"Content-Type": "application/json"}, json.dumps(value).encode(), cut_after=cut_after)

    def reply(
        self, status: int, headers: Mapping[str, str], body: bytes, *, cut_after: int | None = None, gated: bool = False
    ) -> None:
        sent = b"" if self.command == "HEAD" else body[:cut_after]
        # Logged before the body goes out, so that a client that has read it all finds its request in the log.
        with self.hub.lock:
            range_header = self.headers.get("Range")
            path = urlsplit(self.path).path
            self.hub.log.append(Request(self.command, path, range_header, self.token, status, len(sent)))
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            half = len(sent) // 2
            self.wfile.write(sent[:half])
            if gated:
                self.hub.gate.wait()
            self.wfile.write(sent[half:])
            self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        if cut_after is not None and cut_after < len(body):
            self.close_connection = True


def _lfs(blob: Blob) -> dict[str, Any]:
    return {"sha256": blob.sha256, "size": blob.size, "pointerSize": 134}


def _model_info(repo: Repo, commit: str, *, blobs: bool) -> dict[str, Any]:
    siblings: list[dict[str, Any]] = []
    for name, blob in sorted(repo.commits[commit].items()):
        entry: dict[str, Any] = {"rfilename": name}
        if blobs:
            entry |= {"size": blob.size, "blobId": blob.git_sha1} | ({"lfs": _lfs(blob)} if blob.lfs else {})
        siblings.append(entry)
    state = {"private": repo.private, "gated": repo.gated, "disabled": False}
    return {"_id": "0", "id": repo.name, "modelId": repo.name, "sha": commit, "siblings": siblings} | state


def _tree_entry(name: str, blob: Blob) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "oid": blob.git_sha1, "size": blob.size, "path": name}
    if blob.lfs:
        entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": 134}
    return entry


def main(folder: Path) -> None:
    """Serve the repositories below `folder` until interrupted."""
    with LocalHub(folder / ".store") as hub:
        for repo in sorted(folder.glob("[!.]*/[!.]*")):
            files = {path.relative_to(repo).as_posix(): path for path in repo.rglob("*") if path.is_file()}
            print(
                f"{repo.parent.name}/{repo.name}: {len(files)} files, commit",
                hub.add(f"{repo.parent.name}/{repo.name}", dict(files)),
            )
        print(f"HF_ENDPOINT={hub.endpoint}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(0)
