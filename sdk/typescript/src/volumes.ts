import { call, route } from "./client.js";
import { isMissing } from "./errors.js";
import { volumeOf } from "./records.js";
import type { EnsureVolumeOptions, VolumeRecord } from "./types.js";
import type { VolumeView } from "./wire.js";

/** All volumes that there are, by name. */
export async function listVolumes(): Promise<VolumeRecord[]> {
  return (await call<VolumeView[]>("GET", "/v1/volumes")).map(volumeOf);
}

/** Whether there is a volume of the name. */
export async function volumeExists(name: string): Promise<boolean> {
  return call("GET", route`/v1/volumes/${name}`).then(
    () => true,
    (error) => {
      if (isMissing(error)) return false;
      throw error;
    },
  );
}

/** Makes a volume, unless it is there; one that is there stays as it is. */
export async function ensureVolume(
  name: string,
  { quotaMib, labels }: EnsureVolumeOptions = {},
): Promise<VolumeRecord> {
  const json = { quota: quotaMib === undefined ? undefined : `${quotaMib}M`, labels };
  return volumeOf(await call("PUT", route`/v1/volumes/${name}`, { json }));
}

/** Removes a volume and what is in it. One that is not there is no error; one
 * that is mounted is. */
export async function removeVolume(name: string): Promise<void> {
  await call("DELETE", route`/v1/volumes/${name}`).catch((error) => {
    if (!isMissing(error)) throw error;
  });
}
