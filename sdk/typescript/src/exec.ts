import "./dispose.js";

import { call, route } from "./client.js";
import { errorOf, LampyrError, UsageError } from "./errors.js";
import { Pieces } from "./pieces.js";
import { WebSocket } from "./websocket.js";
import type { Envelope } from "./wire.js";

/** The longest standard input that goes along with the request, in bytes. */
const MAX_INLINE = 1 << 20;
/** The longest that a running command is given at once with what it is, likewise. */
const MAX_AT_ONCE = 64 << 10;
const EOF = '{"type":"eof"}';
const SIGKILL = 9;

/** Standard input: all of it, or as it comes. */
export type Input = string | Uint8Array | AsyncIterable<string | Uint8Array>;

/** How a command is to run. */
export interface ExecOptions {
  /** Environment variables, over the sandbox's. */
  env?: Record<string, string>;
  /** Where it starts. Default: the sandbox's `workdir`, the image's, or the user's home. */
  cwd?: string;
  /** The user it runs as, by name or number. Default: the image's, or root. */
  user?: string;
  /** Its standard input. Default: none. */
  stdin?: Input;
  /** How long it may run: milliseconds, or as in `"5s"`. Default: as long as it likes. */
  timeout?: number | string;
  /** Ends the command and rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** How a command is to run whose output is kept until it ends. */
export interface CollectOptions extends ExecOptions {
  /** How much of each output stream is kept, as in `"16MB"`. Default: 64MB. */
  maxOutput?: string;
}

/** How a command is to run that is heard as it speaks. */
export interface StreamOptions extends ExecOptions {
  /** Leave its standard input open; {@link ExecHandle.takeStdin} gives it. */
  pipeStdin?: boolean;
  /** Give it a terminal of this size. Both its outputs are one then. */
  tty?: { rows: number; columns: number };
}

/** A command to run: a script, or a program and its arguments. */
export type Command = { command: string } | { argv: string[] };

/** How a command ended. */
export interface ExitStatus {
  /** Its exit code; 128+n where signal n ended it. */
  code: number;
  /** Whether the code is 0. */
  success: boolean;
}

/** What a command says, and at last that it ended. */
export type ExecEvent =
  { kind: "stdout" | "stderr"; data: Uint8Array } | { kind: "exited"; code: number };

/** A command that ended, and what it had said. */
export class ExecOutput {
  /** Its exit code; 128+n where signal n ended it. */
  readonly code: number;
  /** From the request to run it until its end was known, in milliseconds. */
  readonly durationMs: number;
  /** What it used, what of the network was refused, what was cut. */
  readonly meta: Record<string, unknown>;
  readonly #stdout: Buffer;
  readonly #stderr: Buffer;

  /** @internal */
  constructor(end: Envelope, stdout: Buffer, stderr: Buffer) {
    this.code = end.exit_code ?? -1;
    this.durationMs = end.duration_ms;
    this.meta = end.meta ?? {};
    this.#stdout = stdout;
    this.#stderr = stderr;
  }

  /** Whether the exit code is 0. */
  get success(): boolean {
    return this.code === 0;
  }

  /** Whether more was said than is here; `meta.truncated` tells where the rest is. */
  get truncated(): boolean {
    return "truncated" in this.meta;
  }

  /** Standard output as text; bytes that are no UTF-8 appear as U+FFFD. */
  stdout(): string {
    return this.#stdout.toString("utf8");
  }

  /** Standard error, likewise. */
  stderr(): string {
    return this.#stderr.toString("utf8");
  }

  /** Standard output as it is. */
  stdoutBytes(): Uint8Array {
    return this.#stdout;
  }

  /** Standard error as it is. */
  stderrBytes(): Uint8Array {
    return this.#stderr;
  }
}

/** Runs a command to its end. */
export async function exec(
  sandbox: string,
  command: Command,
  options: CollectOptions = {},
): Promise<ExecOutput> {
  const stdin = inline(options.stdin);
  if (!stdin) return (await ExecHandle.start(sandbox, command, options)).collect();
  const json = { ...askOf(command, options), ...stdin, max_output: options.maxOutput };
  const { signal } = options;
  const end = await call<Envelope>("POST", route`/v1/sandboxes/${sandbox}/exec`, { json, signal });
  const stdout = bytesOf(end.stdout ?? end.partial_stdout, end.stdout_bytes);
  const stderr = bytesOf(end.stderr ?? end.partial_stderr, end.stderr_bytes);
  if (end.error !== undefined) throw failure(end, stdout, stderr);
  return new ExecOutput(end, stdout, stderr);
}

/** Standard input as the request has it, unless it is too long for that. */
function inline(stdin: Input | undefined): object | undefined {
  if (stdin === undefined) return {};
  if (typeof stdin === "string") {
    return stdin.length * 3 <= MAX_INLINE ? { stdin } : undefined;
  }
  const short = stdin instanceof Uint8Array && stdin.length <= MAX_INLINE;
  return short ? { stdin_bytes: Buffer.from(stdin).toString("base64") } : undefined;
}

function askOf(command: Command, { env, cwd, user, timeout }: ExecOptions): object {
  const limit = typeof timeout === "number" ? `${Math.ceil(timeout)}ms` : timeout;
  return { ...command, env, workdir: cwd, user, timeout: limit };
}

function bytesOf(text = "", base64?: string): Buffer {
  return base64 === undefined ? Buffer.from(text) : Buffer.from(base64, "base64");
}

function failure(end: Envelope, stdout?: Buffer, stderr?: Buffer): LampyrError {
  const { error = "", message = "", hint } = end;
  return errorOf(error, message, { hint, stdout, stderr });
}

/** The standard input of a command that runs. */
export class ExecSink {
  readonly #wire: WebSocket;

