import { once } from "node:events";

import { type Command, ExecHandle, type ExecOptions, type ExecSink } from "./exec.js";

/** A terminal's size where there is none to ask. */
const SIZE = { rows: 24, columns: 80 };

/** Gives a command this process's terminal until it ends. Returns its exit code. */
export async function attach(
  sandbox: string,
  command: Command,
  options: Omit<ExecOptions, "stdin"> = {},
): Promise<number> {
  const env = { TERM: process.env["TERM"] || "xterm-256color", ...options.env };
  const tty = sizeOf(process.stdout);
  const handle = await ExecHandle.start(sandbox, command, {
    ...options,
    env,
    tty,
    pipeStdin: true,
  });
  const letGo = hold(handle, await handle.takeStdin());
  try {
    return await show(handle);
  } finally {
    letGo();
  }
}

/** Passes on keys and sizes of this process's terminal, until what it returns is called. */
function hold(handle: ExecHandle, keys: ExecSink | null): () => void {
  const { stdin, stdout } = process;
  // A command that has ended hears nothing.
  const tell = (said: Promise<void> | undefined) => void said?.catch(() => {});
  const type = (bytes: Buffer) => tell(keys?.write(bytes));
  const close = () => tell(keys?.close());
  const fit = () => tell(handle.resize(sizeOf(stdout).rows, sizeOf(stdout).columns));
  const raw = stdin.isTTY && !stdin.isRaw;
  if (raw) stdin.setRawMode(true);
  stdin.on("data", type).once("end", close).resume();
  stdout.on("resize", fit);
  return () => {
    stdout.off("resize", fit);
    stdin.off("data", type).off("end", close).pause();
    if (raw) stdin.setRawMode(false);
  };
}

/** Prints what a command says at the pace of who reads it. */
async function show(handle: ExecHandle): Promise<number> {
  for await (const event of handle) {
    if (event.kind === "exited") return event.code;
    if (!process.stdout.write(event.data)) await once(process.stdout, "drain");
  }
  return -1;
}

function sizeOf({ rows, columns }: { rows?: number; columns?: number }): typeof SIZE {
  return { rows: rows || SIZE.rows, columns: columns || SIZE.columns };
}
