import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { appendFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { LampyrError, type Sandbox } from "lampyr";

/** The root of the package. */
export const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** No test takes this long, unless it hangs. */
export const LIMIT = { timeout: 60_000 };
/** How long something may take to come true, in milliseconds. */
const PATIENCE = 20_000;

let names = 0;

/** A name that no other test has, nor another run of it. */
export function fresh(what = "sandbox"): string {
  return `ts-${what}-${process.pid}-${++names}`;
}

/** A directory that goes when the test ends. */
export function folder(test: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "lampyr-ts-"));
  test.after(() => rmSync(path, { recursive: true }));
  return path;
}

/** Skips a test, which `cargo xtask test` counts and names. */
export function skip(test: TestContext, why: string): void {
  test.skip(why);
  const list = process.env["LAMPYR_E2E_SKIPPED"];
  if (list) appendFileSync(list, `${test.name}: ${why}\n`);
}

/** How a process ended. */
export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** A process that runs. */
export class Process {
  readonly child;
  readonly ended: Promise<Ended>;
  #said = { stdout: "", stderr: "" };

  constructor(program: string, args: string[], cwd = ROOT, env: NodeJS.ProcessEnv = process.env) {
    this.child = spawn(program, args, { cwd, env, stdio: "pipe", timeout: LIMIT.timeout });
    for (const name of ["stdout", "stderr"] as const) {
      this.child[name].setEncoding("utf8").on("data", (text) => (this.#said[name] += text));
    }
    this.ended = new Promise((resolve, reject) => {
      this.child.once("error", reject);
      this.child.once("close", (code, signal) => resolve({ code, signal, ...this.#said }));
    });
  }

  /** Waits until it has said this on standard output. */
  async said(what: string): Promise<void> {
    await eventually(`the process says ${what}`, () => {
      assert(this.child.exitCode === null || this.#said.stdout.includes(what), this.#said.stderr);
      return this.#said.stdout.includes(what);
    });
  }
}

/** A program of JavaScript, in a process of its own. */
export function program(source: string, env?: NodeJS.ProcessEnv): Process {
  const args = ["--input-type=module", "--eval", source];
  return new Process(process.execPath, args, ROOT, { ...process.env, ...env });
}

/** Waits until something is true. */
export async function eventually(
  what: string,
  check: () => boolean | Promise<boolean>,
): Promise<void> {
  const end = Date.now() + PATIENCE;
  while (!(await check())) {
    assert(Date.now() < end, `in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Whether a process runs. */
export function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** What to compare a rejection with: its class, and what it says. */
export function failure(
  Class: typeof LampyrError | (new (...args: never[]) => LampyrError),
  about: RegExp,
) {
  return (error: unknown) => {
    assert(error instanceof Class, `${error}`);
    assert.match(error.message, about);
    return true;
  };
}

/** Whether a process with this word in its command line runs in a sandbox. */
export async function runs(sandbox: Sandbox, word: string): Promise<boolean> {
  // In brackets, the word is no word of the search's own.
  const pattern = `[${word[0]}]${word.slice(1)}`;
  const search = 'grep -qs "$0" /proc/[0-9]*/cmdline';
  return (await sandbox.exec("sh", ["-c", search, pattern])).success;
}
