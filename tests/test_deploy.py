"What deploy/ and compose.yml say, as far as it can be checked without a daemon or a cluster: against schemas, the command line's own parser, and the metrics that are exported."

import contextlib
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import jsonschema
import kubernetes_validate
import pandas as pd
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from jobmatch.cli import make_parser
from jobmatch.core.matcher import Matcher
from jobmatch.live.contracts import JOBS, Record
from jobmatch.live.drift import put_drift
from jobmatch.live.feature_store import DEFINITIONS, EmbeddingStore
from jobmatch.live.kafka import Broker, create_topics, send
from jobmatch.live.log import run_log
from jobmatch.live.ops import Metrics
from jobmatch.live.rules import read_rules
from jobmatch.live.stream import JobMatching, Worker
from jobmatch.tiny import tiny_run

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((ROOT / "compose.yml").read_text())
KUSTOMIZATION = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())
OBJECTS = [o for path in KUSTOMIZATION["resources"] for o in yaml.safe_load_all((DEPLOY / path).read_text())]
OTHERS = ("keda.sh/v1alpha1",)  # of which no registry has a schema


@pytest.mark.parametrize("path", ["compose.yml", "deploy/compose.gpu.yml"])
def test_compose_files_keep_the_specification(path):
    schema = json.loads((files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text())
    jsonschema.validate(yaml.safe_load((ROOT / path).read_text()), schema)


def test_what_compose_mounts_and_names_is_there():
    volumes = [v for s in COMPOSE["services"].values() for v in s.get("volumes", [])]
    assert not [v for v in volumes if v.startswith("./") and not (ROOT / v.split(":")[0]).exists()]
    assert {v.split(":")[0] for v in volumes if not v.startswith("./")} == set(COMPOSE["volumes"])
    overlay = yaml.safe_load((DEPLOY / "compose.gpu.yml").read_text())
    assert set(overlay["services"]) <= set(COMPOSE["services"])


@pytest.mark.parametrize("thing", [o for o in OBJECTS if o["apiVersion"] not in OTHERS], ids=lambda o: f"{o['kind']}-{o['metadata']['name']}")
def test_kubernetes_takes_the_objects(thing):
    kubernetes_validate.validate(thing, kubernetes_validate.latest_version(), strict=True)


def test_the_feature_store_is_that_of_the_package_at_another_address():
    ours, packaged = (yaml.safe_load(path.read_text()) for path in (DEPLOY / "feature_store.yaml", DEFINITIONS / "feature_store.redis.yaml"))
    assert packaged["online_store"]["connection_string"].replace("127.0.0.1:", "redis:") == ours["online_store"]["connection_string"]
    assert ours | dict(online_store=packaged["online_store"]) == packaged and "redis" in COMPOSE["services"]


def test_pods_name_what_is_there():
    text = json.dumps(OBJECTS)
    named = lambda kind: {o["metadata"]["name"] for o in OBJECTS if o["kind"] == kind}
    assert set(re.findall(r'"claimName": "([\w-]+)"', text)) == named("PersistentVolumeClaim")
    assert set(re.findall(r'"config[mM]ap(?:Ref)?": {"name": "([\w-]+)"}', text, re.I)) == {g["name"] for g in KUSTOMIZATION["configMapGenerator"]}
    assert not [f for g in KUSTOMIZATION["configMapGenerator"] for f in g.get("files", []) if not (DEPLOY / f).is_file()]
    assert {p.relative_to(DEPLOY).as_posix() for p in (DEPLOY / "k8s").iterdir()} == set(KUSTOMIZATION["resources"])
    scaled = next(o for o in OBJECTS if o["kind"] == "ScaledObject")["spec"]
    assert scaled["scaleTargetRef"]["name"] in named("Deployment")


def containers() -> Iterator[dict]:
    "Those of all pods."
    for thing in OBJECTS:
        yield from thing.get("spec", {}).get("jobTemplate", thing).get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])


def commands() -> Iterator[tuple[str, list[str]]]:
    "Each call of `jobmatch`: where it stands, and its words."
    for name, service in COMPOSE["services"].items():
        words = service.get("command", [])
        shell = [c.split() for c in re.findall(r"jobmatch [^;]+", words[2])] if words[:2] == ["sh", "-c"] else []
        yield from ((f"compose.yml: {name}", w[1:]) for w in [words, *shell] if w[:1] == ["jobmatch"])
    yield from ((f"k8s: {c['name']}", c["command"][1:]) for c in containers() if c["command"][0] == "jobmatch")
    for rule in read_rules(DEPLOY / "rules.json"):
        yield f"rules.json: {rule['name']}", rule["arguments"]["command"]


