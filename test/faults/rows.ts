import { callerRows } from "./caller-rows.ts";
import { clockRows } from "./clock-rows.ts";
import { keyServiceRows } from "./keyservice-rows.ts";
import { killRows } from "./kill-rows.ts";
import { limitRows } from "./limit-rows.ts";
import { podRows } from "./pod-rows.ts";
import { postgresRows } from "./postgres-rows.ts";
import { redisRows } from "./redis-rows.ts";
import type { Row } from "./row.ts";

/** All rows of the fault matrix that are run, and those that cannot be, in its order. */
export const rows: readonly Row[] = [
  ...redisRows,
  ...keyServiceRows,
  ...postgresRows,
  ...podRows,
  ...killRows,
  ...clockRows,
  ...callerRows,
  ...limitRows,
].toSorted((a, b) => Number.parseInt(a.name, 10) - Number.parseInt(b.name, 10));
