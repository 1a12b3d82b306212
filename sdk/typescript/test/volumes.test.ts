import assert from "node:assert/strict";
import { test } from "node:test";

import {
  ensureVolume,
  launchSandbox,
  listVolumes,
  removeVolume,
  runInSandbox,
  UsageError,
  volumeExists,
} from "lampyr";

import { failure, fresh, LIMIT } from "./lab.js";

test("a volume is made once, listed, and removed", LIMIT, async (t) => {
  const name = fresh("volume");
  t.after(() => removeVolume(name));
  assert.equal(await volumeExists(name), false);
  const made = await ensureVolume(name, { quotaMib: 8, labels: { team: "a" } });
  assert.deepEqual([made.name, made.quotaMib, made.labels], [name, 8, { team: "a" }]);
  assert(Date.now() - made.createdAt.getTime() < 60_000);
  const again = await ensureVolume(name, { quotaMib: 9, labels: { team: "b" } });
  assert.deepEqual(again, made);
  assert.equal(await volumeExists(name), true);
  assert((await listVolumes()).some((volume) => volume.name === name));
  await removeVolume(name);
  await removeVolume(name);
  assert.equal(await volumeExists(name), false);
  await assert.rejects(ensureVolume("no/name"), failure(UsageError, /name/));
});

test(
  "what is in a volume stays, for all sandboxes that have it, within its quota",
  LIMIT,
  async (t) => {
    const name = fresh("volume");
    t.after(() => removeVolume(name));
    await ensureVolume(name, { quotaMib: 2 });
    const mounts = { "/v": { volume: name } };
    {
      await using one = await launchSandbox({ name: fresh(), mounts });
      await using two = await launchSandbox({ name: fresh(), mounts });
      await one.shell("echo shared > /v/file");
      assert.equal((await two.exec("cat", ["/v/file"])).stdout(), "shared\n");
      const full = await two.shell("head -c 3000000 /dev/zero > /v/big");
      assert.match(full.stderr(), /No space left/);
      await assert.rejects(removeVolume(name), { status: 409 });
    }
    const kept = await runInSandbox({ name: fresh(), mounts }, (sandbox) =>
      sandbox.exec("cat", ["/v/file"]),
    );
    assert.equal(kept.stdout(), "shared\n");
  },
);

test("a volume is made on first use", LIMIT, async (t) => {
  const name = fresh("volume");
  t.after(() => removeVolume(name));
  const mounts = { "/v": { volume: name, readonly: true } };
  const out = await runInSandbox({ name: fresh(), mounts }, (sandbox) =>
    sandbox.shell("touch /v/x"),
  );
  assert.notEqual(out.code, 0);
  assert.equal(await volumeExists(name), true);
});
