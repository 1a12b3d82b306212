import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createReadStream, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launchSandbox, type Sandbox, UsageError } from "lampyr";

import { failure, folder, fresh, LIMIT } from "./lab.js";

let sandbox: Sandbox;

before(async () => {
  sandbox = await launchSandbox({ name: fresh() });
}, LIMIT);
after(() => sandbox.stop());

test("a file comes back as it was written", LIMIT, async () => {
  const bytes = randomBytes(3_000_000);
  await sandbox.writeFile("/root/a/b c#%", bytes, { parents: true, mode: 0o640 });
  assert.deepEqual(await sandbox.readFile("/root/a/b c#%"), bytes);
  assert.equal((await sandbox.fs().stat("/root/a/b c#%")).mode, 0o640);
  await sandbox.writeFile("/root/text", "grüße");
  assert.equal(await sandbox.fs().readToString("/root/text"), "grüße");
  await sandbox.writeFile("/root/text", "");
  assert.equal(await sandbox.fs().readToString("/root/text"), "");
});

test("a file is read and written as it comes", LIMIT, async () => {
  async function* made() {
    for (let i = 0; i < 100; i++) yield Buffer.alloc(100_000, i);
  }
  await sandbox.fs().write("/root/stream", made());
  let length = 0;
  for await (const piece of sandbox.fs().readStream("/root/stream")) length += piece.length;
  assert.equal(length, 10_000_000);
  for await (const piece of sandbox.fs().readStream("/root/stream")) {
    assert(piece.length);
    break;
  }
  async function* broken() {
    yield Buffer.from("half");
    throw new RangeError("no more");
  }
  await assert.rejects(sandbox.fs().write("/root/stream", broken()), RangeError);
  async function* missing() {
    yield* createReadStream("/nonexistent");
  }
  await assert.rejects(sandbox.fs().write("/root/stream", missing()), { code: "ENOENT" });
  await assert.rejects(sandbox.fs().write("relative", made()), failure(UsageError, /absolute/));
  assert.equal((await sandbox.fs().stat("/root/stream")).size, 10_000_000);
});

test("directories are made, listed, renamed and removed", LIMIT, async () => {
  const fs = sandbox.fs();
  await fs.mkdir("/srv/x/y");
  await fs.mkdir("/srv/x/y");
  await fs.write("/srv/x/file", "12345");
  await sandbox.exec("ln", ["-s", "nowhere", "/srv/x/link"]);
  const entries = (await fs.list("/srv/x")).map(({ path, kind }) => [path, kind]);
  assert.deepEqual(entries, [
    ["/srv/x/file", "file"],
    ["/srv/x/link", "symlink"],
    ["/srv/x/y", "directory"],
  ]);
  assert(Date.now() - (await fs.stat("/srv/x/file")).modified.getTime() < 60_000);
  await fs.rename("/srv/x/file", "/srv/x/other");
  assert.deepEqual(
    await Promise.all(["file", "other", "link"].map((name) => fs.exists(`/srv/x/${name}`))),
    [false, true, true],
  );
  await fs.remove("/srv/x/other");
  await fs.removeDir("/srv/x");
  assert.equal(await fs.exists("/srv/x"), false);
});

test("files and directories are copied in and out", LIMIT, async (t) => {
  const here = folder(t);
  mkdirSync(join(here, "in/sub"), { recursive: true });
  const bytes = randomBytes(500_000);
  writeFileSync(join(here, "in/sub/data"), bytes, { mode: 0o755 });
  symlinkSync("sub/data", join(here, "in/link"));
  await sandbox.copyIn(join(here, "in"), "/opt/in");
  const out = await sandbox.shell(
    "cmp /opt/in/link /opt/in/sub/data && stat -c %a /opt/in/sub/data",
  );
  assert.equal(out.stdout(), "755\n");
  await sandbox.copyOut("/opt/in", join(here, "out"));
  assert.deepEqual(readFileSync(join(here, "out/link")), bytes);
  await sandbox.fs().copyToHost("/opt/in/sub/data", join(here, "one:file"));
  await sandbox.fs().copyFromHost(join(here, "one:file"), "/opt/one");
  assert.deepEqual(await sandbox.readFile("/opt/one"), bytes);
});

test("what is not there, or in the way, is told", LIMIT, async (t) => {
  const here = folder(t);
  const missing = { kind: "usage", status: 404 };
  await assert.rejects(sandbox.readFile("/nope"), missing);
  await assert.rejects(sandbox.fs().stat("/nope"), missing);
  await assert.rejects(sandbox.fs().remove("/nope"), missing);
  await assert.rejects(sandbox.readFile("nope"), failure(UsageError, /absolute/));
  await assert.rejects(sandbox.readFile("/etc"), { kind: "usage", status: 409 });
  await assert.rejects(sandbox.copyOut("/nope", join(here, "x")), failure(UsageError, /nope/));
  await assert.rejects(
    sandbox.copyIn(join(here, "nope"), "/x"),
    failure(UsageError, /nope not found/),
  );
});
