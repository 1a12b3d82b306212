import "./dispose.js";

import { call, route } from "./client.js";
import { copyIn, copyOut } from "./copy.js";
import { hasStatus, isMissing, UsageError } from "./errors.js";
import {
  type CollectOptions,
  type Command,
  exec,
  ExecHandle,
  type ExecOptions,
  type ExecOutput,
  type StreamOptions,
} from "./exec.js";
import { SandboxFs, type WriteOptions } from "./fs.js";
import { recordOf } from "./records.js";
import { attach } from "./terminal.js";
import type { ForkOptions, RemoveOptions, SnapshotOptions, TakenSnapshot } from "./types.js";
import type { SandboxView, SnapshotView } from "./wire.js";

/** A command that a sandbox with checkpoints can go back to the time before. */
export interface LogEntry {
  /** Its number, to give to {@link Sandbox.undo}. */
  index: number;
  /** When it was run. */
  at: Date;
  command: string;
}

/** Where a sandbox went back to. */
export interface Undone {
  /** The command before which it is now. */
  undoneTo: number;
  /** How long it stood still, in milliseconds. */
  pauseMs: number;
}

/** How a sandbox is doing, without a conversation with it. */
export class SandboxHandle {
  readonly id: string;
  readonly name: string;
  readonly status: "running" | "dead";
  /** The image that it was started from. */
  readonly image: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly createdAt: Date;

  /** @internal */
  constructor(view: SandboxView) {
    this.id = view.id;
    this.name = view.name ?? view.id;
    this.status = view.status;
    this.image = view.image;
    this.cpus = view.cpus;
    this.memoryBytes = view.memory;
    this.createdAt = new Date(view.created);
  }

  /** A handle to work with. */
  connect(): Promise<Sandbox> {
    return Sandbox.connect(this.id);
  }

  /** Stops it, and waits until nothing of it is left. */
  stop(): Promise<void> {
    return stop(this.id);
  }

  /** Stops it without giving what runs in it any time. */
  kill(): Promise<void> {
    return stop(this.id, { force: true });
  }

  /** Removes what is left of it. One that runs is an error. */
  remove(): Promise<void> {
    return removeSandbox(this.id);
  }
}

/** A sandbox that runs: a virtual machine with a name. */
export class Sandbox implements AsyncDisposable {
  /** Its id, which no other ever has. */
  readonly id: string;
  /** Its name; its id if it has none. */
  readonly name: string;
  /** Its size. */
  readonly cpus: number;
  readonly memoryBytes: number;
  #owned: boolean;

  /** @internal */
  constructor(view: SandboxView, owned: boolean) {
    this.id = view.id;
    this.name = view.name ?? view.id;
    this.cpus = view.cpus;
    this.memoryBytes = view.memory;
    this.#owned = owned;
  }

  /** All sandboxes that there are, the oldest first. */
  static async list(): Promise<SandboxHandle[]> {
    const views = await call<SandboxView[]>("GET", "/v1/sandboxes");
    return views.map((view) => new SandboxHandle(view));
  }

  /** Looks at one, by its name or id. One whose owner died is `dead` until it is
   * removed; one that has ended in order is an error. */
  static async get(name: string): Promise<SandboxHandle> {
    try {
      return new SandboxHandle(await call("GET", route`/v1/sandboxes/${name}`));
    } catch (error) {
      const left = hasStatus(error, ENDED) ? await find(name) : undefined;
      if (left) return left;
      throw error;
    }
  }

  /** A handle on one that somebody launched, by its name or id. */
  static async connect(name: string): Promise<Sandbox> {
    return new Sandbox(await call("GET", route`/v1/sandboxes/${name}`), false);
  }

  /** Removes one that does not run any more. */
  static remove(name: string): Promise<void> {
    return removeSandbox(name);
  }

  /** Whether it ends with this process, or with the `await using` that it is in. */
  get ownsLifecycle(): boolean {
    return this.#owned;
  }

  /** Runs a program to its end. A program that fails is no error; see the `code`. */
  exec(cmd: string, args: Iterable<string> = [], options?: CollectOptions): Promise<ExecOutput> {
    return exec(this.id, program(cmd, args), options);
  }

  /** Runs a script, by /bin/sh, to its end. */
  shell(script: string, options?: CollectOptions): Promise<ExecOutput> {
    return exec(this.id, { command: script }, options);
  }

  /** Starts a program, to be heard as it speaks. */
  execStream(
    cmd: string,
    args: Iterable<string> = [],
    options?: StreamOptions,
  ): Promise<ExecHandle> {
    return ExecHandle.start(this.id, program(cmd, args), options);
  }

  /** Starts a script, to be heard as it speaks. */
  shellStream(script: string, options?: StreamOptions): Promise<ExecHandle> {
    return ExecHandle.start(this.id, { command: script }, options);
  }

