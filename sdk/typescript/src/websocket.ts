import { createHash, randomBytes } from "node:crypto";
import { type IncomingMessage, request } from "node:http";
import type { Socket } from "node:net";

import { broken, gather, refusal } from "./client.js";
import { type Server, server } from "./server.js";

/** The longest frame that a server of ours sends, in bytes, and much more. */
const MAX_FRAME = 16 << 20;
/** The longest message that a server of ours takes. */
const MAX_MESSAGE = 256 << 10;
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

/** What the other end says at once. */
export interface Message {
  text: boolean;
  data: Buffer;
}

/** A conversation over a WebSocket (RFC 6455), as far as our server speaks it. */
export class WebSocket {
  private constructor(
    readonly server: Server,
    readonly signal: AbortSignal | undefined,
    readonly socket: Socket,
  ) {
    // Whoever reads or writes hears of it.
    socket.on("error", () => {});
    // What nobody hears keeps no process.
    socket.unref();
    const abort = () => this.close();
    signal?.addEventListener("abort", abort);
    socket.once("close", () => signal?.removeEventListener("abort", abort));
  }

  static async open(path: string, signal?: AbortSignal): Promise<WebSocket> {
    signal?.throwIfAborted();
    const asked = await server();
    const key = randomBytes(16).toString("base64");
    const headers = {
      connection: "Upgrade",
      upgrade: "websocket",
      "sec-websocket-version": "13",
      "sec-websocket-key": key,
    };
    const socket = await new Promise<Socket>((resolve, reject) => {
      const options = { socketPath: asked.socket, agent: false, path, headers, signal };
      const outgoing = request(options);
      outgoing.once("upgrade", (answer, socket, head) => {
        if (head.length) socket.unshift(head);
        if (answer.headers["sec-websocket-accept"] === acceptOf(key)) return resolve(socket);
        socket.destroy();
        reject(asked.lost(new Error("this is no WebSocket")));
      });
      outgoing.once("response", (answer) => refused(asked, answer, signal).then(reject, reject));
      outgoing.once("error", (cause) => reject(broken(asked, cause, signal)));
      outgoing.end();
    });
    return new WebSocket(asked, signal, socket);
  }

  /** Says things, at once; bytes in as many messages as it takes. Resolves once
   * there is room for more. */
  send(...things: (string | Uint8Array)[]): Promise<void> {
    return this.#write(Buffer.concat(things.flatMap(framesOf)));
  }

  /** Hears messages until the other end closes. */
  async *messages(): AsyncGenerator<Message, void, undefined> {
    let held: Buffer = Buffer.alloc(0);
    this.socket.ref();
    try {
      for await (const piece of this.socket as AsyncIterable<Buffer>) {
        held = held.length ? Buffer.concat([held, piece]) : piece;
        for (let got = take(held); got; got = take(held)) {
          held = held.subarray(got.end);
          if (got.opcode === CLOSE) return;
          if (got.opcode === PING) void this.#write(frame(PONG, got.data)).catch(() => {});
          else yield { text: got.opcode === TEXT, data: got.data };
        }
      }
    } catch (cause) {
      throw broken(this.server, cause, this.signal);
    }
  }

  /** Breaks off. */
  close(): void {
    this.socket.destroy();
  }

  #write(bytes: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = (cause?: Error | null) =>
        cause ? reject(broken(this.server, cause, this.signal)) : resolve();
      this.socket.write(bytes, done);
    });
  }
}

async function refused(asked: Server, answer: IncomingMessage, signal?: AbortSignal) {
  return refusal(answer.statusCode ?? 0, await gather(asked, answer, signal));
}

function acceptOf(key: string): string {
  const magic = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  return createHash("sha1")
    .update(key + magic)
    .digest("base64");
}

function framesOf(thing: string | Uint8Array): Buffer[] {
  if (typeof thing === "string") return [frame(TEXT, Buffer.from(thing))];
  const starts = Array.from(
    { length: Math.ceil(thing.length / MAX_MESSAGE) },
    (_, i) => i * MAX_MESSAGE,
  );
  return starts.map((at) => frame(BINARY, thing.subarray(at, at + MAX_MESSAGE)));
}

/** A frame of a client's, which must be masked. */
function frame(opcode: number, data: Uint8Array): Buffer {
  const long = data.length < 126 ? 0 : data.length < 65536 ? 2 : 8;
  const bytes = Buffer.alloc(2 + long + 4 + data.length);
  bytes[0] = 0x80 | opcode;
  bytes[1] = 0x80 | (long === 0 ? data.length : long === 2 ? 126 : 127);
  if (long === 2) bytes.writeUInt16BE(data.length, 2);
  if (long === 8) bytes.writeBigUInt64BE(BigInt(data.length), 2);
  const mask = randomBytes(4);
  mask.copy(bytes, 2 + long);
  const start = 6 + long;
  for (let i = 0; i < data.length; i++) bytes[start + i] = data[i]! ^ mask[i & 3]!;
  return bytes;
}

/** The first frame of what was heard, if all of it is there. */
function take(held: Buffer): { opcode: number; data: Buffer; end: number } | undefined {
  if (held.length < 2) return undefined;
  const short = held[1]!;
  const start = short === 126 ? 4 : short === 127 ? 10 : 2;
  if (held.length < start) return undefined;
  const length =
    start === 2 ? short : start === 4 ? held.readUInt16BE(2) : Number(held.readBigUInt64BE(2));
  const opcode = held[0]! & 0x0f;
  const whole = held[0]! >> 4 === 8 && [TEXT, BINARY, CLOSE, PING, PONG].includes(opcode);
  if (!whole || short & 0x80 || length > MAX_FRAME) throw new Error("no frame of our server's");
  const end = start + length;
  return held.length < end ? undefined : { opcode, data: held.subarray(start, end), end };
}
