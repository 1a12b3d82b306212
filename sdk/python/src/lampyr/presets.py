"""Snapshots that are of use as they are. Building one needs a network, of which
it is given the registries that it names and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from .config import Resources, SnapshotConfig, exec_

AGENTS = (
    "@github/copilot",
    "@google/gemini-cli",
    "@openai/codex",
    "@earendil-works/pi-coding-agent",
)
DATA = ("numpy", "pandas")


def coding_agents_preset(
    name: str = "lightbox",
    image: str = "oven/bun",
    resources: Resources | None = None,
    labels: Mapping[str, str] | None = None,
) -> SnapshotConfig:
    """Coding agents, installed with bun: Copilot, Gemini, Codex and pi.

    Two processors and 1G of memory, unless `resources` say otherwise.
    """
    return SnapshotConfig(
        name=name,
        image=image,
        resources=resources or Resources(cpus=2, memory="1G"),
        setup=[
            exec_("bun", ["install", "--global", agent], description=f"Install {agent}")
            for agent in AGENTS
        ],
        labels=labels,
        net=["registry.npmjs.org:443"],
    )


def data_work_preset(
    name: str = "data-work",
    image: str = "python:3.12-slim",
    resources: Resources | None = None,
    labels: Mapping[str, str] | None = None,
) -> SnapshotConfig:
    """Python for work with data: numpy and pandas, installed with pip and loaded
    once.

    Two processors and 1G of memory, unless `resources` say otherwise.
    """
    return SnapshotConfig(
        name=name,
        image=image,
        resources=resources or Resources(cpus=2, memory="1G"),
        setup=[
            exec_("pip", ["install", "--no-cache-dir", *DATA], "Install " + " and ".join(DATA)),
            exec_("python3", ["-c", "import " + ", ".join(DATA)], "Load them once"),
        ],
        labels=labels,
        net=["pypi.org:443", "files.pythonhosted.org:443"],
    )
