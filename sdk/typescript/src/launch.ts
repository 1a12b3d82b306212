import { resolve } from "node:path";

import { call } from "./client.js";
import { Sandbox } from "./sandbox.js";
import type { LaunchOptions, Mount } from "./types.js";
import type { SandboxView } from "./wire.js";

/** Launches a sandbox from a snapshot, or from an image. It ends with this
 * process, however that ends, unless it is detached. */
export async function launchSandbox(options: LaunchOptions): Promise<Sandbox> {
  if (options.verbose) console.log(`[lampyr] launching ${options.name}`);
  const json = askOf(options);
  return new Sandbox(await call<SandboxView>("POST", "/v1/sandboxes", { json }), true);
}

/** Launches a sandbox, calls `fn` with it, and stops it, also when `fn` throws.
 * Returns what `fn` returned. */
export async function runInSandbox<T>(
  options: LaunchOptions,
  fn: (sandbox: Sandbox) => Promise<T> | T,
): Promise<T> {
  const sandbox = await launchSandbox(options);
  try {
    return await fn(sandbox);
  } finally {
    await sandbox.stop();
  }
}

/** A handle on a sandbox that another process launched and detached. */
export function connectToSandbox(name: string): Promise<Sandbox> {
  return Sandbox.connect(name);
}

function askOf(options: LaunchOptions): object {
  const { snapshot, image, name, resources, workdir, env, ports, net, checkpoints } = options;
  const mounts = Object.entries(options.mounts ?? {});
  return {
    snapshot,
    image,
    name,
    cpus: resources?.cpus,
    memory: resources?.memory,
    workdir,
    env,
    ports,
    mounts: Object.fromEntries(mounts.map(([place, mount]) => [place, absolute(mount)])),
    policy: net && { rules: net },
    checkpoints,
    overwrite: options.overwrite ?? true,
  };
}

/** A directory of this host is relative to where this process is, not the server. */
function absolute(mount: Mount): Mount {
  if (typeof mount === "string") return resolve(mount);
  return "directory" in mount ? { ...mount, directory: resolve(mount.directory) } : mount;
}
