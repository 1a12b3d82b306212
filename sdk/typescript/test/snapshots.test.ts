import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import {
  connectToSandbox,
  launchSandbox,
  listSnapshots,
  removeSandbox,
  removeSnapshot,
  runInSandbox,
  type Sandbox,
  snapshotExists,
  UsageError,
} from "lampyr";

import { failure, folder, fresh, LIMIT, Process, program, ROOT } from "./lab.js";

const DIST = new URL("../dist/index.js", import.meta.url);

const base = fresh("base");

before(async () => {
  const resources = { cpus: 1, memory: "256M" } as const;
  await runInSandbox({ name: fresh(), resources }, async (sandbox) => {
    await sandbox.shell("mkdir /work && echo baked > /work/file");
    await sandbox.snapshot(base, { labels: { team: "a" } });
  });
}, LIMIT);
after(() => removeSnapshot(base, { force: true }));

test("launches differ from each other, and the snapshot stays as it was", LIMIT, async () => {
  await using one = await launchSandbox({ snapshot: base, name: fresh() });
  await using two = await launchSandbox({ snapshot: base, name: fresh() });
  const random = (sandbox: Sandbox) => sandbox.shell("head -c 16 /dev/urandom | od -An -tx1");
  const [a, b] = await Promise.all([random(one), random(two)]);
  assert.notEqual(a.stdout(), b.stdout());
  await one.shell("rm -r /work");
  assert.equal((await two.exec("cat", ["/work/file"])).stdout(), "baked\n");
});

test("a snapshot is listed with what is known of it", LIMIT, async () => {
  assert.equal(await snapshotExists(base), true);
  assert.equal(await snapshotExists(fresh("nope")), false);
  const record = (await listSnapshots()).find((snapshot) => snapshot.name === base);
  assert(record);
  assert.match(record.digest, /^sha256:[0-9a-f]{64}$/);
  assert.equal(record.imageRef, "default");
  assert.deepEqual([record.cpus, record.memoryBytes], [1, 256 << 20]);
  assert.deepEqual(record.labels, { team: "a" });
  assert(Math.abs(Date.now() - record.createdAt.getTime()) < 600_000);
  assert(record.sizeBytes >= record.ownBytes && record.ownBytes > 0n);
});

test("what makes no sense is refused", LIMIT, async () => {
  const missing = launchSandbox({ snapshot: fresh("nope"), name: fresh() });
  await assert.rejects(missing, { status: 404 });
  const name = fresh();
  const larger = launchSandbox({ snapshot: base, name, resources: { memory: "512M" } });
  await assert.rejects(larger, failure(UsageError, /memory/));
});

test("a sandbox goes on after its snapshot, which has its memory, too", LIMIT, async (t) => {
  const [name, second] = [fresh("taken"), fresh("taken")];
  t.after(() => removeSnapshot(name, { force: true }));
  await using sandbox = await launchSandbox({ snapshot: base, name: fresh() });
  await sandbox.shell("echo in memory > /dev/shm/file");
  const taken = await sandbox.snapshot(name, { labels: { by: "hand" } });
  assert(taken.pauseMs >= 0);
  assert.deepEqual([taken.name, taken.labels, taken.parent?.name], [name, { by: "hand" }, base]);
  await sandbox.shell("echo later > /dev/shm/file");
  await using launched = await launchSandbox({ snapshot: name, name: fresh() });
  assert.equal((await launched.exec("cat", ["/dev/shm/file"])).stdout(), "in memory\n");
  await assert.rejects(
    sandbox.snapshot(name, { overwrite: false }),
    failure(UsageError, /already/),
  );
  await launched.snapshot(second);
  await launched.stop();
  await assert.rejects(removeSnapshot(name), failure(UsageError, new RegExp(second)));
  await removeSnapshot(name, { force: true });
  assert.equal(await snapshotExists(second), false);
  await removeSnapshot(name);
});

