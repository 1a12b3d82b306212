import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";

import { Sandbox } from "lampyr";

import { eventually, fresh, LIMIT, Process, skip } from "./lab.js";

const PROGRAM = `
  import { launchSandbox, TimeoutError } from "lampyr";
  const sandbox = await launchSandbox({ name: process.env.NAME });
  console.log((await sandbox.exec("wc", ["-c"], { stdin: new Uint8Array(3000000) })).stdout().trim());
  for await (const event of await sandbox.shellStream("cat; exit 3", { stdin: "streamed" })) {
    console.log(event.kind, event.code ?? Buffer.from(event.data).toString());
  }
  await sandbox.writeFile("/root/file", "written");
  console.log(await sandbox.fs().readToString("/root/file"));
  await sandbox.shell("sleep 600", { timeout: 200 }).catch((error) => console.log(error instanceof TimeoutError));
  await sandbox.shell("sleep 600", { signal: AbortSignal.timeout(200) }).catch((error) => console.log(error.name));
`;

test("Bun does the same, and takes its sandbox along", LIMIT, async (t) => {
  if (spawnSync("bun", ["--version"]).error) return skip(t, "there is no bun");
  const name = fresh("bun");
  const env = { ...process.env, NAME: name };
  const { code, stdout, stderr } = await new Process("bun", ["-e", PROGRAM], undefined, env).ended;
  assert.deepEqual([code, stderr], [0, ""]);
  assert.equal(stdout, "3000000\nstdout streamed\nexited 3\nwritten\ntrue\nTimeoutError\n");
  await eventually("it is gone", async () =>
    (await Sandbox.list()).every((each) => each.name !== name),
  );
});
