"""The files that put SwiftBolt on a cluster are valid, closed to strangers, and agree with one another."""

from __future__ import annotations

import copy
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from dockerfile_parse import DockerfileParser
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.serve.schema import ServeDeploySchema
from support import kuberay

from cluster.retrain import RetrainConfig
from serve.app import AppArgs
from swiftbolt.config import load_config, parse_config

PROJECT = Path(__file__).parents[2]
KUBERAY = PROJECT / "cluster" / "deploy" / "kuberay"
AWS = PROJECT / "configs" / "cluster" / "aws.yaml"
DOCKERFILE = PROJECT / "cluster" / "deploy" / "Dockerfile"
CONSTRAINTS = PROJECT / "cluster" / "deploy" / "constraints.txt"
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")


def read_manifests() -> dict[str, dict[str, Any]]:
    """Every manifest by its kind and name."""
    return {
        f"{manifest['kind']}/{manifest['metadata'].get('name', path.stem)}": manifest
        for path in sorted(KUBERAY.glob("*.yaml"))
        if path.name != "kustomization.yaml"
        for manifest in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    }


MANIFESTS = read_manifests()
RAY = {name: manifest for name, manifest in MANIFESTS.items() if manifest["apiVersion"] == "ray.io/v1"}
KUSTOMIZATION = yaml.safe_load((KUBERAY / "kustomization.yaml").read_text(encoding="utf-8"))
CONFIG = yaml.safe_load(AWS.read_text(encoding="utf-8"))


def pinned() -> dict[str, str]:
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def templates(node: Any) -> Iterator[dict[str, Any]]:
    """Every pod template in a manifest."""
    if isinstance(node, dict):
        if "containers" in node.get("spec", {}):
            yield node
        for child in node.values():
            yield from templates(child)
    elif isinstance(node, list):
        for child in node:
            yield from templates(child)


PODS = [
    pytest.param(template, id=f"{name}-{template['metadata']['labels']['swiftbolt.io/role']}-{index}")
    for name, manifest in MANIFESTS.items()
    for index, template in enumerate(templates(manifest))
]


# Kubernetes


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS)
def test_every_manifest_is_valid(manifest: dict[str, Any]) -> None:
    kuberay.validate(manifest)


def _misspell_image(manifest: dict[str, Any]) -> None:
    container = next(templates(manifest))["spec"]["containers"][0]
    container["imag"] = container.pop("image")


def _forget_port(manifest: dict[str, Any]) -> None:
    manifest["spec"]["ingress"][0]["ports"][0]["port"] = {"number": 8000}


def _misspell_field(manifest: dict[str, Any]) -> None:
    kuberay.cluster_of(manifest)["headGroupSpecs"] = {}


