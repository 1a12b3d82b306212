/** An amount of memory: `"512M"` or `"2G"`. */
export type Memory = `${number}M` | `${number}G`;

/** How large a virtual machine is. */
export interface SnapshotResources {
  /** Virtual processors. */
  cpus?: number;
  /** Memory, as in `"512M"` or `"2G"`. */
  memory?: Memory;
}

/** A script that /bin/sh runs. */
export interface ShellStep {
  kind: "shell";
  script: string;
  /** What to call the step while it runs and when it fails. */
  description?: string;
}

/** A program and its arguments, run without a shell. */
export interface ExecStep {
  kind: "exec";
  cmd: string;
  args?: string[];
  /** What to call the step while it runs and when it fails. */
  description?: string;
}

/** A step of a snapshot's setup. A string is a script. */
export type SetupStep = string | ShellStep | ExecStep;

/** What a snapshot is made from. */
export interface SnapshotConfig {
  /** The snapshot's name. */
  name: string;
  /** The image to start from: a registry's, or one that is here. */
  image: string;
  /** The size of the builder, which what is launched from the snapshot has, too. */
  resources?: SnapshotResources;
  /** Where the steps run. It must exist, or be made by a step. */
  workdir?: string;
  /** Environment variables of the steps. */
  env?: Record<string, string>;
  /** What is done in the builder, in order. */
  setup?: SetupStep[];
  /** What is noted about the snapshot. */
  labels?: Record<string, string>;
  /** What the builder may reach, as rules: `"pypi.org:443"`. Nothing where it is left out. */
  net?: string[];
}

/** A config whose `setup` is there, for callers to add to. */
export interface PresetConfig extends SnapshotConfig {
  setup: SetupStep[];
}

/** How to build a snapshot. */
export interface BuildOptions {
  /** An earlier snapshot of the name is replaced, not an error. Default: true. */
  overwrite?: boolean;
  /** Keep the builder, `NAME-builder`, running. Default: false. */
  debugBuilder?: boolean;
  /** Print the steps and what they say. Default: false. */
  verbose?: boolean;
}

/** What a sandbox sees of this host: a directory, or a volume. */
export type Mount =
  string | { volume: string; readonly?: boolean } | { directory: string; readonly?: boolean };

/** What to launch. */
export interface LaunchOptions {
  /** The snapshot to start from. */
  snapshot?: string;
  /** The image to start from where there is no snapshot. Default: Lampyr's own. */
  image?: string;
  /** The sandbox's name. */
  name: string;
  /** Its size. A snapshot has a size already, and no other is possible. */
  resources?: SnapshotResources;
  /** Where commands start that say nothing else. */
  workdir?: string;
  /** Environment variables of all commands. */
  env?: Record<string, string>;
  /** Ports of 127.0.0.1 that lead to ports of the sandbox: `{ 8080: 80 }`. */
  ports?: Record<number, number>;
  /** What it sees of this host, by where it sees it. */
  mounts?: Record<string, Mount>;
  /** What it may reach, as rules: `"api.example.com:443"`. Nothing where it is left out. */
  net?: string[];
  /** Points to go back to by `undo`: one before each command, at most so many. */
  checkpoints?: number;
  /** An earlier sandbox of the name is stopped, not an error. Default: true. */
  overwrite?: boolean;
  /** Print a line before it is launched. Default: false. */
  verbose?: boolean;
}

/** A snapshot that there is. */
export interface SnapshotRecord {
  /** Its name; null for one that only others are built on. */
  name: string | null;
  digest: string;
  /** The image that it was built from. */
  imageRef: string;
  createdAt: Date;
  /** What it takes on the disk, with all that it is built on, in bytes. */
  sizeBytes: bigint;
  /** What it takes by itself, in bytes. */
  ownBytes: bigint;
  cpus: number;
  memoryBytes: number;
  labels: Record<string, string>;
  /** What it was built on. */
  parent: { digest: string; name: string | null } | null;
  /** What is wrong with it, where it cannot be read: all else but its name is
   * empty then, and it can be removed. */
  damaged?: string;
}

/** A snapshot of a sandbox, and how long the sandbox stood still for it. */
export interface TakenSnapshot extends SnapshotRecord {
  pauseMs: number;
}

/** How to take a snapshot of a sandbox. */
export interface SnapshotOptions {
  /** An earlier snapshot of the name is replaced, not an error. Default: true. */
  overwrite?: boolean;
  /** What is noted about it. */
  labels?: Record<string, string>;
  /** Take it even of a sandbox that has secrets. Their values are in no
   * snapshot. Default: false. */
  withSecrets?: boolean;
}

/** How to fork a sandbox. */
export interface ForkOptions {
  /** Fork even one that has secrets. The forks have none. Default: false. */
  withSecrets?: boolean;
}

/** A volume that there is. */
export interface VolumeRecord {
  name: string;
  /** The most that may be in it, in MiB; null where nothing bounds it. */
  quotaMib: number | null;
  /** What is in it, in bytes. */
  usedBytes: number;
  labels: Record<string, string>;
  createdAt: Date;
  /** When it was last mounted. */
  lastUsedAt: Date | null;
}

/** What a volume is to be that is not there yet. */
export interface EnsureVolumeOptions {
  /** The most that may be in it, in MiB. Nothing bounds it where it is left out. */
  quotaMib?: number;
  /** What is noted about it. */
  labels?: Record<string, string>;
}

/** How to remove something. */
export interface RemoveOptions {
  /** Remove a sandbox that runs, or a snapshot and all that was built on it. Default: false. */
  force?: boolean;
}
