/** What the server says, in its own words. */

export interface SandboxView {
  id: string;
  name: string | null;
  image: string;
  cpus: number;
  memory: number;
  created: string;
  status: "running" | "dead";
  attached: boolean;
}

export interface SnapshotView {
  name: string | null;
  damaged?: string;
  digest: string;
  created: string;
  image: string;
  cpus: number;
  memory: number;
  labels: Record<string, string>;
  parent: { digest: string; name: string | null } | null;
  own_bytes: number;
  total_bytes: number;
  pause_ms: number;
}

export interface VolumeView {
  name: string;
  size_bytes: number;
  quota_bytes: number | null;
  labels: Record<string, string>;
  created: string;
  last_used: string | null;
}

export interface FileView {
  name: string;
  kind: "file" | "directory" | "symlink" | "other";
  size: number;
  mode: string;
  modified_ms: number;
  target?: string;
}

/** How a command went: it ended, or it failed. */
export interface Envelope {
  exit_code?: number;
  stdout?: string;
  stderr?: string;
  error?: string;
  message?: string;
  hint?: string;
  partial_stdout?: string;
  partial_stderr?: string;
  stdout_bytes?: string;
  stderr_bytes?: string;
  duration_ms: number;
  meta?: Record<string, unknown>;
}
