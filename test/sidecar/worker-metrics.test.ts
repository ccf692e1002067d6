import assert from "node:assert/strict";
import { test } from "node:test";
import { mergeMetrics } from "../../sidecar/worker-metrics.ts";

test("each sample says whose it is, and a family stands in one place", () => {
  const of = (calls: number) => `# HELP calls_total Calls.
# TYPE calls_total counter
calls_total{model="a b",code="ok"} ${calls}
# HELP seconds How long.
# TYPE seconds histogram
seconds_bucket{le="+Inf"} 3 # {trace_id="00ff"} 0.5 1.000
seconds_count 3
# HELP up Whether.
# TYPE up gauge
up 1
# EOF
`;
  assert.equal(
    mergeMetrics(
      new Map([
        [0, of(2)],
        [1, of(5)],
      ]),
    ),
    `# HELP calls_total Calls.
# TYPE calls_total counter
calls_total{worker="0",model="a b",code="ok"} 2
calls_total{worker="1",model="a b",code="ok"} 5
# HELP seconds How long.
# TYPE seconds histogram
seconds_bucket{worker="0",le="+Inf"} 3 # {trace_id="00ff"} 0.5 1.000
seconds_count{worker="0"} 3
seconds_bucket{worker="1",le="+Inf"} 3 # {trace_id="00ff"} 0.5 1.000
seconds_count{worker="1"} 3
# HELP up Whether.
# TYPE up gauge
up{worker="0"} 1
up{worker="1"} 1
# EOF
`,
  );
});

test("families that only some workers have are there, and the plain form has no end", () => {
  const texts = new Map([
    [0, "# HELP a A.\n# TYPE a gauge\na 1\n"],
    [2, "# HELP b B.\n# TYPE b gauge\nb 2\n"],
  ]);
  assert.equal(
    mergeMetrics(texts),
    '# HELP a A.\n# TYPE a gauge\na{worker="0"} 1\n# HELP b B.\n# TYPE b gauge\nb{worker="2"} 2\n',
  );
});
