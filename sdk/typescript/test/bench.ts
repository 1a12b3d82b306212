// What a command costs over the same through the session's socket: the server
// says how long it took from there, in whole milliseconds. `npm run bench`.

import { runInSandbox } from "lampyr";

import { fresh } from "./lab.js";

const TIMES = 500;

const median = (times: number[]) => [...times].sort((a, b) => a - b)[times.length >> 1] ?? NaN;

await runInSandbox({ name: fresh("bench") }, async (sandbox) => {
  const whole: number[] = [];
  const over: number[] = [];
  for (let i = 0; i < TIMES; i++) {
    const begun = performance.now();
    const { durationMs } = await sandbox.exec("true");
    const took = performance.now() - begun;
    whole.push(took);
    // Half a millisecond is what cutting takes off in the middle.
    over.push(took - durationMs - 0.5);
  }
  console.log(
    `exec("true"): ${median(whole).toFixed(2)} ms, ${median(over).toFixed(2)} ms of it over the socket's`,
  );
});
