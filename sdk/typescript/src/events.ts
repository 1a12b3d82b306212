/** An event of a stream of them: its name, and its data as JSON. */
export interface ServerEvent {
  name: string;
  data: unknown;
}

/** The longest event that a server of ours sends, in characters, and much more. */
const MAX_EVENT = 8 << 20;

/** Reads Server-Sent Events, as our server writes them: each has a name and data. */
export async function* eventsOf(stream: AsyncIterable<Uint8Array>): AsyncGenerator<ServerEvent> {
  const decoder = new TextDecoder();
  let held = "";
  for await (const bytes of stream) {
    // What is held has no end in it, but perhaps the first half of one.
    let from = Math.max(held.length - 1, 0);
    held += decoder.decode(bytes, { stream: true });
    for (let end; (end = held.indexOf("\n\n", from)) >= 0; from = 0) {
      const event = eventOf(held.slice(0, end));
      held = held.slice(end + 2);
      if (event) yield event;
    }
    if (held.length > MAX_EVENT) throw new Error("an event of the server's is too long");
  }
}

/** One event; a comment, which only keeps the connection alive, is none. */
function eventOf(block: string): ServerEvent | undefined {
  const fields = block.split("\n").map((line) => /^(event|data): ?(.*)$/.exec(line));
  const all = (name: string) => fields.filter((field) => field?.[1] === name);
  const [name] = all("event");
  if (!name) return undefined;
  const data = all("data").map((field) => field?.[2]);
  return { name: name[2] ?? "", data: JSON.parse(data.join("\n")) };
}
