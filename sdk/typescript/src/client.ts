import {
  type ClientRequest,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  request,
} from "node:http";
import type { Socket } from "node:net";

import { errorOf, UsageError } from "./errors.js";
import { Pieces } from "./pieces.js";
import { type Server, server } from "./server.js";

/** The longest body that is sent before the server asks for it, in bytes. One
 * that refuses a request hangs up on what it has not read. */
const MAX_UNASKED = 64 << 10;

/** What to ask of a server. */
export interface Ask {
  /** What follows the path, as names and values; those without a value are left out. */
  query?: Record<string, string | boolean | undefined>;
  /** Sent as JSON. */
  json?: unknown;
  /** Sent as it is. */
  body?: Body;
  /** The type of answer that is wanted. */
  accept?: string;
  /** Breaks off. */
  signal?: AbortSignal;
}

/** Asks the server, and hears JSON. An answer without a body is undefined. */
export async function call<T>(method: string, path: string, ask: Ask = {}): Promise<T> {
  const bytes = await callForBytes(method, path, ask);
  return (bytes.length ? JSON.parse(bytes.toString("utf8")) : undefined) as T;
}

/** Asks the server, and hears bytes, all of them. */
export async function callForBytes(method: string, path: string, ask: Ask = {}): Promise<Buffer> {
  const asked = await server();
  return gather(asked, await send(asked, method, path, ask), ask.signal);
}

/** Asks the server, and hears its answer as it comes. */
export async function* callForStream(
  method: string,
  path: string,
  ask: Ask = {},
): AsyncGenerator<Buffer, void, undefined> {
  const asked = await server();
  const answer = await send(asked, method, path, ask);
  try {
    yield* answer;
  } catch (cause) {
    throw broken(asked, cause, ask.signal);
  } finally {
    answer.destroy();
  }
}

/** A path of the API: what stands for a name is escaped. */
export function route(parts: TemplateStringsArray, ...names: string[]): string {
  return String.raw({ raw: parts }, ...names.map(encodeURIComponent));
}

/** Sends a request, and waits for the head of an answer that is a success. */
async function send(
  asked: Server,
  method: string,
  path: string,
  ask: Ask,
): Promise<IncomingMessage> {
  ask.signal?.throwIfAborted();
  const answer = await head(asked, method, path + queryOf(ask.query), ask);
  const status = answer.statusCode ?? 0;
  if (status < 300) return answer;
  throw refusal(status, await gather(asked, answer, ask.signal));
}

type Body = Uint8Array | AsyncIterable<Uint8Array>;

function head(asked: Server, method: string, path: string, ask: Ask): Promise<IncomingMessage> {
  const body = ask.json === undefined ? ask.body : Buffer.from(JSON.stringify(ask.json));
  const { socket: socketPath, agent } = asked;
  const { signal } = ask;
  const headers = headersOf(ask, body);
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, agent, method, path, headers, signal });
    outgoing.once("socket", guard);
    outgoing.once("error", (cause) => reject(broken(asked, cause, signal)));
    outgoing.once("response", (answer) => {
      // A body that was not asked for is not sent any more.
      answer.once("end", () => outgoing.writableEnded || outgoing.destroy());
      resolve(answer);
    });
    const give = () =>
      pour(body, outgoing).catch((cause) => {
        reject(cause);
        outgoing.destroy();
      });
    if (headers["expect"]) outgoing.once("continue", give).flushHeaders();
    else void give();
  });
}

function headersOf({ accept = "*/*", json }: Ask, body: Body | undefined): OutgoingHttpHeaders {
  const length = body instanceof Uint8Array ? body.length : undefined;
  const long = body !== undefined && (length === undefined || length > MAX_UNASKED);
  return {
    accept,
    ...(json !== undefined && { "content-type": "application/json" }),
    ...(length !== undefined && { "content-length": length }),
    ...(long && { expect: "100-continue" }),
  };
}

/** Sends a body. Only what fails in making it is an error; what fails in sending
 * it the request tells by itself. */
async function pour(body: Body | undefined, outgoing: ClientRequest): Promise<void> {
  if (body === undefined || body instanceof Uint8Array) return void outgoing.end(body);
  for await (const piece of body) {
    await new Promise((sent) => outgoing.write(piece, sent));
    if (outgoing.destroyed) return;
  }
  outgoing.end();
}

const guarded = new WeakSet<Socket>();

/** A socket may fail between two requests, or behind an answer, when nobody listens. */
function guard(socket: Socket): void {
  if (guarded.has(socket)) return;
  guarded.add(socket);
  socket.on("error", () => {});
}

function queryOf(query: Ask["query"]): string {
  const known = new URLSearchParams();
  for (const [key, value] of Object.entries(query ?? {})) {
    if (value !== undefined) known.set(key, String(value));
  }
  const text = known.toString();
  return text && `?${text}`;
}

/** An answer's bytes, all of them. */
export async function gather(
  asked: Server,
  answer: IncomingMessage,
  signal?: AbortSignal,
): Promise<Buffer> {
  const pieces = new Pieces();
  try {
    for await (const piece of answer as AsyncIterable<Buffer>) pieces.push(piece);
  } catch (cause) {
    throw cause instanceof UsageError ? cause : broken(asked, cause, signal);
  }
  return pieces.bytes();
}

/** What an answer says that is no success. */
export function refusal(status: number, body: Buffer): Error {
  const text = body.toString("utf8");
  try {
    const { error, message, hint } = JSON.parse(text);
    return errorOf(error, message, { hint, status });
  } catch {
    const said = text.trim() || `lampyr's server answered with ${status}`;
    return errorOf("connection_failed", said, { status });
  }
}

/** What to tell of a conversation that broke: who broke it off knows why. */
export function broken(asked: Server, cause: unknown, signal?: AbortSignal): unknown {
  return signal?.aborted ? signal.reason : asked.lost(cause);
}
