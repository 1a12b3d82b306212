import assert from "node:assert/strict";
import { chmodSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";

import { ensureRuntime, LampyrError, UsageError } from "lampyr";

import { failure, folder, fresh, LIMIT, program } from "./lab.js";

const SAY = `
  import { ensureRuntime } from "lampyr";
  const said = await ensureRuntime({ bin: process.env.BIN }).then(
    ({ version }) => version,
    ({ name, kind, message, hint }) => [name, kind, message, hint].join("|"),
  );
  console.log(said);
`;

async function said(env: NodeJS.ProcessEnv): Promise<string> {
  const { stdout, stderr, code } = await program(SAY, env).ended;
  assert.deepEqual([code, stderr], [0, ""]);
  return stdout.trim();
}

test("the program is found by option, by LAMPYR_BIN, and on the PATH", LIMIT, async () => {
  const { version } = await ensureRuntime();
  assert.match(version, /^\d+\.\d+\.\d+/);
  const bin = process.env["LAMPYR_BIN"];
  assert(bin, "LAMPYR_BIN says what to test");
  assert.equal(await said({ BIN: bin, LAMPYR_BIN: "/nonexistent" }), version);
  assert.equal(await said({ LAMPYR_BIN: bin }), version);
  const PATH = `/nonexistent:${dirname(bin)}`;
  assert.equal(await said({ LAMPYR_BIN: "", PATH }), version);
});

test("a program that is missing, or is another, is told of", LIMIT, async (t) => {
  assert.match(
    await said({ LAMPYR_BIN: "", PATH: "/nonexistent" }),
    /^ConnectionFailedError\|connection_failed\|there is no program lampyr on the PATH\|.*LAMPYR_BIN/,
  );
  assert.match(await said({ LAMPYR_BIN: "/etc/passwd" }), /\/etc\/passwd is no program/);
  const other = join(folder(t), "lampyr");
  writeFileSync(other, "#!/bin/sh\necho 'no, thanks' >&2\nexit 1\n");
  chmodSync(other, 0o755);
  assert.match(await said({ LAMPYR_BIN: other }), /ended as it was started\|no, thanks$/);
  writeFileSync(other, "#!/bin/sh\necho hello\nexec sleep 600\n");
  assert.match(await said({ LAMPYR_BIN: other }), /is another program than lampyr/);
});

test("one process has one lampyr", LIMIT, async () => {
  await ensureRuntime();
  await assert.rejects(ensureRuntime({ home: "/nonexistent" }), failure(UsageError, /another/));
});

test("a process ends although its server runs", LIMIT, async () => {
  const { code, stdout } = await program(`
    import { listVolumes } from "lampyr";
    await listVolumes();
    console.log("listed");
  `).ended;
  assert.deepEqual([code, stdout], [0, "listed\n"]);
  const unheard = await program(
    `
    import { launchSandbox } from "lampyr";
    const sandbox = await launchSandbox({ name: process.env.NAME });
    await sandbox.shellStream("echo said; sleep 600");
    console.log("started");
  `,
    { NAME: fresh() },
  ).ended;
  assert.deepEqual([unheard.code, unheard.stdout], [0, "started\n"]);
});

test("errors are errors, and have a class for each kind", LIMIT, () => {
  const error = new UsageError("no", { hint: "yes", cause: 1 });
  assert(error instanceof LampyrError && error instanceof Error);
  assert.deepEqual(
    [error.name, error.kind, error.message, error.hint, error.cause, error.stdout()],
    ["UsageError", "usage", "no", "yes", 1, ""],
  );
});
