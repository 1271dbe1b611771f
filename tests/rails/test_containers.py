"""The compose file and the Dockerfile agree with the commands, the settings, each other and what Prometheus scrapes."""

import fnmatch
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import moonpool
from services.runtime.flags import load
from services.runtime.reference import documented_settings
from services.runtime.setting_rows import describe
from services.runtime.settings import CalledSettings, ProcessSettings

ROOT = Path(__file__).parents[2]
Service = dict[str, Any]  # Any: as YAML has it

DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def compose() -> dict[str, Any]:
    """As it is for somebody who has set nothing: variables are replaced in what was read, as compose does it."""
    found: dict[str, Any] = _replaced(yaml.safe_load(TEXT))
    return found


def _replaced(value: Any) -> Any:
    match value:
        case str():
            return _VARIABLE.sub(lambda it: it[2], value)
        case list():
            return [_replaced(each) for each in value]
        case dict():
            return {key: _replaced(each) for key, each in value.items()}
        case _:
            return value


def ours() -> dict[str, Service]:
    return {name: it for name, it in compose()["services"].items() if it["image"] == "moonpool"}


def image_variables() -> dict[str, str]:
    """What the image's last stage sets for our processes."""
    stage = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    return dict(re.findall(r"(MOONPOOL_\w+)=(\S+)", stage))


def mounts(service: Service) -> dict[str, str]:
    """Path in the container to the volume or path outside."""
    split = [it.removesuffix(":ro").rpartition(":") for it in service.get("volumes", [])]
    return {inside: outside for outside, _, inside in split}


@pytest.fixture
def settings_of(monkeypatch: pytest.MonkeyPatch) -> dict[str, ProcessSettings]:
    """Each service's, as its process would read them there."""
    found = {}
    for name, service in ours().items():
        command, *flags = service["command"]
        if command == "pull":
            continue
        with monkeypatch.context() as there:
            for variable in [it for it in os.environ if it.startswith("MOONPOOL_")]:
                there.delenv(variable)
            for variable, value in (image_variables() | service["environment"]).items():
                there.setenv(variable, str(value))
            there.setattr("socket.gethostname", lambda name=name: f"host-of-{name}")
            loaded = load(documented_settings()[command], flags, prog=name)
            assert isinstance(loaded, ProcessSettings)
            found[name] = loaded
    return found


def test_every_process_understands_what_it_is_told(settings_of: dict[str, ProcessSettings]) -> None:
    assert {service["command"][0] for service in ours().values()} <= set(moonpool.COMMANDS)
    assert len(settings_of) == len(ours()) - 1
    for settings in settings_of.values():
        assert settings.insecure_network, "there are no certificates here"
    ids = [settings.model_dump()["id"] for settings in settings_of.values()]
    assert len(set(ids)) == len(ids)


def test_no_variable_is_told_to_a_process_that_has_no_such_setting() -> None:
    for name, service in ours().items():
        settings = documented_settings()[service["command"][0]]
        understood = {setting.variable for setting in describe(settings)}
        if service["command"][0] != "pull":  # which shares what all are told
            assert {it for it in service["environment"] if it.startswith("MOONPOOL_")} <= understood, name
    everybody = {setting.variable for it in documented_settings().values() for setting in describe(it)}
    assert set(image_variables()) <= everybody


def test_every_variable_of_the_file_is_told_at_its_top_and_on_its_page() -> None:
    head = TEXT[: TEXT.index("\nx-")]
    page = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    for variable, _ in _VARIABLE.findall(TEXT):
        assert variable in head, variable
        assert f"`{variable}`" in page, variable


def test_who_is_called_from_other_containers_says_how_and_serves_metrics(
    settings_of: dict[str, ProcessSettings],
) -> None:
    called = {name: it for name, it in settings_of.items() if isinstance(it, CalledSettings)}
    assert len(called) == len(settings_of) - 1
    for name, settings in called.items():
        assert settings.advertise == f"host-of-{name}"
        assert (settings.metrics_host, settings.metrics_port) == ("0.0.0.0", 9100)
        assert ours()[name]["healthcheck"]["test"][-1] == f"http://127.0.0.1:{settings.metrics_port}/health"
    port = settings_of["gateway"].model_dump()["port"]
    assert ours()["gateway"]["healthcheck"]["test"][-1] == f"http://127.0.0.1:{port}/health"
    assert ours()["gateway"]["ports"][0].endswith(f":{port}")


