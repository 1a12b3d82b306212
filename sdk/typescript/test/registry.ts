import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";

import { eventually, ROOT } from "./lab.js";

/** Where `cargo xtask test` leaves images of Debian's packages. */
const IMAGES = process.env["LAMPYR_TEST_IMAGES"] ?? join(ROOT, "../../target/test-images-2");
const LAYOUT = join(IMAGES, "usual");

/** Why there can be no registry here; nothing if there can. */
export function lacking(): string | undefined {
  if (!existsSync(LAYOUT)) return "there are no images of Debian's packages";
  const missing = ["docker-registry", "skopeo"].find((name) => spawnSync(name, ["--help"]).error);
  return missing && `there is no ${missing}`;
}

/** The distribution's registry on loopback, with the image that has Node, npm
 * and Python under each of these names. */
export async function registry(folder: string, names: string[]) {
  const host = `localhost:${await freePort()}`;
  mkdirSync(join(folder, "storage"), { recursive: true });
  const storage = { filesystem: { rootdirectory: join(folder, "storage") } };
  const config = { version: "0.1", storage, http: { addr: host } };
  writeFileSync(join(folder, "config.yml"), JSON.stringify(config));
  const child = spawn("docker-registry", ["serve", join(folder, "config.yml")], { stdio: "ignore" });
  await eventually("the registry listens", () => fetched(`http://${host}/v2/`));
  for (const name of names) {
    const to = `docker://${host}/${name}`;
    const words = ["copy", "--quiet", "--dest-tls-verify=false", `oci:${LAYOUT}:packages`, to];
    const { status, stderr } = spawnSync("skopeo", words, { timeout: 60_000 });
    if (status !== 0) throw new Error(`${stderr}`);
  }
  return { host, stop: () => child.kill() };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function fetched(url: string): Promise<boolean> {
  return fetch(url).then(
    ({ ok }) => ok,
    () => false,
  );
}
