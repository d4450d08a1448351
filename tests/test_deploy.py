"""What lies in deploy/ is held to schemas and dry runs, as far as that goes without a cluster."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import perdure

DEPLOY = Path(__file__).parent.parent / "deploy"
RAY = re.search(r"^ray==(\S+)", (DEPLOY.parent / "constraints.txt").read_text(), flags=re.M).group(1)
IMAGE = f"registry.example.com/perdure:{perdure.__version__}"

# The part of KubeRay's schema (ray.io/v1) and of Kubernetes' that is used: an unknown key is a mistake, as it is to an
# API server that validates strictly. `!` marks what must be there.
TEXT, NUMBER, FLAG, ANY = str, int, bool, object
SECURITY = {
    "runAsNonRoot": FLAG,
    "runAsUser": NUMBER,
    "runAsGroup": NUMBER,
    "fsGroup": NUMBER,
    "seccompProfile": {"type": TEXT},
}
CONFINED = {"allowPrivilegeEscalation": FLAG, "capabilities": {"drop": [TEXT]}, "runAsNonRoot": FLAG}
AMOUNTS = {"cpu!": TEXT, "memory!": TEXT}
RESOURCES = {"requests!": AMOUNTS, "limits!": AMOUNTS}
ENV = [{"name!": TEXT, "value": TEXT, "valueFrom": {"secretKeyRef!": {"name!": TEXT, "key!": TEXT}}}]
PROBE = dict.fromkeys(("initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold"), NUMBER)
PROBE |= {"exec!": {"command!": [TEXT]}}
CONTAINER = {
    "name!": TEXT,
    "image!": TEXT,
    "securityContext!": CONFINED,
    "env": ENV,
    "ports": [{"name!": TEXT, "containerPort!": NUMBER}],
    "resources!": RESOURCES,
    "readinessProbe": PROBE,
    "livenessProbe": PROBE,
    "volumeMounts": [{"name!": TEXT, "mountPath!": TEXT}],
}
VOLUME = {"name!": TEXT, "persistentVolumeClaim": {"claimName!": TEXT}, "emptyDir": {"medium": TEXT, "sizeLimit": TEXT}}
POD = {
    "metadata": {"labels": {"app.kubernetes.io/part-of!": TEXT}},
    "spec!": {
        "automountServiceAccountToken!": FLAG,
        "restartPolicy": TEXT,
        "securityContext!": SECURITY,
        "containers!": [CONTAINER],
        "volumes": [VOLUME],
    },
}
CLUSTER = {
    "rayVersion!": TEXT,
    "authOptions": {"mode!": TEXT},
    "enableInTreeAutoscaling": FLAG,
    "autoscalerOptions": {
        "idleTimeoutSeconds": NUMBER,
        "resources": RESOURCES,
        "securityContext": CONFINED,
        "env": ENV,
    },
    "headGroupSpec!": {
        "serviceType!": TEXT,
        "enableIngress!": FLAG,
        "rayStartParams!": {"dashboard-host": TEXT, "num-cpus": TEXT},
        "template!": POD,
    },
    "workerGroupSpecs!": [
        {
            "groupName!": TEXT,
            "replicas!": NUMBER,
            "minReplicas!": NUMBER,
            "maxReplicas!": NUMBER,
            "rayStartParams!": {},
            "template!": POD,
        }
    ],
}
SPECS = {
    ("ray.io/v1", "RayCluster"): CLUSTER,
    ("ray.io/v1", "RayJob"): {
        "entrypoint!": TEXT,
        "runtimeEnvYAML": TEXT,
        "submissionMode": TEXT,
        "backoffLimit": NUMBER,
        "shutdownAfterJobFinishes": FLAG,
        "ttlSecondsAfterFinished": NUMBER,
        "activeDeadlineSeconds": NUMBER,
        "submitterPodTemplate": POD,
        "rayClusterSpec!": CLUSTER,
    },
    ("v1", "PersistentVolumeClaim"): {"accessModes!": [TEXT], "resources!": {"requests!": {"storage!": TEXT}}},
    ("networking.k8s.io/v1", "NetworkPolicy"): {
        "podSelector!": {"matchLabels!": ANY},
        "policyTypes!": [TEXT],
        "ingress!": [{"from!": [{"podSelector!": {"matchLabels!": ANY}, "namespaceSelector": {}}]}],
    },
}


def unfit(value, schema, where="") -> list[str]:
    """Where a document differs from its schema."""
    if isinstance(schema, type):
        fits = isinstance(value, schema) and (schema is not NUMBER or not isinstance(value, bool))
        return [] if fits else [f"{where}: expected {schema.__name__}, got {value!r}"]
    if isinstance(schema, list):
        if not isinstance(value, list) or not value:
            return [f"{where}: expected a list"]
        return [said for n, one in enumerate(value) for said in unfit(one, schema[0], f"{where}[{n}]")]
    if not isinstance(value, dict):
        return [f"{where}: expected a mapping"]
    known = {key.rstrip("!"): part for key, part in schema.items()}
    told = [f"{where} lacks {key[:-1]}" for key in schema if key.endswith("!") and key[:-1] not in value]
    told += [f"{where} has an unknown key {key}" for key in value if key not in known]
    return told + [said for key in value if key in known for said in unfit(value[key], known[key], f"{where}.{key}")]


def documents(name: str) -> list[dict]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def pods(name: str) -> list[dict]:
    """All pods of a manifest."""
    (own,) = (d for d in documents(name) if d["apiVersion"] == "ray.io/v1")
    cluster = own["spec"].get("rayClusterSpec", own["spec"])
    parts = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [p["template"] for p in parts] + [own["spec"][k] for k in ("submitterPodTemplate",) if k in own["spec"]]


MANIFESTS = pytest.mark.parametrize("name", ["ray-cluster.yaml", "ray-job.yaml"])


@MANIFESTS
def test_a_manifest_fits_its_schema(name):
    for document in documents(name):
        assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", document["metadata"]["name"])
        assert unfit(document["spec"], SPECS[document["apiVersion"], document["kind"]], document["kind"]) == []


def test_the_schema_refuses_what_is_wrong():
    (job,) = (d for d in documents("ray-job.yaml") if d["kind"] == "RayJob")
    schema, spec = SPECS["ray.io/v1", "RayJob"], job["spec"]
    assert unfit(spec | {"entryPoint": "x"}, schema, "RayJob") == ["RayJob has an unknown key entryPoint"]
    assert unfit({k: v for k, v in spec.items() if k != "entrypoint"}, schema, "RayJob") == ["RayJob lacks entrypoint"]
    assert unfit(spec | {"backoffLimit": "2"}, schema, "RayJob") == ["RayJob.backoffLimit: expected int, got '2'"]
    assert unfit(spec | {"backoffLimit": True}, schema, "RayJob") != []


@MANIFESTS
def test_every_pod_has_the_token_by_reference_no_root_and_the_same_image(name):
    for pod in pods(name):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 1000
        for container in spec["containers"]:
            env = {e["name"]: e for e in container.get("env", [])}
            if name == "ray-cluster.yaml":
                assert env["RAY_AUTH_MODE"]["value"] == "token"
                assert env["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "perdure-ray", "key": "token"}
            else:  # KubeRay sets both, from a secret of its making: it has to know the token itself
                assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & set(env)
            assert container["image"] == IMAGE
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            volumes, mounts = spec.get("volumes", []), container.get("volumeMounts", [])
            assert {m["name"] for m in mounts} == {v["name"] for v in volumes}
            plain = {name for name, e in env.items() if "value" in e} - {"RAY_AUTH_MODE"}
            assert not [name for name in plain if re.search("password|secret|token|key|auth", name, re.I)]


@MANIFESTS
def test_the_dashboard_is_reached_from_inside_alone(name):
    (own,) = (d for d in documents(name) if d["apiVersion"] == "ray.io/v1")
    cluster = own["spec"].get("rayClusterSpec", own["spec"])
    assert cluster["rayVersion"] == RAY
    assert (cluster.get("authOptions") == {"mode": "token"}) == (name == "ray-job.yaml")
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP" and cluster["headGroupSpec"]["enableIngress"] is False
    (policy,) = (d["spec"] for d in documents(name) if d["kind"] == "NetworkPolicy")
    labels = policy["podSelector"]["matchLabels"]
    assert policy["policyTypes"] == ["Ingress"]
    assert all(labels.items() <= pod["metadata"]["labels"].items() for pod in pods(name))
    assert not {"Service", "Ingress"} & {d["kind"] for d in documents(name)}


@MANIFESTS
def test_storage_is_claimed_mounted_and_named(name):
    (claim,) = (d for d in documents(name) if d["kind"] == "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods(name)[:2]:
        container = pod["spec"]["containers"][0]
        claims = {
            v["name"]: v["persistentVolumeClaim"]["claimName"]
            for v in pod["spec"]["volumes"]
            if "persistentVolumeClaim" in v
        }
        mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
        kept = next(e["value"] for e in container["env"] if e["name"] == "PERDURE_STORAGE")
        assert claims == {"storage": claim["metadata"]["name"]} and kept.startswith(mounts["storage"] + "/")


def test_probes_ask_what_ray_answers_without_a_token():
    """Paths that Ray's own middleware lets through."""
    import inspect

    from ray.dashboard import http_server_agent, http_server_head

    told = inspect.getsource(http_server_head) + inspect.getsource(http_server_agent)
    for pod in pods("ray-job.yaml")[:2]:
        for kind in ("readinessProbe", "livenessProbe"):
            program, flag, code = pod["spec"]["containers"][0][kind]["exec"]["command"]
            compile(code, "probe", "exec")
            path = re.search(r"http://127\.0\.0\.1:\d+(/[^']*)'", code).group(1)
            assert (program, flag) == ("python", "-c") and f'"{path}"' in told


