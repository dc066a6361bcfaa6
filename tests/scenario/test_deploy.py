"""The files of deploy/: what they say fits the product, and the chart renders."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from streamer.config import load
from tests.helpers.daemon_process import ROOT

yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra ray")
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "streamer"
HELM = shutil.which("helm")
Document = dict[str, Any]


def documents(text: str) -> dict[str, Document]:
    """Of a manifest, by kind."""
    return {each["kind"]: each for each in yaml.safe_load_all(text) if each}


@pytest.fixture(scope="module")
def manifest() -> dict[str, Document]:
    """What the chart renders."""
    return documents((DEPLOY / "kuberay.yaml").read_text())


def pods(manifest: dict[str, Document]) -> list[Document]:
    """All templates of pods: gateways, the head, engines."""
    cluster = manifest["RayCluster"]["spec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [manifest["Deployment"]["spec"]["template"], *(group["template"] for group in groups)]


def variables(container: Document) -> dict[str, str]:
    """Of a container, those with a value of their own."""
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}


def test_gateways_find_the_cluster(manifest: dict[str, Document], tmp_path: Path) -> None:
    """Their configuration loads; they join at the service that KubeRay makes for the head, with its token."""
    [container] = manifest["Deployment"]["spec"]["template"]["spec"]["containers"]
    config = load(None, variables(container), {})
    name = manifest["RayCluster"]["metadata"]["name"]
    assert (config.engines.where, config.engines.address) == ("ray", "auto")
    assert f"ray start --address={name}-head-svc:6379 --num-cpus=0" in container["args"][0]
    assert container["args"][0].endswith("exec streamer serve")
    [group] = manifest["RayCluster"]["spec"]["workerGroupSpecs"]
    assert (config.engines.count, config.engines.most) == (group["minReplicas"], group["maxReplicas"])
    [token] = [each["valueFrom"]["secretKeyRef"] for each in container["env"] if each["name"] == "RAY_AUTH_TOKEN"]
    assert token == {"name": name, "key": "auth_token"}
    assert manifest["RayCluster"]["spec"]["authOptions"] == {"mode": "token"}


def test_gateways_are_replaced_without_losing_the_last_words(manifest: dict[str, Document]) -> None:
    """One more before one less; they have longer than they ask for, and are asked where they answer."""
    deployment = manifest["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    [container] = pod["containers"]
    config = load(None, variables(container), {})
    assert pod["terminationGracePeriodSeconds"] > config.server.drain_s
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    labels = deployment["template"]["metadata"]["labels"]
    for selector in (deployment["selector"]["matchLabels"], manifest["Service"]["spec"]["selector"]):
        assert selector.items() <= labels.items()


def test_the_daemon_is_not_the_first_process(manifest: dict[str, Document]) -> None:
    """Processes whose parent was killed are left to the first one: to a daemon they would stay dead for ever."""
    assert manifest["Deployment"]["spec"]["template"]["spec"]["shareProcessNamespace"] is True
    for file in (DEPLOY / "compose.yml", ROOT / "configs" / "docker" / "compose.yml"):
        services = yaml.safe_load(file.read_text())["services"]
        assert all(service["init"] for service in services.values() if "secrets" in service)


def test_logs_of_containers_are_bounded() -> None:
    """A daemon that runs for months must not fill the disk of its machine."""
    for file in (DEPLOY / "compose.yml", ROOT / "configs" / "docker" / "compose.yml"):
        services = yaml.safe_load(file.read_text())["services"]
        assert {service["logging"]["driver"] for service in services.values()} == {"local"}


def test_engines_are_not_niced_and_outlive_the_head(manifest: dict[str, Document]) -> None:
    """On all machines of Ray; so do the parts of Ray beside gateways, which need the head again when it is back."""
    for pod in pods(manifest):
        [container] = pod["spec"]["containers"]
        found = variables(container)
        assert found["RAY_worker_niceness"] == "0"
        assert int(found["RAY_gcs_rpc_server_reconnect_timeout_s"]) >= 3600


def test_the_compose_file_has_two_engines() -> None:
    """And a gateway with keys, which the network reaches; the engines it does not."""
    services = yaml.safe_load((DEPLOY / "compose.yml").read_text())["services"]
    config = load(None, {k: v for k, v in services["gateway"]["environment"].items() if k.startswith("STREAMER_")}, {})
    assert config.engines.count == services["engine"]["deploy"]["replicas"] == 2
    assert services["gateway"]["secrets"] == ["api-keys"]
    assert not any("ports" in services[name] for name in ("head", "engine"))


@pytest.mark.skipif(HELM is None, reason="needs helm")
def test_the_chart_renders_the_manifest() -> None:
    """It has no mistake that helm finds, with engines on CPUs too, and no more machines than their GPUs need."""
    assert HELM is not None

    def helm(*arguments: object) -> str:
        command = [HELM, *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout

    helm("lint", "--strict", CHART)
    rendered = documents(helm("template", "captions", CHART))
    assert rendered == documents((DEPLOY / "kuberay.yaml").read_text())
    settings = ("engines.gpusOfMachine=0", "head.redis=redis:6379", "gateways.keysSecret=", "engines.nodeSelector.a=b")
    other = documents(helm("template", "captions", CHART, *(part for each in settings for part in ("--set", each))))
    [gateway] = other["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert variables(gateway)["STREAMER_MODEL_DEVICE"] == "cpu"
    assert variables(gateway)["STREAMER_SERVER_ALLOW_WITHOUT_KEYS"] == "true"
    assert other["RayCluster"]["spec"]["gcsFaultToleranceOptions"] == {"redisAddress": "redis:6379"}
    larger = documents(helm("template", "captions", CHART, "--set", "engines.gpusOfMachine=2,engines.most=5"))
    [group] = larger["RayCluster"]["spec"]["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (1, 1, 3)
