/** The calls that lightbox's documentation shows, in its order and with its options. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test, type TestContext } from "node:test";

import {
  buildSnapshot,
  connectToSandbox,
  defineSnapshot,
  ensureVolume,
  launchSandbox,
  listSnapshots,
  listVolumes,
  removeSandbox,
  removeSnapshot,
  removeVolume,
  runInSandbox,
  Sandbox,
  SetupError,
  snapshotExists,
  UsageError,
  volumeExists,
} from "lampyr";

import { failure, fresh, skip } from "./lab.js";
import { lacking, registry } from "./registry.js";

const LIMIT = { timeout: 240_000 };
/** An image of a name that no other test pulls. */
const REPOSITORY = `library/${fresh("node")}`;
const IMAGE = `${REPOSITORY.split("/")[1]}:22`;
const ci = fresh("node-ci");
const cache = fresh("npm-cache");
const why = lacking();
const dir = mkdtempSync(join(tmpdir(), "lampyr-ts-"));
const project = join(dir, "my-project");

/** A test of these calls, skipped where there is no registry to be had. */
function shown(what: string, body: (test: TestContext) => Promise<void>): void {
  test(what, LIMIT, (t) => (why ? skip(t, why) : body(t)));
}

before(async () => {
  if (why) return;
  const { host, stop } = await registry(dir, [`${REPOSITORY}:22`]);
  after(stop);
  process.env["LAMPYR_REGISTRY_MIRRORS"] = `docker.io=${host}`;
  mkdirSync(project);
  const own = { name: "p", version: "1.0.0" };
  writeFileSync(join(project, "package.json"), JSON.stringify({ ...own, scripts: { test: "pwd" } }));
  const lock = { ...own, lockfileVersion: 3, requires: true, packages: { "": own } };
  writeFileSync(join(project, "package-lock.json"), JSON.stringify(lock));
  const config = defineSnapshot({
    name: ci,
    image: IMAGE,
    resources: { cpus: 2, memory: "512M" },
    workdir: "/work",
    env: { CI: "true" },
    setup: [
      { kind: "shell", description: "make workspace", script: "mkdir -p /work" },
      "test $CI = true && node --version > version",
      { kind: "exec", cmd: "npm", args: ["--version"] },
    ],
    labels: { team: "platform", purpose: "ci" },
  });
  await buildSnapshot(config);
}, LIMIT);

after(async () => {
  rmSync(dir, { recursive: true });
  if (why) return;
  await removeSnapshot(ci, { force: true });
  await removeVolume(cache);
  spawnSync(process.env["LAMPYR_BIN"] ?? "lampyr", ["images", "rm", IMAGE], { timeout: 60_000 });
}, LIMIT);

shown("a built snapshot is listed, with its labels and its image", async () => {
  const record = (await listSnapshots()).find(({ name }) => name === ci);
  assert.deepEqual(record?.labels, { team: "platform", purpose: "ci" });
  assert.match(record?.imageRef ?? "", new RegExp(IMAGE));
  assert(await snapshotExists(ci));
  const again = buildSnapshot({ name: ci, image: IMAGE }, { overwrite: false });
  await assert.rejects(again, failure(UsageError, /already/));
});

shown("run and teardown: what the callback returns, and nothing left", async () => {
  const name = fresh("ephemeral");
  const versions = await runInSandbox({ snapshot: ci, name }, async (sb) => {
    const out = await sb.shell("cat /work/version && node --version && npm --version | head -1");
    return out.stdout().trim().split("\n");
  });
  assert.equal(versions.length, 3);
  assert.equal(versions[0], versions[1]);
  assert(!(await Sandbox.list()).some((handle) => handle.name === name));
  const thrown = runInSandbox({ snapshot: ci, name }, () => Promise.reject(new Error("mine")));
  await assert.rejects(thrown, /mine/);
  assert(!(await Sandbox.list()).some((handle) => handle.name === name));
});

shown("a project is mounted, and three jobs share a cache at once", async () => {
  const base = { snapshot: ci, workdir: "/work" };
  const one = await runInSandbox(
    { ...base, name: fresh("test-run"), mounts: { "/work": project } },
    (sb) => sb.shell("npm test"),
  );
  assert.match(one.stdout(), /^\/work$/m);
  const quota = { quotaMib: 4096, labels: { team: "platform", purpose: "ci-cache" } };
  await ensureVolume(cache, quota);
  await ensureVolume(cache);
  const mounts = { "/work": project, "/root/.npm": { volume: cache } };
  const jobs = ["1", "2", "3"].map(async (job) => {
    const sb = await launchSandbox({ ...base, name: fresh(`job-${job}`), mounts });
    const { code } = await sb.shell("npm ci && npm test && test -d /root/.npm/_logs");
    await sb.stop();
    return code;
  });
  assert.deepEqual(await Promise.all(jobs), [0, 0, 0]);
  const volume = (await listVolumes()).find(({ name }) => name === cache);
  assert.deepEqual([volume?.quotaMib, volume?.labels], [4096, quota.labels]);
  await removeVolume(cache);
  assert.equal(await volumeExists(cache), false);
});

shown("what was detached is found by name, driven, and removed", async (t) => {
  const name = fresh("agent");
  t.after(() => removeSandbox(name, { force: true }));
  const sandbox = await launchSandbox({ snapshot: ci, name, ports: {} });
  await sandbox.detach();
  const sb = await connectToSandbox(name);
  const out = await sb.exec("python3", ["-c", "import sys; print(sys.version)"]);
  assert.deepEqual([out.code, out.success, out.stderr()], [0, true, ""]);
  const events: string[] = [];
  for await (const event of await sb.shellStream("echo out; exit 3")) {
    events.push(event.kind === "exited" ? `${event.code}` : `${event.kind} ${event.data}`);
  }
  assert.deepEqual(events, ["stdout out\n", "3"]);
  assert((await Sandbox.list()).some((h) => h.name === name && h.status === "running"));
  await assert.rejects(removeSandbox(name), failure(UsageError, /running/));
  await (await Sandbox.get(name)).stop();
  await removeSandbox(name);
});

shown("a builder that failed can be looked into", async (t) => {
  const name = fresh("debug");
  t.after(() => removeSandbox(`${name}-builder`, { force: true }));
  const config = { name, image: IMAGE, setup: ["echo half > /half", "exit 7"] };
  await assert.rejects(buildSnapshot(config, { debugBuilder: true }), failure(SetupError, /7/));
  const builder = await connectToSandbox(`${name}-builder`);
  assert.equal((await builder.shell("cat /half")).stdout(), "half\n");
});

shown("on purpose otherwise: a snapshot has its size, and a builder no network", async () => {
  const resources = { cpus: 2, memory: "2G" } as const;
  const larger = launchSandbox({ snapshot: ci, name: fresh(), resources });
  await assert.rejects(larger, failure(UsageError, /memory/));
  const config = { name: fresh("sealed"), image: IMAGE, setup: ["npm i -g pnpm@9 --fetch-retries=0"] };
  await assert.rejects(buildSnapshot(config), (error) => {
    failure(SetupError, /failed with exit code/)(error);
    assert.match((error as SetupError).hint ?? "", /`net`/);
    return true;
  });
});
