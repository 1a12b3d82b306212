import assert from "node:assert/strict";
import { test } from "node:test";

import { eventsOf, type ServerEvent } from "../dist/events.js";
import { LIMIT } from "./lab.js";

const STREAM = [
  'event: step\ndata: {"index":0,"description":"grüße"}\n\n',
  ":\n\n",
  'data: {"text":"a\\nb"}\nevent:output\n\n',
  "event: end\ndata: [1,\ndata: 2]\n\nevent: half\ndata: {",
].join("");

const EVENTS: ServerEvent[] = [
  { name: "step", data: { index: 0, description: "grüße" } },
  { name: "output", data: { text: "a\nb" } },
  { name: "end", data: [1, 2] },
];

async function read(...pieces: Uint8Array[]): Promise<ServerEvent[]> {
  async function* stream() {
    yield* pieces;
  }
  const events: ServerEvent[] = [];
  for await (const event of eventsOf(stream())) events.push(event);
  return events;
}

test(
  "events are read wherever the stream is cut, and one that is cut off is none",
  LIMIT,
  async () => {
    const bytes = Buffer.from(STREAM);
    for (let at = 0; at <= bytes.length; at++) {
      assert.deepEqual(await read(bytes.subarray(0, at), bytes.subarray(at)), EVENTS, `at ${at}`);
    }
    assert.deepEqual(await read(...[...bytes].map((byte) => Uint8Array.of(byte))), EVENTS);
  },
);

test("an event has an end, or an error has", LIMIT, async () => {
  const endless = new Array(9).fill(Buffer.alloc(1 << 20, "x"));
  await assert.rejects(read(...endless), /too long/);
});
