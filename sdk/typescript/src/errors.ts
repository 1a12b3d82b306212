/** The five kinds of failure, by the words that every skin of Lampyr has for them. */
export type ErrorKind =
  "usage" | "timeout" | "vm_crashed" | "connection_failed" | "session_disconnected";

/** What is known of a failure besides its sentence. */
export interface ErrorDetails {
  /** A next step. */
  hint?: string;
  /** The HTTP status that it came with. */
  status?: number;
  /** What a command had said on standard output before it failed. */
  stdout?: Uint8Array;
  /** What it had said on standard error. */
  stderr?: Uint8Array;
  cause?: unknown;
}

/** Whatever goes wrong in Lampyr. Each kind has a class of its own. */
export class LampyrError extends Error {
  /** What kind of failure it is. */
  readonly kind: ErrorKind;
  /** A next step, where there is one. */
  readonly hint: string | undefined;
  /** The HTTP status of the answer, where there was one: 404 is for what does not exist. */
  readonly status: number | undefined;
  readonly #stdout: Uint8Array;
  readonly #stderr: Uint8Array;

  constructor(kind: ErrorKind, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.kind = kind;
    this.hint = details.hint;
    this.status = details.status;
    this.#stdout = details.stdout ?? new Uint8Array();
    this.#stderr = details.stderr ?? new Uint8Array();
  }

  /** What the command had said on standard output by then, as text. */
  stdout(): string {
    return new TextDecoder().decode(this.#stdout);
  }

  /** What the command had said on standard error by then, as text. */
  stderr(): string {
    return new TextDecoder().decode(this.#stderr);
  }
}

/** What was asked for makes no sense, is in conflict with what is there, or is a
 * file that is not there. */
export class UsageError extends LampyrError {
  constructor(message: string, details?: ErrorDetails) {
    super("usage", message, details);
  }
}

/** Something took longer than it may. */
export class TimeoutError extends LampyrError {
  constructor(message: string, details?: ErrorDetails) {
    super("timeout", message, details);
  }
}

/** The virtual machine ended while it was needed. */
export class VmCrashedError extends LampyrError {
  constructor(message: string, details?: ErrorDetails) {
    super("vm_crashed", message, details);
  }
}

/** There is no way to the sandbox, or to Lampyr itself. */
export class ConnectionFailedError extends LampyrError {
  constructor(message: string, details?: ErrorDetails) {
    super("connection_failed", message, details);
  }
}

/** Who owned the sandbox has gone, and the sandbox with it. */
export class SessionDisconnectedError extends LampyrError {
  constructor(message: string, details?: ErrorDetails) {
    super("session_disconnected", message, details);
  }
}

/** A step of a snapshot's setup failed. What it said is in {@link output}. */
export class SetupError extends LampyrError {
  constructor(
    kind: ErrorKind,
    message: string,
    /** Which step it was, from 1. */
    readonly step: number,
    /** The end of what it said, both streams together. */
    readonly output: string,
    details?: ErrorDetails,
  ) {
    super(kind, message, details);
  }
}

const CLASSES = {
  usage: UsageError,
  timeout: TimeoutError,
  vm_crashed: VmCrashedError,
  connection_failed: ConnectionFailedError,
  session_disconnected: SessionDisconnectedError,
};

/** The kind of a word. One that this version does not know is a failed connection. */
export function kindOf(word: string): ErrorKind {
  return Object.hasOwn(CLASSES, word) ? (word as ErrorKind) : "connection_failed";
}

/** The error of a kind. */
export function errorOf(word: string, message: string, details?: ErrorDetails): LampyrError {
  return new CLASSES[kindOf(word)](message, details);
}

/** Whether an error says that something does not exist. */
export function isMissing(error: unknown): boolean {
  return hasStatus(error, 404);
}

/** Whether an error came with this HTTP status. */
export function hasStatus(error: unknown, status: number): boolean {
  return error instanceof LampyrError && error.status === status;
}
