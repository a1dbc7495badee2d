"""Everything that talks to Kafka over TLS, by one file of client settings: a client that is made without them gets no answer.

The embedded broker cannot do TLS itself, so a forwarder stands in front of it that can. SASL is not tested: the broker takes no users into its memory.
"""

import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("confluent_kafka")

from jobmatch.live.contracts import ALERTS, DEAD, FEEDBACK, JOBS, LOG, MATCHES, Record, canonical  # noqa: E402
from jobmatch.live.kafka import Attempts, Broker, _free_port, client_settings, create_topics, read_topic, send, wait_for_broker  # noqa: E402
from jobmatch.live.log import open_log, run_log  # noqa: E402
from jobmatch.live.review import read_at  # noqa: E402
from jobmatch.live.rules import run_alerts  # noqa: E402
from jobmatch.live.serve import kafka_sink  # noqa: E402
from jobmatch.live.stream import Worker  # noqa: E402


class Forwarder(threading.Thread):
    "Takes TLS on one port and passes on what comes to another."

    def __init__(self, port: int, to: int, cert: Path, key: Path):
        super().__init__(daemon=True)
        self.to, self.context = to, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        self.listening = socket.create_server(("127.0.0.1", port))

    def run(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self.listening.accept()
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client: socket.socket) -> None:
        with suppress(OSError):  # no TLS, or a client that leaves
            secure, plain = self.context.wrap_socket(client, server_side=True), socket.create_connection(("127.0.0.1", self.to))
            threading.Thread(target=self.copy, args=(plain, secure), daemon=True).start()
            self.copy(secure, plain)

    def copy(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        for s in (source, target):
            with suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def secure(tmp_path) -> Iterator[tuple[str, Path]]:
    "The address of a broker that takes TLS only, and the file of client settings that gets in."
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*words, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    port = _free_port()
    with Broker(advertised=f"127.0.0.1:{port}") as broker:
        forwarder = Forwarder(port, broker.port, cert, key)
        forwarder.start()
        settings = tmp_path / "client.properties"
        settings.write_text(f"security.protocol=SSL\nssl.ca.location={cert}\nauto.offset.reset=earliest\n")
        yield f"127.0.0.1:{port}", settings
        forwarder.listening.close()


def wait_for(holds, seconds: float = 60):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def log_of(job_id: str) -> dict:
    return dict(job_id=job_id, content_hash="0", source=None, time="2026-01-05T10:00:00Z", latency_ms=1.0, store_hit=False, chars=5, sentences=1, scores=[], model_version="1",
                taxonomy_version="1", topic=JOBS, partition=0, offset=0)


def test_all_that_talks_to_kafka_does_so_by_tls(secure, tmp_path):
    at, file = secure
    client, stop = client_settings(file), threading.Event()
    with pytest.raises(ConnectionError, match="no Kafka answers"):
        wait_for_broker(at, seconds=2)
    assert set(create_topics(at, client, partitions=1)) >= {JOBS, MATCHES, LOG}
    process = lambda records: [p for r in records for p in ((r, Record(MATCHES, r.key, b"matched")), (r, Record(LOG, r.key, canonical(log_of(r.key.decode())))))]
    worker = Worker(process, at, client=client, max_wait_ms=20)
    (tmp_path / "rules.json").write_text(json.dumps([dict(name="drift", call="jobmatch.live.rules:start_command", arguments=dict(command=["--version"], folder=str(tmp_path)))]))
    threads = [threading.Thread(target=worker.run), threading.Thread(target=run_log, args=(at, str(tmp_path / "log")), kwargs=dict(client=str(file), stop=stop, max_seconds=0.2)),
               threading.Thread(target=run_alerts, args=(str(tmp_path / "rules.json"), at), kwargs=dict(client=str(file), stop=stop))]
    for thread in threads:
        thread.start()
    try:
        send([Record(JOBS, b"a", b"Weld."), Record(ALERTS, b"drift", canonical(dict(name="drift", time="2026-01-05", severity="warning", message="…")))], at, client)
        verdict = dict(job_id="a", attribute_id="x", verdict="accepted", who="ada", when="2026-01-05")
        kafka_sink(at, client)(FEEDBACK, verdict)
        wait_for(lambda: [r.key for r in read_topic(MATCHES, at, client)] == [b"a"])
        wait_for(lambda: open_log(tmp_path / "log").sql("select (select count(*) from log), (select count(*) from feedback)").fetchall() == [(1, 1)])
        wait_for(lambda: any("jobmatch 0." in p.read_text() for p in tmp_path.glob("*.log")))
        assert read_at(JOBS, 0, 0, at, client).value == b"Weld." and not read_topic(DEAD, at, client)
        assert Attempts(at, "jobmatch", client, patience=10).read(JOBS, [0])[0][0] == 1  # what the worker had noted
    finally:
        stop.set()
        worker.stop()
        for thread in threads:
            thread.join(30)
