import type { SnapshotRecord, VolumeRecord } from "./types.js";
import type { SnapshotView, VolumeView } from "./wire.js";

const MIB = 1 << 20;

/** A snapshot as callers know it. */
export function recordOf(view: SnapshotView): SnapshotRecord {
  return {
    name: view.name,
    digest: view.digest,
    imageRef: view.image,
    createdAt: new Date(view.created),
    sizeBytes: BigInt(view.total_bytes),
    ownBytes: BigInt(view.own_bytes),
    cpus: view.cpus,
    memoryBytes: view.memory,
    labels: view.labels,
    parent: view.parent,
    ...(view.damaged !== undefined && { damaged: view.damaged }),
  };
}

/** A volume as callers know it. */
export function volumeOf(view: VolumeView): VolumeRecord {
  return {
    name: view.name,
    quotaMib: view.quota_bytes === null ? null : view.quota_bytes / MIB,
    usedBytes: view.size_bytes,
    labels: view.labels,
    createdAt: new Date(view.created),
    lastUsedAt: view.last_used === null ? null : new Date(view.last_used),
  };
}
