import { spawn } from "node:child_process";
import { resolve } from "node:path";

import { ConnectionFailedError, UsageError } from "./errors.js";
import { server } from "./server.js";

/** How much of what a copy complains of is kept, in characters. */
const MOST = 4096;

/** Copies a file or a directory of this host into a sandbox. */
export function copyIn(sandbox: string, local: string, remote: string): Promise<void> {
  return copy(resolve(local), `${sandbox}:${remote}`);
}

/** Copies a file or a directory of a sandbox to this host. */
export function copyOut(sandbox: string, remote: string, local: string): Promise<void> {
  return copy(`${sandbox}:${remote}`, resolve(local));
}

/** `lampyr cp` knows what to trust of a guest. */
async function copy(source: string, target: string): Promise<void> {
  const { bin, env } = await server();
  const child = spawn(bin, ["cp", source, target], { env, stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.setEncoding("utf8");
  child.stderr.on("data", (text: string) => (said = (said + text).slice(0, MOST)));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", (cause) =>
      reject(new ConnectionFailedError("lampyr cannot be started", { cause })),
    );
    child.once("close", resolve);
  });
  if (code !== 0) throw complaint(said);
}

/** What it printed: a line with the error, and one with a hint. */
function complaint(said: string): UsageError {
  const line = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(said)?.[1];
  return new UsageError(line("error") ?? "the copy was broken off", { hint: line("hint") });
}
