"""The manifests agree with the settings: every command is understood, and a host's two share what they must."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.runtime.flags import load
from services.runtime.reference import documented_settings
from services.runtime.setting_rows import describe
from tests.rails.test_containers import image_variables

PLACE = Path(__file__).parents[2] / "deploy/kubernetes"
Manifest = dict[str, Any]  # Any: as YAML has it


def manifests() -> list[Manifest]:
    resources = yaml.safe_load((PLACE / "kustomization.yaml").read_text())["resources"]
    assert sorted(resources) == sorted(it.name for it in PLACE.glob("*.yaml") if it.name != "kustomization.yaml")
    return [it for name in resources for it in yaml.safe_load_all((PLACE / name).read_text())]


def pods() -> dict[str, Manifest]:
    return {
        it["metadata"]["name"]: it["spec"]["template"]["spec"] for it in manifests() if "template" in it.get("spec", ())
    }


def config() -> dict[str, str]:
    found: dict[str, str] = next(it for it in manifests() if it["kind"] == "ConfigMap")["data"]
    return found


def containers() -> list[Any]:
    return [
        pytest.param(pod, container, id=f"{name}-{container['name']}")
        for name, pod in pods().items()
        for container in [*pod.get("initContainers", ()), *pod["containers"]]
        if container["image"] == "moonpool"
    ]


@pytest.mark.parametrize(("pod", "container"), containers())
def test_every_process_understands_what_it_is_told(
    pod: Manifest, container: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, *flags = container["args"]
    for variable in [it for it in os.environ if it.startswith("MOONPOOL_")]:
        monkeypatch.delenv(variable)
    own = {it["name"]: it.get("value", "10.0.0.1") for it in container.get("env", ())}
    for variable, value in (image_variables() | config() | own).items():
        monkeypatch.setenv(variable, value)
    settings = load(documented_settings()[command], flags, prog=command).model_dump()
    served = {settings.get("metrics_port"), settings.get("port")} - {None}
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        if kind in container:
            assert ports[container[kind]["httpGet"]["port"]] in served
    if command in ("conductor", "store", "worker"):
        assert (settings["advertise"], settings["metrics_host"]) == ("10.0.0.1", "0.0.0.0")
        assert ports["grpc" if command != "store" else "transfers"] == int(
            settings["listen" if command != "store" else "transfer_listen"].rpartition(":")[2]
        )
    assert pod["enableServiceLinks"] is False, "a service called moonpool would be the variable MOONPOOL_PORT"
    assert pod["securityContext"]["runAsUser"] == 10001


def test_every_variable_is_some_processes_setting() -> None:
    known = {setting.variable for it in documented_settings().values() for setting in describe(it)}
    assert {it for it in config() if it.startswith("MOONPOOL_")} <= known


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_a_hosts_store_and_worker_share_a_directory_in_memory_and_keep_their_files_apart(role: str) -> None:
    pod = pods()[f"moonpool-{role}"]
    mounted = {
        container["name"]: {it["mountPath"]: it["name"] for it in container["volumeMounts"]}
        for container in pod["containers"]
    }
    where, kept = image_variables()["MOONPOOL_RUN_DIR"], image_variables()["MOONPOOL_DATA_DIR"]
    assert mounted["store"][where] == mounted["worker"][where] == "host"
    assert (mounted["store"][kept], mounted["worker"][kept]) == ("ssd", "models")
    (host,) = [it for it in pod["volumes"] if it["name"] == "host"]
    assert host["emptyDir"]["medium"] == "Memory"


def test_services_find_pods_that_have_the_port() -> None:
    labelled = {
        it["metadata"]["name"]: it["spec"]["template"]["metadata"]["labels"]
        for it in manifests()
        if "template" in it.get("spec", ())
    }
    for service in [it for it in manifests() if it["kind"] == "Service"]:
        (pod,) = [name for name, labels in labelled.items() if service["spec"]["selector"] == labels]
        offered = {port["containerPort"] for it in pods()[pod]["containers"] for port in it.get("ports", ())}
        assert {port["port"] for port in service["spec"]["ports"]} <= offered
