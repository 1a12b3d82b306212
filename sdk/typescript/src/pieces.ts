import { UsageError } from "./errors.js";

/** The most that is held in memory of one answer or stream, in bytes. */
const MOST = 1 << 30;

/** Bytes that come in pieces, up to a bound. */
export class Pieces {
  readonly #pieces: Uint8Array[] = [];
  #length = 0;

  push(piece: Uint8Array): void {
    this.#length += piece.length;
    if (this.#length > MOST) {
      const hint = "copy a file with copyOut, and take output as it comes with execStream";
      throw new UsageError("it is too long to be held in memory", { hint });
    }
    this.#pieces.push(piece);
  }

  bytes(): Buffer {
    return Buffer.concat(this.#pieces);
  }
}
