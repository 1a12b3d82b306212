import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";

import { launchSandbox, type Sandbox, TimeoutError, UsageError } from "lampyr";

import { eventually, failure, fresh, LIMIT, runs } from "./lab.js";

let sandbox: Sandbox;

before(async () => {
  sandbox = await launchSandbox({ name: fresh(), env: { FROM: "launch", OVER: "launch" } });
}, LIMIT);
after(() => sandbox.stop());

test(
  "a program has its arguments as they are, and its streams and code are told",
  LIMIT,
  async () => {
    const script = 'printf "%s|" "$@"; echo no >&2; exit 3';
    const out = await sandbox.exec("sh", ["-c", script, "sh", "a b", "$HOME", ""]);
    assert.equal(out.stdout(), "a b|$HOME||");
    assert.equal(out.stderr(), "no\n");
    assert.deepEqual([out.code, out.success, out.truncated], [3, false, false]);
    assert(out.durationMs >= 0 && typeof out.meta["cpu_ms"] === "number");
  },
);

test("a script is for the shell", LIMIT, async () => {
  const out = await sandbox.shell("echo one two | wc -w && kill -TERM $$");
  assert.equal(out.stdout().trim(), "2");
  assert.equal(out.code, 128 + 15);
  assert.equal((await sandbox.shell("true")).success, true);
});

test("env, cwd and user are the command's", LIMIT, async () => {
  const options = { env: { OVER: "exec" }, cwd: "/usr", user: "nobody" };
  const out = await sandbox.shell("echo $FROM $OVER $(pwd) $(id -un)", options);
  assert.equal(out.stdout(), "launch exec /usr nobody\n");
});

test("bytes come through as they are, both ways", LIMIT, async () => {
  const bytes = randomBytes(100_000);
  const out = await sandbox.shell("tee /dev/stderr", { stdin: bytes });
  assert.deepEqual(out.stdoutBytes(), bytes);
  assert.deepEqual(out.stderrBytes(), bytes);
  assert.equal((await sandbox.exec("cat", [], { stdin: "grüße\n" })).stdout(), "grüße\n");
  assert.equal((await sandbox.exec("cat")).stdout(), "");
});

test("input may be long, or come as it is made", LIMIT, async () => {
  const long = randomBytes(5_000_000);
  assert.deepEqual((await sandbox.exec("cat", [], { stdin: long })).stdoutBytes(), long);
  async function* made() {
    for (const word of ["one ", Buffer.from("two "), "three"]) yield word;
  }
  const out = await sandbox.exec("cat", [], { stdin: made() });
  assert.deepEqual([out.code, out.stdout()], [0, "one two three"]);
  // Nobody reads it all, and that is no error.
  assert.equal((await sandbox.exec("true", [], { stdin: long })).code, 0);
  async function* broken() {
    yield "one";
    throw new RangeError("no more");
  }
  await assert.rejects(sandbox.exec("cat", [], { stdin: broken() }), RangeError);
});

test("much output comes whole, or says where it was cut", LIMIT, async () => {
  const out = await sandbox.shell("head -c 10000000 /dev/zero");
  assert.equal(out.stdoutBytes().length, 10_000_000);
  const cut = await sandbox.shell("yes | head -c 3000000", { maxOutput: "1MB" });
  assert.equal(cut.truncated, true);
  assert(cut.stdout().length < 3_000_000);
});

test("a time limit ends the command, and tells what it had said", LIMIT, async () => {
  const word = fresh("timeout");
  const slow = sandbox.shell(`echo partial; echo err >&2; sleep 600; : ${word}`, { timeout: 1500 });
  await assert.rejects(slow, (error) => {
    failure(TimeoutError, /longer than 1500ms/)(error);
    const { kind, ...told } = error as TimeoutError;
    assert.deepEqual([kind, (error as TimeoutError).stdout()], ["timeout", "partial\n"]);
    assert.equal((error as TimeoutError).stderr(), "err\n");
    assert(told.hint);
    return true;
  });
  await eventually("the command is gone", async () => !(await runs(sandbox, word)));
  await assert.rejects(sandbox.exec("sleep", ["600"], { timeout: "300ms" }), TimeoutError);
});

test("an AbortSignal ends the command", LIMIT, async () => {
  const word = fresh("abort");
  const abort = new AbortController();
  const slow = sandbox.shell(`sleep 600; : ${word}`, { signal: abort.signal });
  await eventually("the command runs", () => runs(sandbox, word));
  abort.abort();
  await assert.rejects(slow, { name: "AbortError" });
  await eventually("the command is gone", async () => !(await runs(sandbox, word)));
  const late = sandbox.exec("true", [], { signal: AbortSignal.abort(new RangeError("late")) });
  await assert.rejects(late, RangeError);
});

test("what makes no sense is refused", LIMIT, async () => {
  await assert.rejects(
    sandbox.exec("pwd", [], { cwd: "relative" }),
    failure(UsageError, /absolute/),
  );
  await assert.rejects(sandbox.exec("true", [], { timeout: 0 }), failure(UsageError, /timeout/));
  await assert.rejects(sandbox.exec("a\0b"), failure(UsageError, /NUL/));
  assert.equal((await sandbox.exec("no-such-program")).code, 127);
});

test("fifty commands run at once", LIMIT, async () => {
  const numbers = Array.from({ length: 50 }, (_, i) => String(i));
  const outs = await Promise.all(numbers.map((n) => sandbox.exec("echo", [n])));
  assert.deepEqual(
    outs.map((out) => out.stdout().trim()),
    numbers,
  );
});