  /** @internal */
  constructor(wire: WebSocket) {
    this.#wire = wire;
  }

  /** Resolves once there is room for more. */
  async write(data: string | Uint8Array): Promise<void> {
    await this.#wire.send(typeof data === "string" ? Buffer.from(data) : data);
  }

  /** Tells the command that this was all. */
  async close(): Promise<void> {
    await this.#wire.send(EOF);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * A command that runs. What it says is heard once, as it comes: by `for await`,
 * by {@link recv}, or by {@link wait} or {@link collect}. A command that nobody
 * listens to waits; one whose `for await` is left is ended.
 */
export class ExecHandle implements AsyncIterable<ExecEvent>, AsyncDisposable {
  readonly #wire: WebSocket;
  readonly #events: AsyncGenerator<ExecEvent, void, undefined>;
  #stdin: ExecSink | null = null;
  #end: Envelope | undefined;
  #badInput: { cause: unknown } | undefined;

  private constructor(wire: WebSocket) {
    this.#wire = wire;
    this.#events = this.#hear();
  }

  /** @internal */
  static async start(
    sandbox: string,
    command: Command,
    options: StreamOptions = {},
  ): Promise<ExecHandle> {
    const path = route`/v1/sandboxes/${sandbox}/exec/ws`;
    const handle = new ExecHandle(await WebSocket.open(path, options.signal));
    await handle.#begin(JSON.stringify({ ...askOf(command, options), tty: options.tty }), options);
    return handle;
  }

  /** Says what to run. Short input goes along at once: a server that refuses
   * what it was asked hangs up on what it has not read. */
  async #begin(ask: string, { pipeStdin, stdin = "" }: StreamOptions): Promise<void> {
    const input = typeof stdin === "string" ? Buffer.from(stdin) : stdin;
    if (!pipeStdin && input instanceof Uint8Array && input.length <= MAX_AT_ONCE) {
      return this.#wire.send(ask, input, EOF);
    }
    await this.#wire.send(ask);
    if (pipeStdin) this.#stdin = new ExecSink(this.#wire);
    else void this.#feed(input instanceof Uint8Array ? [input] : input);
  }

  /** The next event; null after the last. */
  async recv(): Promise<ExecEvent | null> {
    const { value } = await this.#events.next();
    return value ?? null;
  }

  /** Its standard input, once, if it was started with `pipeStdin`. */
  async takeStdin(): Promise<ExecSink | null> {
    const stdin = this.#stdin;
    this.#stdin = null;
    return stdin;
  }

  /** Waits for its end; what it still says is not kept. */
  async wait(): Promise<ExitStatus> {
    while (await this.recv());
    const { exit_code: code = -1 } = this.#ending();
    return { code, success: code === 0 };
  }

  /** Waits for its end, and keeps what it still says. */
  async collect(): Promise<ExecOutput> {
    const said = { stdout: new Pieces(), stderr: new Pieces() };
    try {
      for await (const event of this)
        if (event.kind !== "exited") said[event.kind].push(event.data);
    } catch (error) {
      if (!this.#end) throw error;
      throw failure(this.#end, said.stdout.bytes(), said.stderr.bytes());
    }
    return new ExecOutput(this.#ending(), said.stdout.bytes(), said.stderr.bytes());
  }

  /** Sends it a signal, by number. */
  signal(signal: number): Promise<void> {
    return this.#wire.send(JSON.stringify({ type: "signal", signal }));
  }

  /** Ends it at once. */
  kill(): Promise<void> {
    return this.signal(SIGKILL);
  }

  /** Tells it that its terminal has another size now. */
  resize(rows: number, columns: number): Promise<void> {
    return this.#wire.send(JSON.stringify({ type: "resize", rows, columns }));
  }

  [Symbol.asyncIterator](): AsyncIterator<ExecEvent> {
    return this.#events;
  }

  /** Ends it, unless it has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#wire.close();
  }

  #ending(): Envelope {
    if (this.#end) return this.#end;
    throw new UsageError("the command was left before it ended");
  }

  async *#hear(): AsyncGenerator<ExecEvent, void, undefined> {
    try {
      for await (const { text, data } of this.#wire.messages()) {
        if (text) return yield* this.#ended(JSON.parse(data.toString("utf8")));
        yield { kind: data[0] === 1 ? "stdout" : "stderr", data: data.subarray(1) };
      }
      throw this.#wire.signal?.aborted
        ? this.#wire.signal.reason
        : this.#wire.server.lost(undefined);
    } catch (error) {
      throw this.#badInput ? this.#badInput.cause : error;
    } finally {
      this.#wire.close();
    }
  }

  *#ended(end: Envelope): Generator<ExecEvent, void, undefined> {
    this.#end = end;
    if (end.exit_code === undefined) throw failure(end);
    yield { kind: "exited", code: end.exit_code };
  }

  /** Gives it all of its input. One that has ended takes no more. */
  async #feed(input: Iterable<Uint8Array> | AsyncIterable<string | Uint8Array>): Promise<void> {
    const stdin = new ExecSink(this.#wire);
    try {
      for await (const piece of input) {
        if (this.#wire.socket.destroyed) return;
        await stdin.write(piece).catch(() => {});
      }
    } catch (cause) {
      this.#badInput = { cause };
      this.#wire.close();
    }
    await stdin.close().catch(() => {});
  }
}