def test_a_hosts_processes_share_its_arena_and_nobody_elses(settings_of: dict[str, ProcessSettings]) -> None:
    shared: dict[str, set[str]] = {}
    for name, service in ours().items():
        if service["command"][0] in ("store", "worker"):
            settings = settings_of[name].model_dump()
            where = str(settings.get("arena_dir") or settings["run_dir"])
            assert where == image_variables()["MOONPOOL_RUN_DIR"] == image_variables()["MOONPOOL_ARENA_DIR"]
            shared.setdefault(mounts(service)[where], set()).add(settings["host_id"])
    assert shared == {"host-a": {"a"}, "host-b": {"b"}}
    for volume in shared:
        assert compose()["volumes"][volume]["driver_opts"]["type"] == "tmpfs"


def test_volumes_are_declared_and_used_and_what_must_be_kept_lies_on_one() -> None:
    declared = set(compose()["volumes"])
    outside = {place for service in compose()["services"].values() for place in mounts(service).values()}
    assert {place for place in outside if not place.startswith("./")} == declared
    assert all((ROOT / place).exists() for place in outside if place.startswith("./"))
    for name, service in ours().items():
        kept = image_variables()["MOONPOOL_DATA_DIR"] in mounts(service)
        assert kept is (service["command"][0] != "conductor"), name


def test_ports_are_published_on_this_machine_only() -> None:
    published = [port for service in compose()["services"].values() for port in service.get("ports", [])]
    assert len(published) == 3
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_images_are_pinned_and_services_wait_for_services_that_are_there() -> None:
    services = compose()["services"]
    for name, service in services.items():
        if service["image"] != "moonpool":
            assert re.search(r":v?\d", service["image"]), name
        assert set(service.get("depends_on", ())) <= set(services)


def test_prometheus_scrapes_every_process_where_it_serves(settings_of: dict[str, ProcessSettings]) -> None:
    serving = {
        name: getattr(settings, "port", None) or getattr(settings, "metrics_port", None)
        for name, settings in settings_of.items()
    }
    scraped: dict[str, int] = {}
    for job in yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]:
        for found in job.get("dns_sd_configs", ()):
            scraped |= dict.fromkeys(found["names"], found["port"])
        for static in job.get("static_configs", ()):
            scraped |= {name: int(port) for name, _, port in (it.rpartition(":") for it in static["targets"])}
    assert scraped == serving


def test_grafana_asks_the_prometheus_that_is_there_and_opens_a_dashboard_that_is_there() -> None:
    services = compose()["services"]
    (source,) = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    host, port = source["url"].removeprefix("http://").split(":")
    assert services[host]["ports"][0].endswith(f":{port}")
    ((inside, outside),) = mounts(services["grafana"]).items()
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / home.replace(inside, outside)).is_file()
    (provider,) = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/moonpool.yml").read_text())[
        "providers"
    ]
    assert Path(home).parent == Path(provider["options"]["path"])


def test_the_image_is_built_from_every_package_and_the_context_lets_them_in() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = set(re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE))
    sources = {source for line in copied for source in line.split()}
    packages = {it.removesuffix("*") for it in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages | {"moonpool.py", "pyproject.toml", project["project"]["readme"], "LICENSE"} <= sources
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sources == allowed
    assert all((ROOT / source).exists() for source in sources)


def test_an_image_without_its_kernels_is_not_made() -> None:
    """They are optional to pip, so the build looks for them."""
    asked = re.findall(r"\S+\.\*\.so", DOCKERFILE)
    modules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    for module in modules:
        path = module["name"].replace(".", "/")
        best_known = path.rpartition("/")[0] + "/*"
        assert any(fnmatch.fnmatch(it, best_known) for it in asked), path


def test_no_process_is_root_and_signals_reach_it() -> None:
    stage = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert re.search(r"^USER moonpool$", stage, flags=re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["moonpool"\]$', stage, flags=re.MULTILINE), "no shell in between"
    assert "STOPSIGNAL SIGTERM" in stage
    uid = re.findall(r"--uid (\d+)", stage)
    for volume in ("host-a", "host-b"):
        options = compose()["volumes"][volume]["driver_opts"]["o"]
        assert f"uid={uid[0]}" in options
        assert "mode=0700" in options


def test_who_stops_a_container_gives_it_time_to_drain(settings_of: dict[str, ProcessSettings]) -> None:
    for name, settings in settings_of.items():
        grace_s = float(ours()[name]["stop_grace_period"].removesuffix("s"))
        assert grace_s >= getattr(settings, "drain_s", 0.0) + 5.0, name