def _number_as_parameter(manifest: dict[str, Any]) -> None:
    kuberay.cluster_of(manifest)["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0


def _misspell_serve(manifest: dict[str, Any]) -> None:
    manifest["spec"]["serveConfigV2"] = manifest["spec"]["serveConfigV2"].replace("import_path", "import_pth")


@pytest.mark.parametrize(
    ("name", "damage", "complaint"),
    [
        ("CronJob/swiftbolt-retrain", _misspell_image, "imag"),
        ("NetworkPolicy/forecasts", _forget_port, "number"),
        ("RayJob/retrain-job", _misspell_image, "imag"),
        ("RayJob/retrain-job", _number_as_parameter, "num-cpus"),
        ("RayCluster/swiftbolt-workbench", _misspell_field, "headGroupSpecs"),
        ("RayService/swiftbolt", _misspell_serve, "import_path"),
    ],
)
def test_a_damaged_manifest_is_refused(name: str, damage: Callable[[dict[str, Any]], None], complaint: str) -> None:
    manifest = copy.deepcopy(MANIFESTS[name])
    damage(manifest)
    with pytest.raises(ValueError, match=complaint):
        kuberay.validate(manifest)


def test_kustomize_takes_every_manifest_but_the_workbench() -> None:
    [job] = KUSTOMIZATION["configMapGenerator"]
    taken = {*KUSTOMIZATION["resources"], *job["files"], "kustomization.yaml", "workbench.yaml"}
    assert taken == {path.name for path in KUBERAY.iterdir()}
    assert {manifest["metadata"].get("namespace", "swiftbolt") for manifest in MANIFESTS.values()} == {"swiftbolt"}


def test_the_monthly_job_creates_the_rayjob_it_is_given() -> None:
    [template] = templates(MANIFESTS["CronJob/swiftbolt-retrain"])
    [generated] = KUSTOMIZATION["configMapGenerator"]
    [container] = template["spec"]["containers"]
    volume = next(volume for volume in template["spec"]["volumes"] if "configMap" in volume)
    folder = next(mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == volume["name"])
    assert volume["configMap"]["name"] == generated["name"]
    assert [f"--filename={folder}/{file}" for file in generated["files"]] == [container["args"][-1]]
    # Only a generated name lets next month's job stand beside this month's.
    assert "name" not in MANIFESTS["RayJob/retrain-job"]["metadata"]
    assert MANIFESTS["Role/swiftbolt-retrain-starter"]["rules"] == [
        {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create"]}
    ]


def test_a_retrain_ends_long_before_the_next_one_starts() -> None:
    assert MANIFESTS["RayJob/retrain-job"]["spec"]["activeDeadlineSeconds"] < 28 * 86_400 / 2
    assert MANIFESTS["RayJob/retrain-job"]["spec"]["shutdownAfterJobFinishes"]


def test_the_rayjob_runs_a_command_that_exists_on_a_configuration_in_the_image() -> None:
    python, option, module, *rest = shlex.split(MANIFESTS["RayJob/retrain-job"]["spec"]["entrypoint"])
    assert (python, option, module) == ("python", "-m", "cluster.retrain")
    assert rest[0::2] == ["--config", "--set"]
    config = PROJECT / Path(rest[1]).relative_to("/app")
    read = load_config(config, RetrainConfig, [rest[3]])
    head = kuberay.cluster_of(MANIFESTS["RayJob/retrain-job"])["headGroupSpec"]["template"]["spec"]
    mounts = {mount["mountPath"] for mount in head["containers"][0]["volumeMounts"]}
    assert str(read.universe.parent) in mounts
    gpus = kuberay.cluster_of(MANIFESTS["RayJob/retrain-job"])["workerGroupSpecs"][1]
    assert gpus["replicas"] >= read.resources.train_workers


@pytest.mark.parametrize("template", PODS)
def test_every_pod_is_as_weak_as_it_can_be(template: dict[str, Any]) -> None:
    spec = template["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]) & set(container["resources"]["limits"])
        # Nothing else is writable, and Ray needs both.
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("template", PODS)
def test_a_pod_has_a_token_for_kubernetes_only_where_the_network_lets_it_use_one(template: dict[str, Any]) -> None:
    labels, spec = template["metadata"]["labels"], template["spec"]
    # Left out means yes: the operator gives the workbench's head an account of its own.
    has_token = spec.get("automountServiceAccountToken", True)
    assert has_token == ("swiftbolt.io/kubernetes-api" in labels)
    assert labels["swiftbolt.io/role"] in {"retrain-starter", "workbench-head"} or not has_token


@pytest.mark.parametrize("template", PODS)
def test_no_secret_stands_in_a_manifest(template: dict[str, Any]) -> None:
    for container in template["spec"]["containers"]:
        for variable in container.get("env", []):
            assert "value" not in variable or variable["name"] == "SWIFTBOLT_HOME"
    assert not any(manifest["kind"] == "Secret" for manifest in MANIFESTS.values())


@pytest.mark.parametrize("manifest", RAY.values(), ids=RAY)
def test_every_ray_cluster_asks_for_a_token_and_is_watched(manifest: dict[str, Any]) -> None:
    cluster = kuberay.cluster_of(manifest)
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        [container] = group["template"]["spec"]["containers"]
        assert container["livenessProbe"]["httpGet"] == {"path": "/api/local_raylet_healthz", "port": 52365}
        assert container["readinessProbe"]["httpGet"]["path"].endswith("healthz")


@pytest.mark.parametrize("manifest", RAY.values(), ids=RAY)
def test_every_node_of_a_cluster_sees_the_same_home_and_database(manifest: dict[str, Any]) -> None:
    cluster = kuberay.cluster_of(manifest)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        spec = group["template"]["spec"]
        [container] = spec["containers"]
        home, database = container["env"]
        assert database["valueFrom"] == {"secretKeyRef": {"name": "swiftbolt-database", "key": "url"}}
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        claims = {volume["name"]: volume.get("persistentVolumeClaim") for volume in spec["volumes"]}
        assert claims[mounts[home["value"]]]["claimName"] == "swiftbolt-home"
        # Serving only reads: whoever breaks into it changes no model.
        assert claims[mounts[home["value"]]].get("readOnly", False) == (manifest["kind"] == "RayService")
    assert MANIFESTS["PersistentVolumeClaim/swiftbolt-home"]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_service_runs_the_graph_that_one_machine_runs() -> None:
    spec = MANIFESTS["RayService/swiftbolt"]["spec"]
    deployed = ServeDeploySchema.model_validate(yaml.safe_load(spec["serveConfigV2"]))
    local = ServeDeploySchema.model_validate(yaml.safe_load((PROJECT / "configs/serve/local.yaml").read_text()))
    [application], [expected] = deployed.applications, local.applications
    assert (application.import_path, application.args) == (expected.import_path, expected.args)
    parse_config(application.args, AppArgs, "serve.yaml")
    workers = spec["rayClusterConfig"]["workerGroupSpecs"][0]["replicas"]
    assert {each.name: each.num_replicas for each in application.deployments} == {"ingress": 2, "ensemble": 2}
    assert workers > MANIFESTS["PodDisruptionBudget/swiftbolt-serve"]["spec"]["minAvailable"]


def test_everything_is_closed_first_and_no_policy_opens_to_the_world() -> None:
    policies = {name: manifest for name, manifest in MANIFESTS.items() if manifest["kind"] == "NetworkPolicy"}
    assert policies["NetworkPolicy/deny-all"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, policy in policies.items():
        assert "0.0.0.0/0" not in str(policy), name
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"], name
            assert {} not in rule["from"], name
        for rule in policy["spec"].get("egress", []):
            assert rule["to"], name


def test_only_the_nodes_of_one_cluster_may_use_all_ports_of_each_other() -> None:
    open_ports = [
        policy["spec"]
        for policy in MANIFESTS.values()
        if policy["kind"] == "NetworkPolicy"
        and any("ports" not in rule for way in ("ingress", "egress") for rule in policy["spec"].get(way, []))
    ]
    clusters = [spec["podSelector"]["matchLabels"]["swiftbolt.io/cluster"] for spec in open_ports]
    assert clusters == ["retrain", "serve", "workbench"]
    for spec in open_ports:
        assert spec["ingress"] == [{"from": [{"podSelector": spec["podSelector"]}]}]
        assert spec["egress"] == [{"to": [{"podSelector": spec["podSelector"]}]}]


def test_policies_and_disruption_budgets_name_pods_that_exist() -> None:
    labels = [template["metadata"]["labels"] for manifest in MANIFESTS.values() for template in templates(manifest)]

    def selectors(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            yield from (node[key] for key in ("podSelector", "selector") if node.get(key))
            for key, child in node.items():
                if key != "namespaceSelector":
                    yield from selectors(child)
        elif isinstance(node, list):
            for child in node:
                yield from selectors(child)

    kinds = {"NetworkPolicy", "PodDisruptionBudget"}
    found = [each for manifest in MANIFESTS.values() if manifest["kind"] in kinds for each in selectors(manifest)]
    assert len(found) > 10
    for selector in found:
        wanted = selector.get("matchLabels", {})
        if wanted == {"k8s-app": "kube-dns"}:
            continue
        assert any(wanted.items() <= has.items() for has in labels), selector
        for expression in selector.get("matchExpressions", []):
            assert {has.get(expression["key"]) for has in labels} >= set(expression["values"])


# EC2


def test_the_autoscaler_takes_the_cluster_of_aws() -> None:
    validate_config(prepare_config(CONFIG))


def test_the_autoscaler_refuses_a_misspelt_key() -> None:
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minuts"):
        validate_config(prepare_config({**CONFIG, "idle_timeout_minuts": 5}))


def test_spot_machines_are_workers_and_the_head_does_no_work() -> None:
    kinds = CONFIG["available_node_types"]
    spot = {name for name, kind in kinds.items() if "InstanceMarketOptions" in kind["node_config"]}
    assert spot == set(kinds) - {CONFIG["head_node_type"]} == {"cpu_worker", "gpu_worker"}
    assert kinds["head"]["resources"] == {"CPU": 0, "GPU": 0}
    assert kinds["gpu_worker"]["resources"]["GPU"] == 1
    assert [kinds[name]["min_workers"] for name in sorted(spot)] == [0, 0]
    assert sum(kinds[name]["max_workers"] for name in spot) <= CONFIG["max_workers"]


def test_no_machine_is_left_to_the_security_group_that_ray_opens_to_the_world() -> None:
    assert "security_group" not in CONFIG["provider"]
    for kind in CONFIG["available_node_types"].values():
        assert kind["node_config"]["SecurityGroupIds"] == ["sg-REPLACE"]
        assert kind["node_config"]["SubnetIds"] == ["subnet-REPLACE"]
        assert kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
        assert all(disk["Ebs"]["Encrypted"] for disk in kind["node_config"]["BlockDeviceMappings"])


def test_every_machine_starts_ray_with_the_token_and_one_thread_and_the_dashboard_stays_inside() -> None:
    for commands in (CONFIG["head_start_ray_commands"], CONFIG["worker_start_ray_commands"]):
        start = commands[-1]
        assert "RAY_AUTH_MODE=token" in start
        assert 'RAY_AUTH_TOKEN_PATH="$HOME/.swiftbolt/ray_token"' in start
        assert ". ~/.swiftbolt/environment" in start
        assert all(f"{name}=1" in start for name in ONE_THREAD)
    assert "--dashboard-host=127.0.0.1" in CONFIG["head_start_ray_commands"][-1]
    assert "0.0.0.0" not in yaml.safe_dump(CONFIG)


def test_secrets_reach_the_machines_from_outside_the_repository() -> None:
    assert CONFIG["file_mounts"]["~/.swiftbolt"].startswith("~/")
    assert not re.search(r"postgres(ql)?://|AKIA|secret_access_key", AWS.read_text(encoding="utf-8"))


def test_the_machines_install_the_version_of_this_checkout_under_the_constraints() -> None:
    [install] = [command for command in CONFIG["setup_commands"] if "swiftbolt-" in command]
    assert f"~/dist/swiftbolt-{PYPROJECT['version']}-py3-none-any.whl" in install
    assert "--constraint ~/dist/constraints.txt" in install


# The image


@pytest.fixture(scope="module")
def dockerfile() -> DockerfileParser:
    parser = DockerfileParser(fileobj=BytesIO())
    parser.content = DOCKERFILE.read_text(encoding="utf-8")
    return parser


def final_stage(parser: DockerfileParser) -> list[dict[str, Any]]:
    structure = parser.structure
    last = max(index for index, step in enumerate(structure) if step["instruction"] == "FROM")
    return [step for step in structure[last:] if step["instruction"] != "COMMENT"]


def test_the_image_is_built_in_two_stages_from_a_pinned_python(dockerfile: DockerfileParser) -> None:
    stages = [step["value"] for step in dockerfile.structure if step["instruction"] == "FROM"]
    assert stages == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE} AS runtime"]
    [base] = [step["value"] for step in dockerfile.structure if step["value"].startswith("PYTHON_IMAGE=")]
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+\.\d+-slim-\w+", base)


def test_the_image_runs_as_nobody_special_and_tells_its_health(dockerfile: DockerfileParser) -> None:
    steps = {step["instruction"]: step["value"] for step in final_stage(dockerfile)}
    uid, gid = steps["USER"].split(":")
    assert int(uid) > 0
    assert int(gid) > 0
    pods = [param.values[0]["spec"]["securityContext"] for param in PODS]
    assert {pod["runAsUser"] for pod in pods} == {int(uid)}
    assert "http://127.0.0.1:8000/health" in steps["HEALTHCHECK"]
    assert "wget" in steps["RUN"]  # what HEALTHCHECK calls, and the operator
    assert steps["CMD"] == '["python", "-m", "serve", "--host", "0.0.0.0"]'


def test_the_image_pins_threads_and_names_its_version(dockerfile: DockerfileParser) -> None:
    envs = {name: dockerfile.envs.get(name) for name in ONE_THREAD}
    assert envs == dict.fromkeys(ONE_THREAD, "1")
    assert f"VERSION={PYPROJECT['version']}" in [step["value"] for step in final_stage(dockerfile)]
    assert dockerfile.labels["org.opencontainers.image.licenses"] == PYPROJECT["license"]


def test_the_image_copies_what_exists_and_what_the_builder_is_sent(dockerfile: DockerfileParser) -> None:
    assert not any(step["instruction"] == "ADD" for step in dockerfile.structure)
    copies = [step["value"].split() for step in dockerfile.structure if step["instruction"] == "COPY"]
    sources = [source for copied in copies if not copied[0].startswith("--from") for source in copied[:-1]]
    lines = (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines  # nothing but what is named
    for source in sources:
        assert (PROJECT / source).exists(), source
        assert any(fnmatch(source, pattern) or source.startswith(f"{pattern}/") for pattern in sent), source
    assert {Path(source).parts[0] for source in sources} == set(sent)


def test_the_constraints_pin_every_dependency_within_its_range() -> None:
    pins = pinned()
    extras = [*PYPROJECT["dependencies"], *PYPROJECT["optional-dependencies"]["alpaca"]]
    for requirement in map(Requirement, extras):
        assert requirement.specifier.contains(pins[requirement.name]), requirement


def test_every_place_names_the_same_version_of_ray_and_of_the_image() -> None:
    assert {kuberay.cluster_of(manifest)["rayVersion"] for manifest in RAY.values()} == {pinned()["ray"]}
    images = {
        container["image"]
        for manifest in RAY.values()
        for template in templates(manifest)
        for container in template["spec"]["containers"]
    }
    assert [image.rsplit(":", 1)[1] for image in images] == [PYPROJECT["version"]]
    assert not any("latest" in path.read_text(encoding="utf-8") for path in (DOCKERFILE, *KUBERAY.glob("*.yaml")))
