import { call } from "./client.js";
import { type RuntimeOptions, server } from "./server.js";

/** Finds Lampyr and starts its server, which every other call does, too. Call it
 * first to say which Lampyr is to be used, or to hear early that there is none. */
export async function ensureRuntime(options: RuntimeOptions = {}): Promise<{ version: string }> {
  await server(options);
  const { version } = await call<{ version: string }>("GET", "/v1/health");
  return { version };
}