def test_the_entrypoint_of_the_job_is_a_command_line_of_ours():
    from typer.testing import CliRunner

    from perdure.jobs import main

    (job,) = (d for d in documents("ray-job.yaml") if d["kind"] == "RayJob")
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:3] == ["python", "-m", "perdure"]
    assert CliRunner().invoke(main.app, [*words[3:], "--help"]).exit_code == 0
    runtime = yaml.safe_load(job["spec"]["runtimeEnvYAML"])
    assert set(runtime) == {"env_vars"} and runtime["env_vars"]["RAY_JOB_STOP_SIGNAL"] == "SIGINT"


def test_the_launchers_file_fits_rays_own_schema():
    from ray.autoscaler._private.util import prepare_config, validate_config

    (config,) = documents("cluster.yaml")
    prepared = prepare_config(dict(config))  # as `ray up` does
    validate_config(prepared)
    with pytest.raises(Exception, match="Additional properties"):
        validate_config(prepared | {"head_start_ray_command": []})
    starts = [
        s for k in ("head_start_ray_commands", "worker_start_ray_commands") for s in config[k] if "ray start" in s
    ]
    assert len(starts) == 2 and all("RAY_AUTH_MODE=token" in s for s in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]


FAKES = {
    "scontrol": 'echo "scontrol $*" >> $SAID; printf "n1\\nn2\\nn3\\n"',
    "srun": 'echo "srun $*" >> $SAID\ncase "$*" in *"ray start"*) trap "exit 0" TERM; while :; do sleep 0.1; done;; '
    '*health-check*) exit 0;; *perdure*) until [ "$(grep -c "ray start" $SAID)" = 3 ]; do sleep 0.05; done; '
    'cp "$RAY_AUTH_TOKEN_PATH" "$SAID.token"; exit 7;; esac',
}


