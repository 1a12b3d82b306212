import assert from "node:assert/strict";
import { test } from "node:test";

import { codingAgentsPreset, dataWorkPreset, type PresetConfig } from "lampyr/presets";

import { LIMIT } from "./lab.js";

/** All that the steps of a preset run. */
function commandsOf({ setup }: PresetConfig): string[] {
  return setup.map((step) => {
    if (typeof step === "string") return step;
    return step.kind === "shell" ? step.script : [step.cmd, ...(step.args ?? [])].join(" ");
  });
}

test("codingAgentsPreset installs four agents from one registry", LIMIT, () => {
  const config = codingAgentsPreset();
  assert.deepEqual([config.name, config.image], ["lightbox", "oven/bun"]);
  assert.deepEqual(config.resources, { cpus: 2, memory: "1G" });
  assert.equal(config.labels, undefined);
  assert.deepEqual(config.net, ["registry.npmjs.org:443"]);
  assert.deepEqual(commandsOf(config), [
    "bun install -g @github/copilot",
    "bun install -g @google/gemini-cli",
    "bun install -g @openai/codex",
    "bun install -g @earendil-works/pi-coding-agent",
  ]);
});

test("dataWorkPreset installs numpy and pandas, and loads them", LIMIT, () => {
  const config = dataWorkPreset();
  assert.deepEqual([config.name, config.image], ["data-work", "python:3.12-slim"]);
  assert.deepEqual(config.resources, { cpus: 2, memory: "1G" });
  assert.deepEqual(config.net, ["pypi.org:443", "files.pythonhosted.org:443"]);
  assert.deepEqual(commandsOf(config), [
    "pip install --no-cache-dir numpy pandas",
    "python3 -c import numpy, pandas",
  ]);
});

test("a preset can be changed, and added to, without changing the next", LIMIT, () => {
  for (const preset of [codingAgentsPreset, dataWorkPreset]) {
    const resources = { cpus: 4, memory: "4G" } as const;
    const other = { name: "n", image: "i", resources, labels: { a: "b" } };
    const config = preset(other);
    assert.deepEqual({ ...config, ...other }, config);
    config.setup.push("echo more");
    config.net?.push("example.com");
    assert.equal(preset().setup.length, config.setup.length - 1);
    assert.equal(preset().net?.includes("example.com"), false);
  }
});
