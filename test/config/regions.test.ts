import assert from "node:assert/strict";
import { test } from "node:test";
import { behindWildcard } from "../../src/config/behind-wildcard.ts";
import type { Deployment } from "../../src/config/config.ts";
import { isWithin, regionNamed } from "../../src/config/regions.ts";
import { configOf } from "./temporary.ts";

type Context = Parameters<typeof configOf>[0];

async function deploymentOf(context: Context, params: object, file: object = {}): Promise<Deployment> {
  const entry = { model_name: "m", litellm_params: { api_key: "k", ...params } };
  const config = await configOf(context, JSON.stringify({ model_list: [entry], ...file }), { AWS_REGION: "eu-west-1" });
  const deployment = config.modelGroups.get("m")?.[0];
  assert.ok(deployment !== undefined);
  return deployment;
}

test("a deployment answers where its operator says, else where its cloud is called, else nobody knows where", async (context) => {
  const google = { model: "vertex_ai/gemini-2.5-pro" };
  const nova = "amazon.nova-pro-v1:0";
  const profile = (kind: string) => `bedrock/arn:aws:bedrock:eu-west-1:123456789012:${kind}`;
  const azure = { model: "azure/gpt", api_base: "https://a.openai.azure.com", api_version: "2025-01-01" };
  const rows: readonly (readonly [object, string | undefined])[] = [
    [{ model: "openai/gpt-4o" }, undefined],
    [{ model: "openai/gpt-4o", region_name: "EU" }, "eu"],
    [azure, undefined],
    [{ ...azure, region_name: "Sweden Central" }, "swedencentral"],
    [google, "us-central1"],
    [{ ...google, vertex_location: "europe-west4" }, "europe-west4"],
    [{ ...google, vertex_location: "global" }, "global"],
    [{ ...google, vertex_location: "global", region_name: "us" }, "us"],
    [{ model: `bedrock/${nova}` }, "eu-west-1"],
    [{ model: `bedrock/us-west-2/${nova}` }, "us-west-2"],
    [{ model: `bedrock/${nova}`, aws_region_name: "eu-north-1" }, "eu-north-1"],
    [{ model: `bedrock/${nova}`, region_name: "us-east-1" }, "us-east-1"],
    // Called in one region, answered anywhere within several.
    [{ model: `bedrock/eu.${nova}` }, "eu"],
    [{ model: "bedrock/global.anthropic.claude-sonnet-4-5-20250929-v1:0" }, "global"],
    [{ model: `bedrock/us-gov.${nova}`, aws_region_name: "us-gov-west-1" }, "us-gov"],
    [{ model: `bedrock/eu.${nova}`, region_name: "eu-west-3" }, "eu"],
    [{ model: profile(`inference-profile/us.${nova}`) }, "us"],
    [{ model: profile("application-inference-profile/a1b2") }, undefined],
    [{ model: profile("application-inference-profile/a1b2"), region_name: "eu" }, "eu"],
    [{ model: profile(`foundation-model/${nova}`) }, "eu-west-1"],
  ];
  for (const [params, region] of rows) {
    assert.equal((await deploymentOf(context, params)).region, region, JSON.stringify(params));
  }
  const called = await deploymentOf(context, { model: `bedrock/${nova}`, region_name: "eu" });
  assert.match(
    called.apiBase ?? "",
    /bedrock-runtime\.eu-west-1\./,
    "an area is no region that AWS could be called in",
  );
});

test("a region is within itself and its area; London and Zurich are not in the European Union, and nowhere is nowhere", () => {
  const inEu = ["eu", "eu-central-1", "europe-west9", "germanywestcentral", "westeurope"];
  const inUs = ["us", "us-east-1", "us-gov", "us-central1", "eastus2", "westus"];
  const elsewhere = ["eu-west-2", "eu-central-2", "europe-west2", "europe-west6", "uksouth", "switzerlandnorth"].concat(
    ["global", "apac", "ap-south-1", "australiaeast", "ca-central-1", "us-nowhere"],
  );
  for (const region of [...inEu, ...inUs, ...elsewhere]) {
    const areas = ["eu", "us"].filter((area) => isWithin(region, area));
    assert.deepEqual(areas, inEu.includes(region) ? ["eu"] : inUs.includes(region) ? ["us"] : [], region);
    assert.ok(isWithin(region, region));
  }
  assert.equal(isWithin("eu", "eu-central-1"), false, "it may be another one of the area");
  assert.equal(isWithin(undefined, "eu"), false);
  assert.equal(regionNamed(" North  Europe "), "northeurope");
});

test("of each model behind a wildcard it is known where it answers and how much fits into it", async (context) => {
  const checked = { router_settings: { enable_pre_call_checks: true } };
  const bedrock = await deploymentOf(context, { model: "bedrock/*" });
  const at = (wildcard: Deployment, model: string) => behindWildcard(wildcard, model, Date.parse("2026-11-23")).region;
  assert.equal(at(bedrock, "amazon.nova-pro-v1:0"), "eu-west-1");
  assert.equal(at(bedrock, "us.amazon.nova-pro-v1:0"), "us");
  const said = await deploymentOf(context, { model: "bedrock/*", region_name: "eu" });
  assert.equal(at(said, "us.amazon.nova-pro-v1:0"), "eu", "the operator knows better");
  const openai = await deploymentOf(context, { model: "openai/*" }, checked);
  const fitting = (wildcard: Deployment, model: string) => behindWildcard(wildcard, model, 0).contextTokens;
  assert.equal(fitting(openai, "gpt-4o-mini"), 134_400);
  assert.equal(fitting(openai, "nobodys"), undefined);
});
