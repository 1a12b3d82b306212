import { exec, shell } from "./snapshots.js";
import type { PresetConfig, SnapshotResources } from "./types.js";

export type { PresetConfig } from "./types.js";

/** What of a preset can be another. */
export interface PresetOptions {
  /** The snapshot's name. */
  name?: string;
  /** The image to start from. */
  image?: string;
  /** The size of the builder, and of what is launched. */
  resources?: SnapshotResources;
  /** What is noted about the snapshot. */
  labels?: Record<string, string>;
}

/** What of {@link codingAgentsPreset} can be another. */
export type CodingAgentsPresetOptions = PresetOptions;

const AGENTS = [
  "@github/copilot",
  "@google/gemini-cli",
  "@openai/codex",
  "@earendil-works/pi-coding-agent",
];

/** Four coding agents: `copilot`, `gemini`, `codex` and `pi`. */
export function codingAgentsPreset({
  name = "lightbox",
  image = "oven/bun",
  resources = { cpus: 2, memory: "1G" },
  labels,
}: CodingAgentsPresetOptions = {}): PresetConfig {
  const install = (agent: string) => exec("bun", ["install", "-g", agent], `install ${agent}`);
  const net = ["registry.npmjs.org:443"];
  return { name, image, resources, labels, net, setup: AGENTS.map(install) };
}

/** Python with numpy and pandas, both loaded once. */
export function dataWorkPreset({
  name = "data-work",
  image = "python:3.12-slim",
  resources = { cpus: 2, memory: "1G" },
  labels,
}: PresetOptions = {}): PresetConfig {
  const net = ["pypi.org:443", "files.pythonhosted.org:443"];
  const setup = [
    shell("pip install --no-cache-dir numpy pandas", "install numpy and pandas"),
    exec("python3", ["-c", "import numpy, pandas"], "load them once"),
  ];
  return { name, image, resources, labels, net, setup };
}
