import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";

import {
  connectToSandbox,
  launchSandbox,
  LampyrError,
  removeSandbox,
  runInSandbox,
  Sandbox,
  UsageError,
} from "lampyr";

import { alive, eventually, failure, folder, fresh, LIMIT, Process, program } from "./lab.js";

const GONE = { kind: "connection_failed" };

/** The processes whose parent has this id. */
function childrenOf(parent: number): number[] {
  const numbers = readdirSync("/proc").map(Number).filter(Boolean);
  return numbers.filter((pid) => {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === parent;
    } catch {
      return false;
    }
  });
}

/** Waits until nothing of a sandbox is left. */
async function gone(name: string): Promise<void> {
  await eventually(`${name} is gone`, async () =>
    (await Sandbox.list()).every((handle) => handle.name !== name),
  );
}

const LAUNCH = `
  import { launchSandbox } from "lampyr";
  const sandbox = await launchSandbox({ name: process.env.NAME });
  const { stdout } = await sandbox.exec("echo", ["up"]);
  console.log("up");
`;

const DEATHS: [string, string, (process: { kill(signal: NodeJS.Signals): boolean }) => void][] = [
  ["comes to its end", "", () => {}],
  ["exits", "process.exit(3);", () => {}],
  ["throws", "setTimeout(() => { throw new Error('thrown'); });", () => {}],
  ["is killed", "setInterval(() => {}, 1000);", (child) => child.kill("SIGKILL")],
  ["is interrupted", "setInterval(() => {}, 1000);", (child) => child.kill("SIGINT")],
];

for (const [how, last, kill] of DEATHS) {
  test(`a process that ${how} takes its sandbox along`, LIMIT, async () => {
    const name = fresh();
    const owner = program(LAUNCH + last, { NAME: name });
    await owner.said("up");
    kill(owner.child);
    await owner.ended;
    await gone(name);
    assert.deepEqual(childrenOf(owner.child.pid!), []);
  });
}

test("a sandbox that was detached survives", LIMIT, async (t) => {
  const name = fresh();
  t.after(() => removeSandbox(name, { force: true }));
  const detach = `await sandbox.writeFile("/root/kept", "still here"); await sandbox.detach();`;
  const { code, stderr } = await program(LAUNCH + detach, { NAME: name }).ended;
  assert.deepEqual([code, stderr], [0, ""]);
  const sandbox = await connectToSandbox(name);
  assert.equal((await sandbox.shell("cat /root/kept")).stdout(), "still here");
  assert.deepEqual([sandbox.name, sandbox.ownsLifecycle], [name, false]);
  const listed = (await Sandbox.list()).find((handle) => handle.name === name);
  assert.deepEqual([listed?.id, listed?.status], [sandbox.id, "running"]);
  await assert.rejects(removeSandbox(name), failure(UsageError, /is running/));
  await removeSandbox(name, { force: true });
  await gone(name);
  await assert.rejects(connectToSandbox(name), GONE);
  await removeSandbox(name);
});

test("await using stops it, but not one that was detached or is another's", LIMIT, async (t) => {
  const [mine, kept] = [fresh(), fresh()];
  t.after(() => removeSandbox(kept, { force: true }));
  {
    await using sandbox = await launchSandbox({ name: mine });
    assert.equal(sandbox.ownsLifecycle, true);
    await using other = await launchSandbox({ name: kept });
    await other.detach();
  }
  await assert.rejects(connectToSandbox(mine), GONE);
  {
    await using again = await connectToSandbox(kept);
    assert.equal((await again.exec("true")).code, 0);
  }
  assert.equal((await Sandbox.get(kept)).status, "running");
});

test("runInSandbox returns what fn returns, and stops it when fn throws", LIMIT, async () => {
  const name = fresh();
  const code = await runInSandbox(
    { name },
    async (sandbox) => (await sandbox.shell("exit 7")).code,
  );
  assert.equal(code, 7);
  await assert.rejects(connectToSandbox(name), GONE);
  const thrown = runInSandbox({ name }, () => {
    throw new RangeError("thrown");
  });
  await assert.rejects(thrown, RangeError);
  await assert.rejects(connectToSandbox(name), GONE);
});

test("a name is taken over, or refused", LIMIT, async () => {
  const name = fresh();
  const first = await launchSandbox({ name });
  await assert.rejects(launchSandbox({ name, overwrite: false }), { status: 409 });
  await using second = await launchSandbox({ name });
  assert.notEqual(second.id, first.id);
  await assert.rejects(first.exec("true"), LampyrError);
  await first.stop();
  assert.equal((await second.exec("true")).code, 0);
});

