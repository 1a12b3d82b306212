export {
  ConnectionFailedError,
  type ErrorKind,
  LampyrError,
  SessionDisconnectedError,
  SetupError,
  TimeoutError,
  UsageError,
  VmCrashedError,
} from "./errors.js";
export {
  type CollectOptions,
  type ExecEvent,
  ExecHandle,
  type ExecOptions,
  ExecOutput,
  type ExecSink,
  type ExitStatus,
  type Input,
  type StreamOptions,
} from "./exec.js";
export type { FsEntry, FsEntryKind, FsMetadata, SandboxFs, WriteOptions } from "./fs.js";
export { connectToSandbox, launchSandbox, runInSandbox } from "./launch.js";
export { ensureRuntime } from "./runtime.js";
export { type LogEntry, removeSandbox, Sandbox, SandboxHandle, type Undone } from "./sandbox.js";
export type { RuntimeOptions } from "./server.js";
export {
  buildSnapshot,
  defineSnapshot,
  exec,
  listSnapshots,
  removeSnapshot,
  shell,
  snapshotExists,
} from "./snapshots.js";
export type * from "./types.js";
export { ensureVolume, listVolumes, removeVolume, volumeExists } from "./volumes.js";
