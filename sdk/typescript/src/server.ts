import { type ChildProcess, spawn } from "node:child_process";
import { Agent } from "node:http";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";

import { findBinary } from "./binary.js";
import { ConnectionFailedError, UsageError } from "./errors.js";

/** How long a server may take to say where it listens, in milliseconds. */
const START_LIMIT = 30_000;
/** How much of what a server says on standard error is kept, in characters. */
const TAIL = 4096;

/** Which Lampyr to use. */
export interface RuntimeOptions {
  /** The `lampyr` program. Default: `LAMPYR_BIN`, else the one on the `PATH`. */
  bin?: string;
  /** The directory where Lampyr keeps everything. Default: `LAMPYR_HOME`, else `~/.lampyr`. */
  home?: string;
}

/** A server of this process's own. It ends with this process, and with it every
 * sandbox that was not detached. */
export class Server {
  readonly agent = new Agent({ keepAlive: true });
  #epitaph: string | undefined;

  private constructor(
    readonly bin: string,
    readonly env: NodeJS.ProcessEnv,
    readonly socket: string,
    child: ChildProcess,
    said: () => string,
  ) {
    child.once("exit", () => {
      this.#epitaph = said();
      this.agent.destroy();
    });
  }

  /** Starts one, and waits until it listens. `over` is called once it has ended. */
  static async start(options: RuntimeOptions, over: () => void): Promise<Server> {
    const bin = findBinary(options.bin);
    const env = options.home ? { ...process.env, LAMPYR_HOME: options.home } : process.env;
    // In a process group of its own, Ctrl-C is for its parent alone to answer.
    const child = spawn(bin, ["serve", "--parent"], { env, detached: true, stdio: "pipe" });
    const said = tailOf(child.stderr);
    const socket = await listening(child, said);
    child.once("exit", over);
    for (const handle of [child, child.stdin, child.stdout, child.stderr]) unref(handle);
    return new Server(bin, env, socket, child, said);
  }

  /** What to tell of a connection that failed. */
  lost(cause: unknown): ConnectionFailedError {
    const hint = this.#epitaph?.trim() || undefined;
    return new ConnectionFailedError("lampyr's server does not answer", { cause, hint });
  }
}

/** The server of this process, and what it was asked to be. */
interface Current {
  options: RuntimeOptions;
  server: Promise<Server>;
}

let current: Current | undefined;

/** The server of this process, which is started where there is none. */
export async function server(options: RuntimeOptions = {}): Promise<Server> {
  current ??= begin(options);
  const { options: known, server } = current;
  const other = (key: keyof RuntimeOptions) => options[key] && options[key] !== known[key];
  if (other("bin") || other("home")) {
    throw new UsageError("this process uses another lampyr already", {
      hint: "say which one before any other call",
    });
  }
  return server;
}

/** One that ends, or does not start, is forgotten; the next call starts another. */
function begin(options: RuntimeOptions): Current {
  const forget = () => {
    if (current === begun) current = undefined;
  };
  const begun: Current = { options, server: Server.start(options, forget) };
  begun.server.catch(forget);
  return begun;
}

/** Waits until a server says where it listens. */
function listening(child: ChildProcess, said: () => string): Promise<string> {
  return new Promise((resolve, reject) => {
    const fail = (message: string, cause?: unknown) => {
      child.kill("SIGKILL");
      const hint = said().trim() || undefined;
      reject(new ConnectionFailedError(message, { cause, hint }));
    };
    const timer = setTimeout(() => fail("lampyr's server does not start"), START_LIMIT);
    const lines = createInterface({ input: child.stdout as Readable });
    lines.once("line", (line) => {
      const socket = socketOf(line);
      if (socket) resolve(socket);
      else fail(`${child.spawnfile} is another program than lampyr`);
      lines.close();
    });
    child.once("error", (cause) => fail("lampyr's server cannot be started", cause));
    child.once("close", () => fail("lampyr's server ended as it was started"));
    lines.once("close", () => clearTimeout(timer));
  });
}

function socketOf(line: string): string | undefined {
  try {
    const { socket } = JSON.parse(line) ?? {};
    return typeof socket === "string" ? socket : undefined;
  } catch {
    return undefined;
  }
}

/** Keeps the end of what a stream says. */
function tailOf(stream: Readable): () => string {
  let tail = "";
  stream.setEncoding("utf8");
  stream.on("data", (text: string) => (tail = (tail + text).slice(-TAIL)));
  return () => tail;
}

/** Lets this process end although the handle is open. Not every stream of Bun's can. */
function unref(handle: unknown): void {
  (handle as { unref?: () => void } | null)?.unref?.();
}
