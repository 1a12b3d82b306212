import { call, callForStream, route } from "./client.js";
import { ConnectionFailedError, errorOf, hasStatus, isMissing, kindOf, SetupError } from "./errors.js";
import { eventsOf, type ServerEvent } from "./events.js";
import { recordOf } from "./records.js";
import type {
  BuildOptions,
  ExecStep,
  RemoveOptions,
  ShellStep,
  SnapshotConfig,
  SnapshotRecord,
} from "./types.js";
import type { SnapshotView } from "./wire.js";

/** Its argument, with the type that it has. */
export function defineSnapshot<T extends SnapshotConfig>(config: T): T {
  return config;
}

/** A step of a setup that /bin/sh runs. */
export function shell(script: string, description?: string): ShellStep {
  return { kind: "shell", script, description };
}

/** A step of a setup that runs a program without a shell. */
export function exec(cmd: string, args?: string[], description?: string): ExecStep {
  return { kind: "exec", cmd, args, description };
}

/** Builds a snapshot: starts `NAME-builder` from the image, runs the steps in
 * order, takes the snapshot, and removes the builder. A step that fails is a
 * {@link SetupError}, and leaves an earlier snapshot of the name as it was. */
export async function buildSnapshot(
  config: SnapshotConfig,
  { overwrite = true, debugBuilder = false, verbose = false }: BuildOptions = {},
): Promise<SnapshotRecord> {
  const json = { config, overwrite, debugBuilder };
  const ask = { json, accept: "text/event-stream" };
  let step: Step | undefined;
  for await (const event of eventsOf(callForStream("POST", "/v1/snapshots/build", ask))) {
    if (verbose) show(event);
    if (event.name === "step") step = event.data as Step;
    if (event.name === "built") return recordOf(event.data as SnapshotView);
    if (event.name === "failed") throw failureOf(event.data as Failed, step);
  }
  throw new ConnectionFailedError("lampyr's server broke off the build");
}

type Step = { index: number; count: number; description: string };
type Piece = { stream: "stdout" | "stderr"; data: string; data_bytes?: string };
type Failed = { error: string; message: string; hint?: string; step?: unknown; output?: string };

/** Why a build failed: at a step, which it says then, or at something else. */
function failureOf({ error, message, hint, output, ...at }: Failed, step?: Step): Error {
  if (at.step === undefined || !step) return errorOf(error, message, { hint });
  return new SetupError(kindOf(error), message, step.index, output ?? "", { hint });
}

/** Prints what a build is doing. */
function show({ name, data }: ServerEvent): void {
  if (name === "step") {
    const { index, count, description } = data as Step;
    console.log(`[lampyr] ${index}/${count} ${description}`);
  } else if (name === "output") {
    const { stream, data: text, data_bytes } = data as Piece;
    process[stream].write(data_bytes === undefined ? text : Buffer.from(data_bytes, "base64"));
  }
}

/** The HTTP status of a snapshot that is there, and of no use. */
const DAMAGED = 422;

/** All snapshots that there are, also those that are `damaged`. */
export async function listSnapshots(): Promise<SnapshotRecord[]> {
  return (await call<SnapshotView[]>("GET", "/v1/snapshots")).map(recordOf);
}

/** Whether there is a snapshot of the name, be it damaged. */
export async function snapshotExists(name: string): Promise<boolean> {
  return call("GET", route`/v1/snapshots/${name}`).then(
    () => true,
    (error) => {
      if (isMissing(error)) return false;
      if (hasStatus(error, DAMAGED)) return true;
      throw error;
    },
  );
}

/** Removes a snapshot. One that is not there is no error; one that others were
 * built on is, without `force`, which removes those, too. */
export async function removeSnapshot(name: string, { force }: RemoveOptions = {}): Promise<void> {
  const query = { force: force || undefined };
  await call("DELETE", route`/v1/snapshots/${name}`, { query }).catch((error) => {
    if (!isMissing(error)) throw error;
  });
}