  /** Gives a program this process's terminal until it ends. Returns its exit code. */
  attach(cmd: string, args: Iterable<string> = [], options?: Omit<ExecOptions, "stdin">) {
    return attach(this.id, program(cmd, args), options);
  }

  /** Gives a shell this process's terminal until it ends. Returns its exit code. */
  attachShell(options?: Omit<ExecOptions, "stdin">): Promise<number> {
    return attach(this.id, { command: 'exec "$(command -v bash || command -v sh)"' }, options);
  }

  /** Its files. */
  fs(): SandboxFs {
    return new SandboxFs(this.id);
  }

  /** A file's bytes. */
  readFile(path: string): Promise<Uint8Array> {
    return this.fs().read(path);
  }

  /** Writes a file. It has its name once all of it is there. */
  writeFile(path: string, data: string | Uint8Array, options?: WriteOptions): Promise<void> {
    return this.fs().write(path, data, options);
  }

  /** Copies a file or a directory of this host into it. */
  copyIn(local: string, remote: string): Promise<void> {
    return copyIn(this.id, local, remote);
  }

  /** Copies a file or a directory of it to this host. */
  copyOut(remote: string, local: string): Promise<void> {
    return copyOut(this.id, remote, local);
  }

  /** Takes a snapshot of it, disk and memory. It stands still meanwhile, and goes on. */
  async snapshot(name: string, options: SnapshotOptions = {}): Promise<TakenSnapshot> {
    const { withSecrets: with_secrets, ...rest } = options;
    const json = { sandbox: this.id, name, ...rest, with_secrets };
    const view = await call<SnapshotView>("POST", "/v1/snapshots", { json });
    return { ...recordOf(view), pauseMs: view.pause_ms };
  }

  /** Copies of it, which run from where it is now. They end with this process, too. */
  async fork(count = 1, { withSecrets }: ForkOptions = {}): Promise<Sandbox[]> {
    const json = { count, detached: false, with_secrets: withSecrets };
    const path = route`/v1/sandboxes/${this.id}/fork`;
    const { sandboxes } = await call<{ sandboxes: SandboxView[] }>("POST", path, { json });
    return sandboxes.map((view) => new Sandbox(view, true));
  }

  /** The commands that it can go back to the time before. */
  async log(): Promise<LogEntry[]> {
    type View = Omit<LogEntry, "at"> & { at: string };
    const views = await call<View[]>("GET", route`/v1/sandboxes/${this.id}/log`);
    return views.map((view) => ({ ...view, at: new Date(view.at) }));
  }

  /** Goes back to before the last command, or to before the one with a number of
   * its {@link log}. It must have been launched with `checkpoints`. */
  async undo(to?: number): Promise<Undone> {
    type View = { undone_to: number; pause_ms: number };
    const path = route`/v1/sandboxes/${this.id}/undo`;
    const { undone_to, pause_ms } = await call<View>("POST", path, { json: { to } });
    return { undoneTo: undone_to, pauseMs: pause_ms };
  }

  /** Lets it outlive this process. The handle can still be used. */
  async detach(): Promise<void> {
    await call("POST", route`/v1/sandboxes/${this.id}/detach`);
    this.#owned = false;
  }

  /** Stops it, and waits until nothing of it is left. */
  async stop(): Promise<void> {
    await stop(this.id);
    this.#owned = false;
  }

  /** Stops it without giving what runs in it any time. */
  async kill(): Promise<void> {
    await stop(this.id, { force: true });
    this.#owned = false;
  }

  /** Stops it if it is this process's own and was not detached. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#owned) await this.stop();
  }
}

function program(cmd: string, args: Iterable<string>): Command {
  return { argv: [cmd, ...args] };
}

/** Stops a sandbox; one that is not there is stopped. */
async function stop(sandbox: string, { force = false }: RemoveOptions = {}): Promise<void> {
  const query = { force: force || undefined };
  await call("DELETE", route`/v1/sandboxes/${sandbox}`, { query }).catch(unlessMissing);
}

function unlessMissing(error: unknown): void {
  if (!isMissing(error)) throw error;
}

/** Removes a sandbox, by its name or id. One that is not there is no error; one
 * that runs is, without `force`. */
export async function removeSandbox(name: string, { force }: RemoveOptions = {}): Promise<void> {
  if (!force && (await runs(name))) {
    throw new UsageError(`sandbox '${name}' is running`, {
      hint: "stop it, or remove it with { force: true }",
      status: 409,
    });
  }
  await stop(name, { force: true });
}

async function runs(name: string): Promise<boolean> {
  return (await find(name))?.status === "running";
}

/** The HTTP status of a sandbox that has ended, whether or not something is left. */
const ENDED = 410;

/** The one of this name or id, the one that runs where there are others. */
async function find(name: string): Promise<SandboxHandle | undefined> {
  const all = await Sandbox.list();
  const named = all.filter((handle) => handle.name === name || handle.id === name);
  return named.find((handle) => handle.status === "running") ?? named.at(-1);
}
