import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { folder, fresh, LIMIT, Process, ROOT } from "./lab.js";

const PROGRAM = `
  import { runInSandbox, type ExecOutput, type SnapshotConfig } from "lampyr";
  import { codingAgentsPreset } from "lampyr/presets";

  const config: SnapshotConfig = codingAgentsPreset();
  const name: string = process.env["NAME"] ?? "";
  const out: ExecOutput = await runInSandbox({ name }, (sandbox) => sandbox.exec("echo", [config.name]));
  console.log(out.stdout().trim());
`;

async function run(here: string, program: string, ...args: string[]): Promise<string> {
  const env = { ...process.env, NAME: fresh() };
  const { code, stdout, stderr } = await new Process(program, args, here, env).ended;
  assert.equal(code, 0, `${program} ${args.join(" ")}: ${stdout}${stderr}`);
  return stdout;
}

test("the package installs into an empty directory, with its types, and runs", LIMIT, async (t) => {
  const here = folder(t);
  // It is built already; a second build would take it from under other tests.
  const packed = await run(
    ROOT,
    "npm",
    "pack",
    "--json",
    "--ignore-scripts",
    "--pack-destination",
    here,
  );
  const [{ filename, files }] = JSON.parse(packed);
  const paths: string[] = files.map((file: { path: string }) => file.path);
  const strangers = paths.filter(
    (path) => !/^(dist\/\w+(\.d\.ts|\.js)|README\.md|package\.json)$/.test(path),
  );
  assert.deepEqual(strangers, []);
  writeFileSync(join(here, "package.json"), '{ "type": "module" }');
  writeFileSync(join(here, "program.ts"), PROGRAM);
  await run(here, "npm", "install", "--offline", "--no-audit", "--no-fund", `./${filename}`);
  const modules = join(ROOT, "node_modules");
  const types = ["--types", "node", "--typeRoots", join(modules, "@types")];
  const strict = ["--strict", "--module", "nodenext", "--target", "es2022", ...types];
  await run(here, join(modules, ".bin/tsc"), ...strict, "program.ts");
  assert.equal(await run(here, process.execPath, "program.js"), "lightbox\n");
});
