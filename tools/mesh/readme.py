"""The README.md files of mesh/ for a shop elsewhere: their commands, rewritten for its namespace.

A command that applies, deletes or compares files of mesh/ becomes one that renders them first.
Names of the namespace, the host, the gateway and the sandbox's namespace are replaced in commands,
in blocks and within sentences. What commands print has the host replaced. Sentences and links stay.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from tools.certificate import HOST, NAMESPACE, SECRET_NAMESPACE, host_of
from tools.mesh.render import (
    ISTIOCTL,
    MESH_FOLDER,
    TRAEFIK,
    CannotRender,
    IngressGateway,
    Shop,
    gateway_of,
)

_SANDBOX_NAMESPACE = Shop().stripe_namespace
_PYTHON = ".venv/bin/python -m tools.mesh"
# A block of commands or of what they print, or a command within a sentence.
_CODE = re.compile(r"(^```(?:sh|text)\n)(.*?)(^```$)|(`)([^`\n]+)(`)", re.MULTILINE | re.DOTALL)
# A command of one line, or of several that end with a backslash, up to a comment.
_KUBECTL = re.compile(r"^kubectl (apply|delete|diff) ((?:\\\n|[^\n#|&])*)", re.MULTILINE)
_CERTIFICATE = re.compile(r"^make certificate((?: MESH=\w+)?)", re.MULTILINE)
_OF_FILES = {"-f", "-k"}


def for_shop(shop: Shop, options: Sequence[str], folder: str) -> str:
    """The README.md of a folder below mesh/istio or mesh/linkerd, for a shop.

    :param options: those of ``render`` that describe the shop.
    :raises CannotRender: there is none.
    """
    path = (MESH_FOLDER / shop.mesh / folder / "README.md").resolve()
    if not path.is_file() or not path.is_relative_to(MESH_FOLDER / shop.mesh):
        raise CannotRender(f"mesh/{shop.mesh}/{folder} has no README.md.")

    return rewritten(path.read_text(encoding="utf-8"), shop, options)


def rewritten(text: str, shop: Shop, options: Sequence[str]) -> str:
    """A text that speaks of the shop as the README.md files do, for another one."""

    def code(found: re.Match[str]) -> str:
        begin, commands, end = (each for each in found.groups() if each is not None)
        return f"{begin}{_commands(commands, shop, options)}{end}"

    return _CODE.sub(code, text)


def _commands(text: str, shop: Shop, options: Sequence[str]) -> str:
    text = _KUBECTL.sub(lambda found: _rendering(found, shop, options), text)
    text = _CERTIFICATE.sub(lambda found: f"{found[0]} ARGS={shlex.quote(_certified(shop))}", text)
    settings = "".join(f"{each}," for each in _settings(shop))
    text = re.sub(r"--set (?=mesh=(?!none))", f"--set {settings}", text)
    old = _gateway_of_the_files(shop)
    text = text.replace(HOST, shop.host)
    text = re.sub(rf"(?<=-n ){_SANDBOX_NAMESPACE}\b", shop.stripe_namespace, text)
    text = re.sub(rf"(?<=\bstripe-sandbox\.){_SANDBOX_NAMESPACE}\b", shop.stripe_namespace, text)
    text = re.sub(rf"(?<=-n ){old.namespace}\b", shop.gateway.namespace, text)
    text = re.sub(rf"(?:(?<=service/)|(?<=deployment/)){old.service}\b", shop.gateway.service, text)
    if shop.mesh == "istio":  # where a Gateway of the Gateway API has pods of its own
        theirs = gateway_of("gateway-api", NAMESPACE)
        own = gateway_of("gateway-api", shop.namespace)
        text = re.sub(rf"(?<=-n ){theirs.namespace}\b", own.namespace, text)
        text = text.replace(theirs.service, own.service)
    # Not in the name of a file, nor in a host.
    return re.sub(rf"(?<![\w./-]){NAMESPACE}(?![\w.])", shop.namespace, text)


def _rendering(found: re.Match[str], shop: Shop, options: Sequence[str]) -> str:
    """``kubectl apply -k mesh/…`` with what comes out of ``render``; other commands as they are."""
    words = shlex.split(found[2].replace("\\\n", " "))
    files: list[str] = []
    others: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        if before in _OF_FILES and word.startswith("mesh/"):
            own = word.removeprefix("mesh/").removeprefix(f"{shop.mesh}/").rstrip("/")
            files.append(own if word.startswith(f"mesh/{shop.mesh}/") else f"../{own}")
        elif word not in _OF_FILES:
            others.append(word)
    if not files:
        return found[0]
    render = shlex.join(["render", *options, *files])
    back = shlex.join([found[1], *others, "-f", "-"])
    space = " " * (len(found[0]) - len(found[0].rstrip(" ")))
    return f"{_PYTHON} {render} | kubectl {back}{space}"


def _settings(shop: Shop) -> Iterator[str]:
    """What the chart is told of a shop besides its mesh."""
    if shop.stripe_namespace != _SANDBOX_NAMESPACE:
        own = "" if shop.stripe_namespace == shop.namespace else shop.stripe_namespace
        yield f"stripe.sandbox.namespace={own}"
    gateway = shop.gateway
    if gateway != _gateway_of_the_files(shop):
        yield f"gateway.address={gateway.service}.{gateway.namespace}:443"
    if shop.host != host_of(shop.namespace):
        yield f"gateway.host={shop.host}"


def _gateway_of_the_files(shop: Shop) -> IngressGateway:
    return ISTIOCTL if shop.mesh == "istio" else TRAEFIK


def _certified(shop: Shop) -> str:
    """What `make certificate` is told of a shop."""
    named = ["--namespace", shop.namespace, "--host", shop.host]
    where = shop.gateway.namespace
    if not shop.gateway.is_gateway_api and where != SECRET_NAMESPACE[shop.mesh]:
        named += ["--gateway-namespace", where]
    return shlex.join(named)
