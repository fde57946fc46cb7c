"""A contract type of import-linter that knows the services, so that none is listed by hand."""

from __future__ import annotations

from typing import Any

from importlinter.contracts.layers import LayersContract

from services.common.topology import load_topology

_SERVICES = "{services}"
_SERVICE = "{service}"


class ServiceLayers(LayersContract):
    """Layers in whose options ``{services}`` is a layer of all services of topology.yaml, and
    ``{service}`` in a container stands for each of them.
    """

    type_name = "service_layers"

    def __init__(
        self, name: str, session_options: dict[str, Any], contract_options: dict[str, Any]
    ) -> None:
        services = sorted(load_topology().services)
        layers: list[str] = contract_options["layers"]
        containers: list[str] = contract_options["containers"]
        named = {
            "layers": [layer.replace(_SERVICES, " | ".join(services)) for layer in layers],
            "containers": [
                container.replace(_SERVICE, service)
                for container in containers
                for service in (services if _SERVICE in container else [""])
            ],
        }
        super().__init__(name, session_options, {**contract_options, **named})
