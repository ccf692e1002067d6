/** Where each program begins: what has to be set before anything else is loaded. */

import { enableCompileCache } from "node:module";
import { setFlagsFromString } from "node:v8";
import { keepTickShape } from "./kept-shape.ts";

// V8 makes what it saw to live long among the old at once. A gateway begins with many calls under way, in which everything does; what later
// calls make at the same places would be collected with the whole heap only, instead of with the young: a sixth of a call's CPU.
setFlagsFromString("--no-allocation-site-pretenuring");
// When there have been no calls for some seconds, V8 collects so that as little as possible is left. With that goes most of what it has compiled, and for two
// seconds the next calls cost seven times as much; pods have pauses like that all day. So it collects without that aim, and most of the
// code stays; memory is given back after a longer rest (`quiet-collection.ts`).
setFlagsFromString("--no-memory-reducer-favors-memory");
// While V8 marks the whole heap, some 60 ms each time, calls wait: at 2,500 a second on one core one in a hundred of them 60 ms. It did so for each 5 MB that
// had grown old, every 2 s; for as much as was left after the last time it is every 8 s.
setFlagsFromString("--heap-growing-percent=100");
keepTickShape();

// Node's own reports of a crash would have the environment in them, and with it secrets.
if (process.report !== undefined) process.report.excludeEnv = true;

// Half of a start is compiling what was compiled at the last; where nothing can be kept (NODE_COMPILE_CACHE says where), it is done again. It
// holds for what is loaded from here on: nothing but this file must be loaded before.
enableCompileCache();
const { runCommand } = await import("./commands.ts");
await runCommand(process.argv.slice(2));