test("forks go on from where the sandbox is, each by itself", LIMIT, async () => {
  await using sandbox = await launchSandbox({ snapshot: base, name: fresh() });
  await sandbox.shell("echo before > /dev/shm/file");
  const forks = await sandbox.fork(2);
  assert.equal(forks.length, 2);
  await sandbox.shell("echo after > /dev/shm/file");
  const say = "cat /dev/shm/file; hostname; cat /proc/sys/kernel/random/uuid";
  const said = await Promise.all([sandbox, ...forks].map((each) => each.shell(say)));
  const lines = said.map((out) => out.stdout().trim().split("\n"));
  assert.deepEqual(
    lines.map(([file]) => file),
    ["after", "before", "before"],
  );
  assert.equal(new Set(lines.map(([, host]) => host)).size, 3);
  assert.equal(new Set(lines.map(([, , uuid]) => uuid)).size, 3);
  assert(forks.every((fork) => fork.ownsLifecycle && fork.id !== sandbox.id));
  await Promise.all(forks.map((fork) => fork.stop()));
});

test("one with secrets is copied only if that is said", LIMIT, async (t) => {
  const [source, name] = [fresh("secret"), fresh("taken")];
  t.after(() => removeSandbox(source, { force: true }));
  t.after(() => removeSnapshot(name, { force: true }));
  const start = ["session", "start", "--name", source, "--cpus", "1", "--memory", "256M"];
  const open = ["--net", "allow=a.example:443", "--secret", "TOKEN@a.example"];
  const env = { ...process.env, TOKEN: "a hushed value" };
  const started = await new Process(process.env["LAMPYR_BIN"]!, [...start, ...open], ROOT, env)
    .ended;
  assert.equal(started.code, 0, started.stderr);
  const sandbox = await connectToSandbox(source);
  await assert.rejects(sandbox.snapshot(name), { kind: "usage", status: 409 });
  assert.equal((await sandbox.snapshot(name, { withSecrets: true })).name, name);
  await assert.rejects(sandbox.fork(), { kind: "usage", status: 409 });
  const [fork] = await sandbox.fork(1, { withSecrets: true });
  await fork!.kill();
});

test("a snapshot that is damaged is there, and says so", LIMIT, async (t) => {
  const [name, digest] = [fresh("damaged"), `sha256:${"0".repeat(64)}`];
  const home = folder(t);
  const snapshots = join(home, "snapshots");
  mkdirSync(snapshots, { recursive: true });
  const manifest = { mediaType: "application/vnd.oci.image.manifest.v1+json", digest, size: 1 };
  const annotations = { "org.opencontainers.image.ref.name": name };
  const index = { schemaVersion: 2, manifests: [{ ...manifest, annotations }] };
  writeFileSync(join(snapshots, "index.json"), JSON.stringify(index));
  const source = `
    import { listSnapshots, removeSnapshot, snapshotExists } from "${DIST}";
    const [{ name, damaged }] = await listSnapshots();
    console.log(name, damaged, await snapshotExists(name));
    await removeSnapshot(name);
    console.log(await snapshotExists(name));
    process.exit();
  `;
  const { stdout, stderr } = await program(source, { LAMPYR_HOME: home }).ended;
  assert.match(stdout, new RegExp(`^${name} the snapshot is damaged: .* true\nfalse\n$`), stderr);
});

test("a sandbox takes back what a command did", LIMIT, async () => {
  await using sandbox = await launchSandbox({ snapshot: base, name: fresh(), checkpoints: 4 });
  await sandbox.shell("echo kept > /root/file");
  await sandbox.shell("rm -rf /root/* /usr/bin");
  const log = await sandbox.log();
  assert(log.some(({ command }) => command.includes("rm -rf")));
  const { undoneTo, pauseMs } = await sandbox.undo();
  assert(pauseMs >= 0 && log.some(({ index }) => index === undoneTo));
  assert.equal((await sandbox.shell("cat /root/file; ls /usr/bin | wc -l")).code, 0);
  const [first] = await sandbox.log();
  assert(first && first.at instanceof Date);
  await sandbox.undo(first.index);
  assert.equal((await sandbox.exec("test", ["-e", "/root/file"])).code, 1);
});
