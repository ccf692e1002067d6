import { Session } from "node:inspector"; import { writeFileSync } from "node:fs";
const se = new Session(); se.connect(); let on = false;
process.on("SIGUSR2", () => { if (!on) { on = true; se.post("HeapProfiler.enable"); se.post("HeapProfiler.startSampling", { samplingInterval: 512, includeObjectsCollectedByMajorGC: true, includeObjectsCollectedByMinorGC: true } as any); } else { se.post("HeapProfiler.stopSampling", (e, r) => { writeFileSync("/tmp/heap.json", JSON.stringify((r as any).profile)); on = false; }); } console.log("heap " + process.memoryUsage().heapUsed + " ext 0"); });