@pytest.mark.parametrize(("where", "words"), [pytest.param(*c, id=c[0]) for c in commands()])
def test_the_command_line_takes_the_commands(where, words):
    args = vars(make_parser().parse_args(words))
    assert args.get("bootstrap_servers", "kafka:9092") == "kafka:9092", where


def test_all_but_what_trains_compute_on_one_thread():
    threads = {name: s["environment"].get("OMP_NUM_THREADS") for name, s in COMPOSE["services"].items() if s.get("command", [])[:1] in (["jobmatch"], ["sh"])}
    assert threads.pop("alerts") is None and set(threads.values()) == {"1"}
    assert "OMP_NUM_THREADS" not in (ROOT / "Dockerfile").read_text()
    assert "OMP_NUM_THREADS=1" in next(g for g in KUSTOMIZATION["configMapGenerator"] if g["name"] == "environment")["literals"]
    alerts = next(c for c in containers() if c["name"] == "alerts")
    assert [(e["name"], e["valueFrom"]["resourceFieldRef"]["resource"]) for e in alerts["env"]] == [("OMP_NUM_THREADS", "requests.cpu")]


def test_the_folder_around_nested_mounts_is_a_volume():
    "A container runtime makes a folder that is missing in a volume as root, and the user of the image could not write there."
    for container in containers():
        places = {Path(m["mountPath"]) for m in container.get("volumeMounts", [])}
        between = {p for place in places for p in place.parents if places & set(p.parents)}
        assert between <= places, container["name"]


def test_every_part_is_started_somewhere():
    started = lambda where: {words[0] for place, words in commands() if place.startswith(where)}
    assert started("compose") == started("k8s") == {"stream", "log", "serve", "drift", "alerts", "canary"}
    assert started("rules") == {"retrain"}


def test_mlflow_takes_its_command():
    from mlflow.cli import server

    pods = [o for o in OBJECTS if o["kind"] == "Deployment" and o["metadata"]["name"] == "mlflow"]
    for words in (COMPOSE["services"]["mlflow"]["command"], pods[0]["spec"]["template"]["spec"]["containers"][0]["command"]):
        assert words[:2] == ["mlflow", "server"] and server.make_context("server", list(words[2:])).params["port"] == 5000


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> dict[str, list[dict]]:
    "What a worker exports after an ad, the same ad again, and a broken one, its store failing once it has told of drift, and what the log exports: name → the labels of each sample."
    metrics, store = Metrics(), EmbeddingStore(tmp_path_factory.mktemp("deploy") / "store")
    put_drift(store, pd.DataFrame([dict(scope="all", statistic="chars", value=1.0, expected=2.0, shift=1.0, p=0.001, alarm=True)]))
    matching = JobMatching([Matcher.load(tiny_run() / "model")], store, metrics)
    matching([])
    matching.store = object()
    metrics.serving(matching.matcher.model_version, matching.matcher.taxonomy_version)
    ad = json.dumps(dict(job_id="a", text="Weld pipes.")).encode()
    with Broker() as broker:
        create_topics(broker.bootstrap_servers, partitions=1)
        send([Record(JOBS, b"a", ad), Record(JOBS, b"a", ad), Record(JOBS, b"b", b"{")], broker.bootstrap_servers)
        worker = Worker(matching, broker.bootstrap_servers, metrics=metrics)
        thread = threading.Thread(target=worker.run)
        thread.start()
        end = time.monotonic() + 60
        while time.monotonic() < end and b"jobmatch_lag{" not in metrics.text():
            time.sleep(0.2)
        worker.stop()
        thread.join()
        of_log = exported_by_log(broker.bootstrap_servers, tmp_path_factory.mktemp("log"))
    out: dict[str, list[dict]] = {"up": [dict(job=f"jobmatch-{name}", instance=f"{name}:9108") for name in ("worker", "log", "alerts")]}  # Prometheus' own
    for job, text in (("worker", metrics.text().decode()), ("log", of_log)):
        for sample in (s for f in text_string_to_metric_families(text) for s in f.samples):
            out.setdefault(sample.name, []).append(sample.labels | dict(job=f"jobmatch-{job}"))
    return out


