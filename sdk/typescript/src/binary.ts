import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";

import { ConnectionFailedError } from "./errors.js";

/** Where the `lampyr` program is: where it was said to be, `LAMPYR_BIN`, or the `PATH`. */
export function findBinary(said?: string): string {
  const named = said || process.env["LAMPYR_BIN"];
  if (named) {
    if (isProgram(named)) return named;
    throw new ConnectionFailedError(`${named} is no program that can be run`);
  }
  const folders = (process.env["PATH"] ?? "").split(delimiter).filter(Boolean);
  const found = folders.map((folder) => join(folder, "lampyr")).find(isProgram);
  if (found) return found;
  throw new ConnectionFailedError("there is no program lampyr on the PATH", {
    hint: "install it, or say in LAMPYR_BIN where it is",
  });
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
