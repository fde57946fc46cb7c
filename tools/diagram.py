"""Draws the call graph of topology.yaml as Mermaid into docs/architecture.md; with --check says
whether it is up to date.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from services.common.topology import Topology, load_topology
from tools.derived import written

PAGE = Path(__file__).resolve().parent.parent / "docs" / "architecture.md"
BEGIN = "<!-- topology: made by `make diagram` -->\n"
END = "<!-- end of topology -->\n"


def diagram(topology: Topology) -> str:
    """The graph: solid arrows are HTTP, dashed ones gRPC; a thick box keeps a database."""
    lines = ["```mermaid", "flowchart LR"]
    for name, service in topology.services.items():
        lines.append(f"    {name}[({name})]" if service.database else f"    {name}[{name}]")
    lines.append("    people([people]) --> frontend")
    for name, service in topology.services.items():
        for edge in service.calls:
            if edge.http:
                lines.append(f"    {name} --> {edge.callee}")
            if edge.grpc:
                lines.append(f"    {name} -.-> {edge.callee}")
        lines.extend(
            f"    {name} --> {other.name}{{{{{other.name}}}}}" for other in service.external
        )
    return "\n".join([*lines, "```", ""])


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        print(
            f"{PAGE.name}: the lines {BEGIN.strip()} and {END.strip()} are missing", file=sys.stderr
        )
        return 1
    wanted = before + begin + diagram(load_topology()) + end + after
    return written({PAGE: wanted}, "diagram", is_check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
