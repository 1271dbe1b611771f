"""The processes of a deployment and where each one's settings are: for the supervisor and for the docs."""

from importlib import import_module

from services.runtime.settings import ProcessSettings

SETTINGS = {
    "gateway": "services.gateway.settings:GatewaySettings",
    "conductor": "services.conductor.settings:ConductorSettings",
    "worker": "services.worker.settings:WorkerSettings",
    "store": "services.store.settings:StoreSettings",
}


def process_settings() -> dict[str, type[ProcessSettings]]:
    """The settings class of each process, by command."""
    found: dict[str, type[ProcessSettings]] = {}
    for command, place in SETTINGS.items():
        module, _, name = place.partition(":")
        found[command] = getattr(import_module(module), name)
    return found