test("resources, workdir, ports and mounts are as asked", LIMIT, async (t) => {
  const here = folder(t);
  writeFileSync(join(here, "file"), "from the host");
  const port = await freePort();
  await using sandbox = await launchSandbox({
    name: fresh(),
    resources: { cpus: 1, memory: "256M" },
    workdir: "/usr/lib",
    ports: { [port]: 8000 },
    mounts: { "/ro": { directory: here, readonly: true }, "/rw": here },
  });
  assert.deepEqual([sandbox.cpus, sandbox.memoryBytes], [1, 256 << 20]);
  const out = await sandbox.shell("pwd; nproc; cat /ro/file; touch /ro/x || echo made >/rw/made");
  assert.equal(out.stdout(), "/usr/lib\n1\nfrom the host");
  assert.equal(readFileSync(join(here, "made"), "utf8"), "made\n");
  const server = await sandbox.execStream("python3", ["-c", SERVE]);
  await server.recv();
  const client = connect(port, "127.0.0.1");
  const [said] = await once(client, "data");
  assert.equal(String(said), "hello");
  client.destroy();
  assert.equal((await server.wait()).code, 0);
});

const SERVE = `
import socket
server = socket.create_server(("127.0.0.1", 8000))
print("ready", flush=True)
server.accept()[0].sendall(b"hello")
`;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

test("a mount may be relative to this process", LIMIT, async (t) => {
  const here = folder(t);
  writeFileSync(join(here, "file"), "relative");
  const source = `
    import { runInSandbox } from "${new URL("../dist/index.js", import.meta.url)}";
    process.chdir(process.env.HERE);
    const options = { name: process.env.NAME, mounts: { "/m": "." }, verbose: true };
    const out = await runInSandbox(options, (sandbox) => sandbox.exec("cat", ["/m/file"]));
    console.log(out.stdout());
  `;
  const name = fresh();
  const { stdout, stderr } = await program(source, { HERE: here, NAME: name }).ended;
  assert.deepEqual([stdout, stderr], [`[lampyr] launching ${name}\nrelative\n`, ""]);
});

test("a server that dies is told of, and the next call has another", LIMIT, async () => {
  const name = fresh();
  const rest = `
    await new Promise((resolve) => process.stdin.once("data", resolve));
    const failed = await sandbox.exec("true").catch((error) => error);
    console.log(failed.constructor.name, failed.kind);
    const next = await launchSandbox({ name: process.env.NAME });
    console.log((await next.exec("echo", ["again"])).stdout());
    process.exit();
  `;
  const owner = program(LAUNCH + rest, { NAME: name });
  await owner.said("up");
  const [server] = childrenOf(owner.child.pid!);
  process.kill(server!, "SIGKILL");
  await eventually("the server is gone", () => !alive(server!));
  owner.child.stdin.write("\n");
  const { stdout } = await owner.ended;
  assert.match(stdout, /^up\n(ConnectionFailedError connection_failed|UsageError usage)\nagain\n/);
  await gone(name);
});

test("one whose owner died is dead until it is removed", LIMIT, async (t) => {
  const name = fresh();
  t.after(() => removeSandbox(name, { force: true }));
  const { id } = await launchSandbox({ name });
  const { stdout } = await new Process(process.env["LAMPYR_BIN"]!, ["session", "list"]).ended;
  const { pid } = JSON.parse(stdout).find(({ sid }: { sid: string }) => sid === id);
  process.kill(pid, "SIGKILL");
  await eventually("it is dead", async () => (await Sandbox.get(name)).status === "dead");
  const handle = await Sandbox.get(id);
  assert.deepEqual([handle.id, handle.name, handle.status], [id, name, "dead"]);
  await assert.rejects(handle.connect(), { status: 410 });
  await handle.remove();
  await assert.rejects(Sandbox.get(id), { status: 410 });
});

test("an error names the sandbox that is not there", LIMIT, async () => {
  const name = fresh();
  await assert.rejects(connectToSandbox(name), (error) => {
    assert(error instanceof LampyrError);
    assert.match(error.message, new RegExp(name));
    assert(error.hint);
    return true;
  });
  await assert.rejects(
    connectToSandbox("no/name"),
    failure(UsageError, /neither the id nor the name/),
  );
});
