"""A stand-in for the Hugging Face hub on the loopback address: repositories that clients create, fill and read."""

import base64
import hashlib
import json
from contextlib import contextmanager
from urllib.parse import unquote

from tests import web


class Hub(web.Web):
    """The part of the hub's interface that ``huggingface_hub`` uses to publish a model, and what ``zoo.load`` asks.

    Attributes:
        repositories: by "owner/name", the files of each commit; the last commit is that of "main".
        visibility: by "owner/name", "private" or what else was asked for.
        headers: the pages whose metadata a client asked to be checked.
    """

    def __init__(self) -> None:
        super().__init__()
        self.RequestHandlerClass = HubHandler
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.visibility: dict[str, str] = {}
        self.headers: list[str] = []

    def commit(self, repository: str, files: dict[str, bytes]) -> str:
        name = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        commits = self.repositories.setdefault(repository, {})
        commits.pop(name, None)
        commits[name] = files
        for path, content in files.items():
            self.files[f"/{repository}/resolve/{name}/{path}"] = content
        for revision in ("main", name):
            self.files[f"/api/models/{repository}/revision/{revision}"] = json.dumps({"sha": name}).encode()
        return name


class HubHandler(web.Handler):
    server: Hub

    def do_POST(self) -> None:
        hub, path = self.server, unquote(self.path.partition("?")[0])
        chunks: list[bytes] = []
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        else:
            chunks.append(self.rfile.read(int(self.headers["Content-Length"])))
        sent = b"".join(chunks)
        if path == "/api/validate-yaml":
            hub.headers.append(json.loads(sent)["content"])
            return self.as_json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(sent)
            repository = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            hub.repositories.setdefault(repository, {})
            hub.visibility[repository] = "private" if asked.get("private") else str(asked.get("visibility"))
            return self.as_json({"url": f"{hub.url}/{repository}"})
        repository = "/".join(path.split("/")[3:5])
        if repository not in hub.repositories:
            return self.answer(404, b"{}")
        if "/preupload/" in path:
            files = json.loads(sent)["files"]
            told = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None} for f in files]
            return self.as_json({"files": told})
        lines = [json.loads(line) for line in sent.splitlines() if line]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        name = hub.commit(repository, files)
        return self.as_json({"success": True, "commitOid": name, "commitUrl": f"{hub.url}/{repository}/commit/{name}"})

    def as_json(self, content: dict) -> None:
        self.answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})


@contextmanager
def hub():
    with web.serving(Hub) as server:
        yield server
