"""A worker without a model, whose ads say what happens to it: python tests/stream_child.py BOOTSTRAP_SERVERS GRACE LONGEST

An ad with the word "segfaults" kills the process, one with "hangs" takes ten minutes, one with "naps" three seconds, one with
"fails" raises, and one with "misdirected" is answered on a topic that no broker takes.
"""

import os
import signal
import sys
import time

from jobmatch.live.contracts import MATCHES, Record
from jobmatch.live.ops import log, log_to, serve_health
from jobmatch.live.stream import Worker, _until_signal


def process(records: list[Record]) -> list[tuple[Record, Record]]:
    time.sleep(0.02)
    said = b" ".join(r.value or b"" for r in records)
    if b"segfaults" in said:
        os.kill(os.getpid(), signal.SIGSEGV)
    if b"hangs" in said:
        time.sleep(600)
    if b"naps" in said:
        time.sleep(3)
    if b"fails" in said:
        raise RuntimeError("the machine is broken")
    topic = "no such topic!" if b"misdirected" in said else MATCHES
    return [(r, Record(topic, r.key, b"matched")) for r in records]


if __name__ == "__main__":
    log_to()
    grace, longest = map(float, sys.argv[2:])
    worker = Worker(process, sys.argv[1], max_batch=8, max_wait_ms=50, longest=longest)
    log("health", port=serve_health(worker.metrics, worker.state, 0).server_port)
    sys.exit(_until_signal(worker, grace))
