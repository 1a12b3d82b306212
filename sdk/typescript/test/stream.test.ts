import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { type ExecHandle, launchSandbox, type Sandbox, TimeoutError, UsageError } from "lampyr";

import { eventually, failure, fresh, LIMIT, Process, program, runs, skip } from "./lab.js";

let sandbox: Sandbox;

before(async () => {
  sandbox = await launchSandbox({ name: fresh() });
}, LIMIT);
after(() => sandbox.stop());

/** What a command says next, as text. */
async function next(handle: ExecHandle): Promise<string> {
  const event = await handle.recv();
  assert(event && event.kind !== "exited", "it says nothing more");
  return Buffer.from(event.data).toString();
}

test("output is heard as it comes", LIMIT, async () => {
  const handle = await sandbox.shellStream("echo one; read line; echo $line >&2; exit 4", {
    pipeStdin: true,
  });
  assert.equal(await next(handle), "one\n");
  const stdin = await handle.takeStdin();
  assert.equal(await handle.takeStdin(), null);
  await stdin?.write("two\n");
  assert.deepEqual(await handle.recv(), { kind: "stderr", data: Buffer.from("two\n") });
  assert.deepEqual(await handle.recv(), { kind: "exited", code: 4 });
  assert.equal(await handle.recv(), null);
  assert.deepEqual(await handle.wait(), { code: 4, success: false });
});

test("a command is heard with for await, and ended by leaving it", LIMIT, async () => {
  const word = fresh("left");
  const handle = await sandbox.shellStream(`while echo ${word}; do sleep 0.01; done`);
  for await (const event of handle) {
    assert.equal(event.kind, "stdout");
    assert(await runs(sandbox, word));
    break;
  }
  await assert.rejects(handle.wait(), failure(UsageError, /left/));
  await assert.rejects(handle.collect(), failure(UsageError, /left/));
  await eventually("the command is gone", async () => !(await runs(sandbox, word)));
});

test("a command that nobody hears waits, and all that it said is there", LIMIT, async () => {
  const handle = await sandbox.execStream("head", ["-c", "10000000", "/dev/zero"]);
  let length = 0;
  for await (const event of handle) if (event.kind !== "exited") length += event.data.length;
  assert.equal(length, 10_000_000);
});

test("collect keeps what is said, and what was said before a failure", LIMIT, async () => {
  const handle = await sandbox.shellStream("cat; echo done >&2", { stdin: "input" });
  const out = await handle.collect();
  assert.deepEqual([out.code, out.stdout(), out.stderr()], [0, "input", "done\n"]);
  const slow = await sandbox.shellStream("echo partial; sleep 600", { timeout: 1500 });
  await assert.rejects(slow.collect(), (error) => {
    failure(TimeoutError, /longer than/)(error);
    assert.equal((error as TimeoutError).stdout(), "partial\n");
    return true;
  });
});

const TRAP = `
import signal, sys
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(print("got") or 5))
print("ready", flush=True)
signal.pause()
`;

test("signals reach the command", LIMIT, async () => {
  const trap = await sandbox.execStream("python3", ["-c", TRAP]);
  assert.equal(await next(trap), "ready\n");
  await trap.signal(10);
  assert.equal(await next(trap), "got\n");
  assert.equal((await trap.wait()).code, 5);
  const sleep = await sandbox.execStream("sleep", ["600"]);
  await sleep.kill();
  assert.equal((await sleep.wait()).code, 128 + 9);
});

test("an AbortSignal, or the end of a scope, ends it", LIMIT, async () => {
  const word = fresh("scope");
  const abort = new AbortController();
  const handle = await sandbox.shellStream(`echo on; sleep 600; : ${word}`, {
    signal: abort.signal,
  });
  assert.equal(await next(handle), "on\n");
  abort.abort(new RangeError("enough"));
  await assert.rejects(handle.wait(), RangeError);
  await eventually("the first is gone", async () => !(await runs(sandbox, word)));
  {
    await using second = await sandbox.shellStream(`echo on; sleep 600; : ${word}`);
    assert.equal(await next(second), "on\n");
  }
  await eventually("the second is gone", async () => !(await runs(sandbox, word)));
});

test("a terminal has the size that it is given", LIMIT, async () => {
  const script = "trap 'stty size; exit 0' WINCH; stty size; while :; do sleep 0.02; done";
  const handle = await sandbox.shellStream(script, { tty: { rows: 30, columns: 100 } });
  assert.equal((await next(handle)).trim(), "30 100");
  await handle.resize(40, 120);
  assert.match((await handle.collect()).stdout(), /40 120/);
});

test("what makes no sense is refused", LIMIT, async () => {
  const handle = await sandbox.shellStream("true", { cwd: "relative" });
  await assert.rejects(handle.wait(), failure(UsageError, /absolute/));
});

const ATTACH = `
  import { connectToSandbox } from "lampyr";
  const sandbox = await connectToSandbox(process.env.SANDBOX);
  process.exitCode = await sandbox.attachShell();
`;

test("attachShell gives a shell what is typed", LIMIT, async () => {
  const attached = program(ATTACH, { SANDBOX: sandbox.id });
  attached.child.stdin.write("echo $((6*7)) > /tmp/typed; test -t 0 && exit 9\n");
  const { code, stderr } = await attached.ended;
  assert.deepEqual([code, stderr], [9, ""]);
  assert.equal((await sandbox.exec("cat", ["/tmp/typed"])).stdout(), "42\n");
});

test("attachShell leaves a terminal as it was", LIMIT, async (t) => {
  if (process.platform !== "linux") return skip(t, "it needs script of util-linux");
  const node = `${process.execPath} --input-type=module --eval "$ATTACH"`;
  const script = `stty rows 33 columns 99; stty -g; ${node}; echo code $?; stty -g`;
  const env = { ...process.env, ATTACH, SANDBOX: sandbox.id, SHELL: "/bin/sh" };
  const terminal = new Process("script", ["-qec", script, "/dev/null"], undefined, env);
  terminal.child.stdin.write("stty size; exit 6\n");
  await terminal.said("code 6");
  terminal.child.stdin.end();
  const { stdout } = await terminal.ended;
  assert.match(stdout, /33 99/);
  const [before, afterwards] = stdout.match(/^[0-9a-f]+(:[0-9a-f]+){10,}/gm) ?? [];
  assert(before);
  assert.equal(afterwards, before);
});