def exported_by_log(bootstrap_servers: str, folder: Path) -> str:
    "What `jobmatch log` answers on its port, once it is ready."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    stop = threading.Event()
    thread = threading.Thread(target=run_log, args=(bootstrap_servers, str(folder)), kwargs=dict(stop=stop, metrics_port=port, max_seconds=0.2))
    thread.start()
    ask, end, said = lambda path: urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}").read().decode(), time.monotonic() + 60, ""
    while time.monotonic() < end and not ("jobmatch_unread{" in said and "jobmatch_records_total{" in said):
        time.sleep(0.2)
        with contextlib.suppress(OSError):  # not there yet
            said = ask("metrics")
    assert json.loads(ask("readyz")) == dict(healthy=True, ready=True)
    stop.set()
    thread.join()
    return said


def selectors(expression: object) -> Iterator[tuple[str, dict[str, str], set[str]]]:
    "Of each selector in a query: the metric, the labels it asks for, and the labels it is grouped by."
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression.name, {m.name: m.value for m in expression.matchers.matchers}, set()
    inside = [getattr(expression, a, None) for a in ("lhs", "rhs", "expr", "vector_selector", "args")]
    modifier = getattr(expression, "modifier", None)
    by = set(getattr(modifier, "labels", None) or []) if isinstance(expression, promql_parser.AggregateExpr) else set()
    for part in inside:
        for one in part if isinstance(part, list) else [part] if part is not None else []:
            yield from ((name, asked, grouped | by) for name, asked, grouped in selectors(one))


DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "jobmatch.json").read_text())
RULES = [r for g in yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"] for r in g["rules"]]
QUERIES = [(f"panel {p['title']}", t["expr"]) for p in DASHBOARD["panels"] for t in p["targets"]] + [(r["alert"], r["expr"]) for r in RULES]


@pytest.mark.parametrize(("where", "query"), [pytest.param(*q, id=q[0]) for q in QUERIES])
def test_queries_ask_for_what_is_exported(exported, where, query):
    found = list(selectors(promql_parser.parse(query)))
    assert found
    for name, asked, grouped in found:
        assert name in exported, f"{where}: nothing exports {name}"
        assert any(asked.items() <= labels.items() and grouped <= labels.keys() for labels in exported[name]), f"{where}: no {name} with {asked} and {grouped}"


def test_each_alert_is_shown_to_fire():
    tests = yaml.safe_load((DEPLOY / "prometheus" / "rules_test.yml").read_text())["tests"]
    fired = {c["alertname"] for t in tests for c in t["alert_rule_test"] if c["exp_alerts"]}
    quiet = {c["alertname"] for t in tests for c in t["alert_rule_test"] if not c["exp_alerts"]}
    assert fired == quiet == {r["alert"] for r in RULES}


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool; Debian has it: apt-get install prometheus")
@pytest.mark.parametrize("words", [["check", "rules", "rules.yml"], ["check", "config", "--syntax-only", "prometheus.yml"], ["test", "rules", "rules_test.yml"]], ids=" ".join)
def test_prometheus_takes_the_files_and_the_alerts_fire(words):
    said = subprocess.run(["promtool", *words], cwd=DEPLOY / "prometheus", capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr


def test_the_dashboard_reads_the_source_that_is_provisioned():
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert {t["datasource"]["uid"] for p in DASHBOARD["panels"] for t in p["targets"]} == {s["uid"] for s in sources}
    assert len({p["id"] for p in DASHBOARD["panels"]}) == len(DASHBOARD["panels"]) and {r["labels"]["severity"] for r in RULES} <= {"info", "warning", "critical"}


def test_prometheus_scrapes_all_parts_and_its_rules_are_mounted():
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert all((DEPLOY / "prometheus" / Path(f).name).is_file() for f in config["rule_files"])
    for scraped, name in zip(config["scrape_configs"], ("worker", "log", "alerts"), strict=True):
        assert scraped["job_name"] == f"jobmatch-{name}" and scraped["dns_sd_configs"][0]["names"] == [name]
        words = [next(c["command"] for c in containers() if c["name"] == name), COMPOSE["services"][name]["command"]]
        asked = [make_parser().parse_args([str(w) for w in command[1:]]) for command in words]
        assert all((a.metrics_port, a.metrics_host) == (scraped["dns_sd_configs"][0]["port"], "0.0.0.0") for a in asked)
