import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import {
  buildSnapshot,
  defineSnapshot,
  exec,
  listSnapshots,
  removeSandbox,
  removeSnapshot,
  runInSandbox,
  Sandbox,
  SetupError,
  shell,
  UsageError,
} from "lampyr";

import { failure, fresh, LIMIT, program } from "./lab.js";

const base = fresh("base");

before(async () => {
  await buildSnapshot({
    name: base,
    image: "default",
    resources: { cpus: 1, memory: "256M" },
    workdir: "/usr",
    env: { WORD: "baked" },
    setup: [
      "mkdir -p /work",
      shell("test $(pwd) = /usr && echo $WORD > /work/file", "write a file"),
      exec("cp", ["/work/file", "/work/with space"]),
      { kind: "shell", script: "sleep 600 > /dev/null 2>&1 &" },
    ],
    labels: { team: "a" },
  });
}, LIMIT);
after(() => removeSnapshot(base, { force: true }));

test("defineSnapshot gives what it is given, with its type", LIMIT, () => {
  const config = { name: "n", image: "i", setup: [shell("true"), exec("true", ["a"], "d")] };
  const defined = defineSnapshot(config);
  assert.equal(defined, config);
  assert.deepEqual(defined.setup[1], { kind: "exec", cmd: "true", args: ["a"], description: "d" });
});

test("what was baked is there, and runs", LIMIT, async () => {
  const name = fresh();
  const out = await runInSandbox({ snapshot: base, name }, async (sandbox) => {
    assert.deepEqual([sandbox.cpus, sandbox.memoryBytes], [1, 256 << 20]);
    return sandbox.shell('cat /work/file "/work/with space"; echo WORD=$WORD; pidof sleep >&2');
  });
  assert.equal(out.stdout(), "baked\nbaked\nWORD=\n");
  assert.equal(out.code, 0);
  assert.match(out.stderr(), /^\d+\n$/);
});

test("a build is told of where verbose asks for it", LIMIT, async (t) => {
  const name = fresh("verbose");
  t.after(() => removeSnapshot(name));
  const source = `
    import { buildSnapshot } from "lampyr";
    const setup = [{ kind: "shell", script: "echo said; echo err >&2", description: "say" }];
    const resources = { cpus: 1, memory: "256M" };
    const config = { name: process.env.NAME, image: "default", resources, setup };
    await buildSnapshot(config, { verbose: true });
    await buildSnapshot(config);
  `;
  const { code, stdout, stderr } = await program(source, { NAME: name }).ended;
  assert.deepEqual([code, stdout, stderr], [0, "[lampyr] 1/1 say\nsaid\n", "err\n"]);
});

test("a step that fails is named, and leaves what was there", LIMIT, async (t) => {
  const name = fresh("failing");
  t.after(() => removeSnapshot(name));
  const config = { name, image: "default", resources: { cpus: 1, memory: "256M" as const } };
  const first = await buildSnapshot({ ...config, setup: ["echo one > /one"] });
  const setup = ["echo two > /one", shell("echo why; exit 3", "the second step")];
  await assert.rejects(buildSnapshot({ ...config, setup }), (error) => {
    failure(SetupError, /the second step/)(error);
    const { step, output, kind } = error as SetupError;
    assert.deepEqual([step, output, kind], [2, "why\n", "connection_failed"]);
    return true;
  });
  const kept = (await listSnapshots()).find((snapshot) => snapshot.name === name);
  assert.equal(kept?.digest, first.digest);
  const builders = (await Sandbox.list()).filter((sandbox) => sandbox.name === `${name}-builder`);
  assert.deepEqual(builders, []);
});

test("debugBuilder keeps the builder, overwrite: false an earlier snapshot", LIMIT, async (t) => {
  const name = fresh("debug");
  t.after(() => removeSnapshot(name));
  t.after(() => removeSandbox(`${name}-builder`, { force: true }));
  const resources = { cpus: 1, memory: "256M" as const };
  const config = { name, image: "default", resources, setup: ["echo built > /built"] };
  await buildSnapshot(config, { debugBuilder: true });
  const builder = await Sandbox.connect(`${name}-builder`);
  assert.equal((await builder.exec("cat", ["/built"])).stdout(), "built\n");
  await assert.rejects(buildSnapshot(config, { overwrite: false }), failure(UsageError, /already/));
});

test("a step may make the directory that the others run in", LIMIT, async (t) => {
  const name = fresh("workdir");
  t.after(() => removeSnapshot(name));
  const resources = { cpus: 1, memory: "256M" } as const;
  const setup = ["mkdir -p /made/here", "test $(pwd) = /made/here"];
  await buildSnapshot({ name, image: "default", resources, workdir: "/made/here", setup });
});

test("an unknown key is refused", LIMIT, async () => {
  const typo = { name: fresh(), image: "default", steup: [] };
  await assert.rejects(buildSnapshot(typo), failure(UsageError, /steup/));
});
