import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { removeSandbox, removeSnapshot, removeVolume } from "lampyr";

import { folder, LIMIT, Process, ROOT } from "./lab.js";

/** In the package, so that they find it by its name. */
const FOLDER = join(ROOT, "build", own("readme"));
/** What the examples make. Each run of the tests has names of its own for it. */
const NAMES = ["tools", "agent", "cache", "report", "prepared"];
const TSCONFIG = {
  extends: "../../tsconfig.json",
  compilerOptions: { rootDir: ".", outDir: "out", declaration: false },
  include: ["."],
};

interface Example {
  source: string;
  /** What it prints; what is said under it, if anything is. */
  printed?: string;
}

const readme = readFileSync(join(ROOT, "README.md"), "utf8");
const examples = [...readme.matchAll(/^```ts\n(.*?)^```\n(?:\n```text\n(.*?)^```)?/gms)].map(
  ([, source = "", printed]): Example => ({ source: renamed(source), printed }),
);

function own(name: string): string {
  return `${name}-${process.pid}`;
}

function renamed(source: string): string {
  return NAMES.reduce((text, name) => text.replaceAll(`"${name}"`, `"${own(name)}"`), source);
}

before(async () => {
  mkdirSync(FOLDER, { recursive: true });
  writeFileSync(join(FOLDER, "tsconfig.json"), JSON.stringify(TSCONFIG));
  examples.forEach(({ source }, i) => writeFileSync(join(FOLDER, `example${i}.ts`), source));
  const tsc = new Process(join(ROOT, "node_modules/.bin/tsc"), ["-p", FOLDER]);
  const { code, stdout } = await tsc.ended;
  assert.equal(code, 0, stdout);
}, LIMIT);

after(async () => {
  rmSync(FOLDER, { recursive: true, force: true });
  for (const name of NAMES.map(own)) {
    await removeSandbox(name, { force: true });
    await removeSnapshot(name, { force: true });
    await removeVolume(name);
  }
});

test("every block of code is an example, and every name is in one", LIMIT, () => {
  assert.equal(examples.length, [...readme.matchAll(/^```ts$/gm)].length);
  for (const name of NAMES) assert(readme.includes(`"${name}"`), name);
});

examples.forEach(({ printed }, i) => {
  test(`example ${i} of the README runs`, LIMIT, async (t) => {
    const program = new Process(process.execPath, [join(FOLDER, `out/example${i}.js`)], folder(t));
    const { code, stdout, stderr } = await program.ended;
    assert.deepEqual([code, stderr], [0, ""], stdout);
    if (printed !== undefined) assert.equal(stdout, printed);
  });
});
