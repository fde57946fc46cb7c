"""Where a cluster takes from what is not in the repository: the network, or a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from tools import needs
from tools.bundle import contents
from tools.bundle.contents import Bundle, BundleError, Image
from tools.needs import MESH_TOOLS, MESH_VERSIONS, TOOLS, VERSION_COMMANDS
from tools.programs import ToolCommands, give_up


class Wanted(NamedTuple):
    """The cluster that is to be made.

    :ivar image: the shop's.
    :ivar mesh: ``none``, ``istio`` or ``linkerd``.
    :ivar is_observed: whether Grafana and the rest come with it.
    """

    image: str
    mesh: str
    is_observed: bool


class Supplies(Protocol):
    """What `make up` asks for."""

    @property
    def gateway_api(self) -> str:
        """Where the manifest with the Gateway API's definitions is, for `kubectl apply -f`."""
        ...

    @property
    def traefik_chart(self) -> Sequence[str]:
        """The chart, for `helm upgrade`."""
        ...

    @property
    def linkerd_check_options(self) -> Sequence[str]:
        """For `linkerd check`."""
        ...

    def check(self) -> None:
        """Ends the program with a sentence where something does not fit, before anything is made.

        :raises BundleError: a bundle lacks something.
        """
        ...

    def node_image(self) -> str:
        """The image of kind's nodes, for `kind create cluster`."""
        ...

    def load_images(self, cluster: str) -> None:
        """Puts into the nodes what they cannot fetch themselves."""
        ...


class Network:
    """The image is built here; the nodes fetch all others."""

    gateway_api = needs.GATEWAY_API
    traefik_chart = (
        *("traefik", "--repo", needs.TRAEFIK_REPOSITORY),
        *("--version", needs.TRAEFIK_CHART),
    )
    linkerd_check_options = ()

    def __init__(self, commands: ToolCommands, wanted: Wanted) -> None:
        self._commands = commands
        self._wanted = wanted

    def check(self) -> None:
        for tool in MESH_TOOLS[self._wanted.mesh]:
            check_version(self._commands, tool)

    def node_image(self) -> str:
        return needs.NODE_IMAGE

    def load_images(self, cluster: str) -> None:
        image = self._wanted.image
        self._commands.run("docker", "build", "--tag", image, ".")
        self._commands.run("kind", "load", "docker-image", image, "--name", cluster)


class Bundled:
    """Everything comes from a bundle, and nothing is built."""

    # Else it asks the Internet for the newest version.
    linkerd_check_options = ("--expected-version", needs.LINKERD_VERSION)

    def __init__(self, commands: ToolCommands, wanted: Wanted, bundle: Bundle) -> None:
        self._commands = commands
        self._wanted = wanted
        self._bundle = bundle

    @property
    def gateway_api(self) -> str:
        return str(self._bundle.path(contents.GATEWAY_API))

    @property
    def traefik_chart(self) -> Sequence[str]:
        return (str(self._bundle.path(self._bundle.manifest.traefik_chart)),)

    def check(self) -> None:
        bundle, (image, mesh, _) = self._bundle, self._wanted
        if image != bundle.manifest.image:
            raise BundleError(
                f"The bundle has the image {bundle.manifest.image}, and not {image}: leave IMAGE "
                "out, or make a bundle with it."
            )
        for tool in MESH_TOOLS[mesh]:
            self._check_version(tool)
        used = [bundle.node(self._architecture()).file, *(each.file for each in self._images())]
        if mesh != "none":
            used.append(contents.GATEWAY_API)
        if mesh == "linkerd":
            used.append(bundle.manifest.traefik_chart)
        print(f"Comparing {len(used)} files of {bundle.folder} with their checksums ...")
        if damaged := bundle.damaged(used):
            raise BundleError(
                f"Of the bundle {', '.join(damaged)} is missing or damaged: copy the archive "
                "again, and unpack it."
            )

    def node_image(self) -> str:
        node = self._bundle.node(self._architecture())
        self._commands.run("docker", "load", "--input", str(self._bundle.path(node.file)))
        return node.name

    def load_images(self, cluster: str) -> None:
        for each in self._images():
            archive = str(self._bundle.path(each.file))
            self._commands.run("kind", "load", "image-archive", archive, "--name", cluster)

    def _images(self) -> Sequence[Image]:
        _, mesh, is_observed = self._wanted
        return self._bundle.images(self._architecture(), mesh, is_observed=is_observed)

    def _architecture(self) -> str:
        """Docker's, which may run in a virtual machine."""
        return self._commands.output("docker", "version", "--format", "{{.Server.Arch}}").strip()

    def _check_version(self, tool: str) -> None:
        """It asks for images by its own version, and the bundle has those of one version."""
        found = self._commands.output(*VERSION_COMMANDS[tool]).strip()
        binary = self._bundle.binary(tool)
        if binary is None or found != binary.version:
            wanted = "was made without it" if binary is None else f"has that of {binary.version}"
            raise BundleError(f"{tool} is {found}, and the bundle {wanted}: {TOOLS[tool]}")


def check_version(commands: ToolCommands, tool: str) -> None:
    """Ends the program with a sentence where a mesh's tool is not of the version that is tried."""
    found, wanted = commands.output(*VERSION_COMMANDS[tool]).strip(), MESH_VERSIONS[tool]
    if not needs.is_tried_with(found, wanted):
        give_up(f"{tool} is {found}; the shop is tried with {wanted}: {TOOLS[tool]}")
