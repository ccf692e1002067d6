/** What is known of Claude's models by their names. A name that is not Claude's is taken to do what all of them do. */

/** From these versions on, as major * 100 + minor. */
const structuredFrom = 405;
const adaptiveFrom = 406;
const adaptiveOnlyFrom = 407;

/** What a model takes. */
export interface ClaudeTraits {
  /** Whether it holds to a JSON schema by itself (`output_config.format`, strict tools). */
  readonly isStructured: boolean;
  /** Whether it decides itself how long to think, and is told an effort. */
  readonly isAdaptive: boolean;
  /** Whether it can be given a budget of tokens for thinking. */
  readonly takesBudget: boolean;
  /** Whether it can be given a temperature and the like. */
  readonly takesSampling: boolean;
}

/** @param model as Anthropic, Bedrock or Vertex AI spell it. */
export function claudeTraits(model: string): ClaudeTraits {
  const version = versionOf(model);
  return {
    isStructured: version >= structuredFrom,
    isAdaptive: version >= adaptiveFrom,
    takesBudget: version < adaptiveOnlyFrom,
    takesSampling: version < adaptiveOnlyFrom,
  };
}

/** claude-sonnet-4-5-20250929 is 405, claude-3-7-sonnet 307, claude-opus-5 500; 0 if the name says nothing. */
function versionOf(model: string): number {
  if (model.includes("claude-mythos-preview")) return adaptiveOnlyFrom;
  const match = /claude-(?:[a-z]+-)?(\d)(?:[-.](\d{1,2})(?!\d))?(?![\d.])/.exec(model);
  return match === null ? 0 : Number(match[1]) * 100 + Number(match[2] ?? 0);
}
