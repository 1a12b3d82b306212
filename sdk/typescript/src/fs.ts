import { call, callForBytes, callForStream, route } from "./client.js";
import { copyIn, copyOut } from "./copy.js";
import { isMissing } from "./errors.js";
import type { FileView } from "./wire.js";

/** What a name stands for. */
export type FsEntryKind = "file" | "directory" | "symlink" | "other";

/** What is known of a file. */
export interface FsMetadata {
  kind: FsEntryKind;
  /** How long it is, in bytes. */
  size: number;
  /** Its permissions. */
  mode: number;
  modified: Date;
}

/** An entry of a directory. */
export interface FsEntry extends FsMetadata {
  /** Its path, absolute. */
  path: string;
}

/** How to write a file. */
export interface WriteOptions {
  /** Its permissions. Default: those that it had, or 0o644. */
  mode?: number;
  /** Make directories that are missing. Default: false. */
  parents?: boolean;
}

/** The files of a sandbox. Paths are absolute, and everything is done as root. */
export class SandboxFs {
  readonly #sandbox: string;

  /** @internal */
  constructor(sandbox: string) {
    this.#sandbox = sandbox;
  }

  /** A file's bytes. */
  read(path: string): Promise<Uint8Array> {
    return callForBytes("GET", this.#route(""), { query: { path } });
  }

  /** A file as text. */
  async readToString(path: string): Promise<string> {
    return (await callForBytes("GET", this.#route(""), { query: { path } })).toString("utf8");
  }

  /** A file's bytes as they come. */
  readStream(path: string): AsyncIterable<Uint8Array> {
    return callForStream("GET", this.#route(""), { query: { path } });
  }

  /** Writes a file. It has its name once all of it is there. */
  write(
    path: string,
    data: string | Uint8Array | AsyncIterable<Uint8Array>,
    { mode, parents }: WriteOptions = {},
  ): Promise<void> {
    const query = { path, mode: mode?.toString(8), parents: parents || undefined };
    const body = typeof data === "string" ? Buffer.from(data) : data;
    return call("PUT", this.#route(""), { query, body });
  }

  /** What is in a directory, by name. */
  async list(path: string): Promise<FsEntry[]> {
    const views = await call<FileView[]>("GET", this.#route("/list"), { query: { path } });
    const folder = path.endsWith("/") ? path : `${path}/`;
    return views.map((view) => ({ path: folder + view.name, ...metadataOf(view) }));
  }

  /** Makes a directory, and those that it lies in. One that is there is no error. */
  mkdir(path: string): Promise<void> {
    return call("POST", this.#route("/mkdir"), { json: { path, parents: true } });
  }

  /** Removes a file. */
  remove(path: string): Promise<void> {
    return call("DELETE", this.#route(""), { query: { path } });
  }

  /** Removes a directory and what is in it. */
  removeDir(path: string): Promise<void> {
    return call("DELETE", this.#route(""), { query: { path, recursive: true } });
  }

  /** Gives a file another path; what is there is replaced. */
  rename(from: string, to: string): Promise<void> {
    return call("POST", this.#route("/move"), { json: { from, to } });
  }

  /** What is known of a file; of what a link leads to. */
  async stat(path: string): Promise<FsMetadata> {
    return metadataOf(await call<FileView>("GET", this.#route("/stat"), { query: { path } }));
  }

  /** Whether there is something at a path. */
  exists(path: string): Promise<boolean> {
    const query = { path, follow: false };
    return call("GET", this.#route("/stat"), { query }).then(
      () => true,
      (error) => {
        if (isMissing(error)) return false;
        throw error;
      },
    );
  }

  /** Copies a file or a directory of this host into the sandbox. */
  copyFromHost(hostPath: string, guestPath: string): Promise<void> {
    return copyIn(this.#sandbox, hostPath, guestPath);
  }

  /** Copies a file or a directory of the sandbox to this host. */
  copyToHost(guestPath: string, hostPath: string): Promise<void> {
    return copyOut(this.#sandbox, guestPath, hostPath);
  }

  #route(what: string): string {
    return route`/v1/sandboxes/${this.#sandbox}/files` + what;
  }
}

function metadataOf({ kind, size, mode, modified_ms }: FileView): FsMetadata {
  return { kind, size, mode: parseInt(mode, 8), modified: new Date(modified_ms) };
}