@pytest.fixture
def slurm(tmp_path):
    """What the script starts on three nodes, and how it ends."""
    bin = tmp_path / "bin"
    bin.mkdir()
    for name, body in FAKES.items():
        (bin / name).write_text(f"#!/bin/bash\n{body}\n")
        (bin / name).chmod(0o755)
    said = tmp_path / "said"
    path = f"{bin}:{Path(sys.executable).parent}:{os.environ['PATH']}"  # as where the environment has been activated
    env = {"PATH": path, "SAID": str(said), "SLURM_JOB_ID": "123456"}
    env |= {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_NODELIST": "n[1-3]", "SLURM_CPUS_PER_TASK": "8"}

    def run(*words):
        told = subprocess.run(
            ["bash", str(DEPLOY / "slurm.sh"), *words], env=env, capture_output=True, text=True, timeout=60
        )
        return told, said.read_text().splitlines() if said.exists() else [], tmp_path

    return run


def test_the_slurm_script_starts_ray_on_every_node_and_the_command_on_the_head(slurm):
    told, said, folder = slurm("compare", "naive", "rehearsal(500) + ewc(1)")
    assert told.returncode == 7, told.stderr  # the command's own
    starts = [line for line in said if "ray start" in line]
    assert len(starts) == 3 and sum("--head " in line for line in starts) == 1
    assert {re.search(r"--nodelist=(\w+)", line).group(1) for line in starts} == {"n1", "n2", "n3"}
    assert all("--block" in line and "--num-cpus=8" in line for line in starts)
    head = next(line for line in starts if "--head " in line)
    assert "--dashboard-host=127.0.0.1" in head and "--port=23456" in head
    assert all("--address=n1:23456" in line for line in starts if line is not head)
    (command,) = (line for line in said if "-m perdure" in line)
    assert "--nodelist=n1" in command and command.endswith("compare naive rehearsal(500) + ewc(1) --address n1:23456")
    token = (folder / "said.token").read_text()
    assert re.fullmatch(r"[0-9a-f]{64}", token) and token not in "".join(said)
    assert list((folder / "perdure-runs").iterdir()) == []  # the token is gone with the job


def test_the_slurm_script_wants_a_command(slurm):
    told, said, _ = slurm()
    assert told.returncode == 2 and "expected a command" in told.stderr and said == []


def test_shell_scripts_read():
    for script in DEPLOY.rglob("*.sh"):
        subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.parametrize("file", sorted(DEPLOY.rglob("Dockerfile")), ids=lambda f: str(f.relative_to(DEPLOY)))
def test_an_image_is_pinned_has_no_root_and_no_secret(file):
    text = re.sub(r"\\\n", " ", file.read_text())
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    known = {"FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "CMD"}
    assert {step[0] for step in steps} <= known and steps[0][0] == "FROM"
    bases = [step[1] for step in steps if step[0] == "FROM"]
    assert all(re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*", base) for base in bases)
    users = [n for n, step in enumerate(steps) if step[0] == "USER"]
    assert steps[users[-1]][1] == "1000:1000"
    assert all(step[0] not in ("RUN", "COPY") for step in steps[users[-1] + 1 :])
    assert not re.search(r"(password|secret|token|api_?key)\s*=", text, re.I)
    root = DEPLOY.parent if file.parent == DEPLOY else file.parent
    for step in steps:
        if step[0] == "COPY":
            assert all((root / source).exists() for source in step[1].split()[:-1])


def test_what_the_image_needs_is_not_ignored():
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (.*)", (DEPLOY / "Dockerfile").read_text(), flags=re.M)
    sources = {source for line in copied for source in line.split()[:-1]}
    assert ignored[0] == "*" and {line[1:] for line in ignored if line.startswith("!")} == sources


def test_mlflow_for_teams_keeps_secrets_out_and_ports_in():
    (compose,) = documents("mlflow/compose.yaml")
    services = compose["services"]
    assert {"database", "objects", "mlflow"} <= set(services)
    text = (DEPLOY / "mlflow" / "compose.yaml").read_text()
    for service in services.values():
        assert "image" not in service or re.search(r":[\w.-]*\d", service["image"])
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
        for name, value in service["environment"].items() if "environment" in service else ():
            if re.search("PASSWORD|SECRET", name):
                assert re.fullmatch(r"\$\{\w+:\?.*\}", value), name
        assert set(service.get("networks", [])) <= set(compose["networks"])
        for other in service.get("depends_on", {}):
            assert other in services
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in compose["volumes"]
    assert [name for name, s in services.items() if "ports" in s] == ["mlflow"]
    line = " ".join(services["mlflow"]["command"])
    assert "postgresql+psycopg2://" in line and "--artifacts-destination s3://mlflow" in line and "basic-auth" in line
    subprocess.run(["sh", "-n", "-c", services["mlflow"]["command"][-1].replace("$$", "$")], check=True)
    wanted = set(re.findall(r"\$\{(\w+):\?", text))
    assert wanted == set(re.search(r"for name in ([^;]*);", text.replace("\\\n#", "")).group(1).split())


def test_mlflows_options_are_its_own():
    """Those that the compose file gives are options of the version that is pinned."""
    words = [sys.executable, "-W", "ignore", "-m", "mlflow", "server", "--help"]
    told = subprocess.run(
        words, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"}
    ).stdout
    (compose,) = documents("mlflow/compose.yaml")
    line = compose["services"]["mlflow"]["command"][-1]
    given = set(re.findall(r"--[a-z-]+", line))
    assert given and given <= set(re.findall(r"--[a-z-]+", told))
    pinned = re.search(r"mlflow\[auth\]==([\d.]+)", (DEPLOY / "mlflow" / "Dockerfile").read_text()).group(1)
    assert f"mlflow=={pinned}" in (DEPLOY.parent / "constraints.txt").read_text()
