/**
 * The inference core in JavaScript: reads the artifact that `router-ml fit` writes, and decides as `router_ml.core` does.
 *
 *     const router = await Router.load("router.onnx");
 *     const decision = await router.route("What is 2+2?"); // { tier, model, p_meets, quality, cost_usd, policy, parameter, reason, novelty }
 *
 * It mirrors, under the same names, `core/artifact.py` (the format), `core/text.py` (the text that is embedded),
 * `core/features.py` (what the graph is given of it), `core/limits.py`, `core/policy.py` and `core/decide.py` (the decision);
 * where one of them changes, this file has to follow. Of the core's options it takes those that `route` names here; promises and
 * other limits are the Python core's.
 */

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";

import { Tokenizer } from "@huggingface/tokenizers";
import { InferenceSession, Tensor } from "onnxruntime-node";

const SCHEMA_VERSION = "5";
const RENDER_VERSION = "5";
const HEAD_CHARS = 2304;
const TAIL_CHARS = 768;
const MAX_CHARS = HEAD_CHARS + TAIL_CHARS;
const INPUTS = ["feature_ids", "feature_weights"];

/** A text's features (core/features.py): pairs of tokens have the ids below `N_PAIRS`, tokens those from there on. */
const N_PAIRS = 65521;
const PAIR_MULTIPLIER = 1_000_003; // times a token id it is well below 2^53
const PAIR_START = 32768;

/** The parameter of each kind of policy; null: it has none. */
const PARAMETERS = { shortfall: "epsilon", threshold: "p_meets", utility: "quality_per_usd", reference: null, single: null };

/** What Python's `str.split` splits at; JavaScript's `\s` lacks some of it, and has U+FEFF besides. */
const WHITE_SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u;

/** Base of this module's errors; each message says what was got, what was needed and what to do. */
export class RouterError extends Error {
  name = this.constructor.name;
}
/** A file that isn't a router-ml artifact, is damaged, or that this client can't run. */
export class ArtifactError extends RouterError {}
/** An option out of its range. */
export class InputError extends RouterError {}
/** A query that can't be rendered, or that no tier may take. */
export class QueryError extends InputError {}

/** Decides, for each query, which tier is the cheapest that will still be good enough. Make one with `Router.load`. */
export class Router {
  #session;
  #tokenizer;

  constructor(metadata, tokenizer, session) {
    this.metadata = metadata;
    this.ladder = metadata.ladder;
    this.#tokenizer = tokenizer;
    this.#session = session;
  }

  /**
   * Load an artifact, after verifying it.
   *
   * @param {string} path The `.onnx` file that `router-ml fit` wrote.
   * @param {{threads?: number}} [options] Threads that one run of the graph may use (1).
   * @returns {Promise<Router>}
   * @throws {ArtifactError}
   */
  static async load(path, { threads = 1 } = {}) {
    const model = await readFile(path);
    const { metadata, tokenizer } = readArtifact(model);
    const session = await InferenceSession.create(model, { intraOpNumThreads: threads, interOpNumThreads: 1 });
    return new Router(metadata, new Tokenizer(JSON.parse(tokenizer), {}), session);
  }

  /**
   * Choose the tier for one query.
   *
   * @param {string | object[]} query A prompt, or messages in the form of OpenAI's chat completions.
   * @param {object} [options]
   * @param {string} [options.at] Name of an operating point of the artifact's menu, such as "2pt"; its default otherwise.
   * @param {object} [options.policy] A policy as the metadata hold it, such as {kind: "shortfall", epsilon: 0.1} or {kind: "reference"}.
   * @param {number} [options.threshold] Short for {kind: "threshold", p_meets: threshold}, in [0, 1].
   * @param {number} [options.lam] Short for {kind: "utility", quality_per_usd: lam}, >= 0.
   * @param {string[]} [options.allowed] Names of the tiers that may be chosen.
   * @param {boolean} [options.ignore_novelty] Decide by the policy on queries unlike the training traffic, too.
   * @returns {Promise<{tier: string, model: string, p_meets: number, quality: number, cost_usd: number,
   *   policy: string, parameter: number, reason: string, novelty: number}>}
   * @throws {QueryError | InputError}
   */
  async route(query, { at, policy, threshold, lam, allowed, ignore_novelty = false } = {}) {
    const chosen = this.#policy({ at, policy, threshold, lam });
    const may = this.#allowed(allowed);
    return decide(this.metadata, await this.predict(query), { policy: chosen, may, needs: requirements(query), ignore_novelty });
  }

  /**
   * The model's outputs for one query, before any policy; lists are in ladder order.
   *
   * @param {string | object[]} query
   * @returns {Promise<{p_meets: number[], quality: number[], output_tokens: number[], novelty: number,
   *   input_tokens: number[], cost_usd: number[]}>}
   */
  async predict(query) {
    const { text, nChars } = render(query);
    const outputs = await this.#session.run(this.#feed(text, nChars));
    const [p_meets, quality, output_tokens] = ["p_meets", "quality", "output_tokens"].map((name) => [...outputs[name].data]);
    return prediction(this.metadata, { p_meets, quality, output_tokens, novelty: outputs.novelty.data[0] }, nChars);
  }

  #feed(text, nChars) {
    const ids = this.#tokenizer.encode(text, { add_special_tokens: false }).ids;
    // A graph needs at least one position, also where a text has no token of the vocabulary.
    const tokens = ids.length ? ids : [0];
    const pairs = tokens.map((id, i) => ((i ? tokens[i - 1] : PAIR_START) * PAIR_MULTIPLIER + id) % N_PAIRS);
    const features = [...tokens.map((id) => N_PAIRS + id), ...pairs, -3, -2, -1];
    const each = Array(2 * tokens.length).fill(ids.length ? 1 / ids.length : 0);
    const weights = [...each, 1 / tokens.length, Math.log1p(nChars), 1];
    return {
      feature_ids: new Tensor("int64", BigInt64Array.from(features, BigInt), [1, features.length]),
      feature_weights: new Tensor("float32", Float32Array.from(weights), [1, 1, features.length]),
    };
  }

  #policy(options) {
    const given = Object.entries(options).filter(([, value]) => value !== undefined && value !== null);
    if (given.length > 1) {
      const names = given.map(([name]) => `'${name}'`).join(" and ");
      throw new InputError(`${names} are given together; each stands for a policy, so give one of them.`);
    }
    const [name, value] = given[0] ?? ["at", this.metadata.default];
    if (name === "at") {
      const point = this.metadata.points.find((p) => p.name === value);
      if (point) return point.policy;
      const names = this.metadata.points.map((p) => p.name).join(", ");
      throw new InputError(`The artifact has no operating point '${value}'; its menu holds: ${names}.`);
    }
    const policy =
      name === "threshold" ? { kind: "threshold", p_meets: value } : name === "lam" ? { kind: "utility", quality_per_usd: value } : value === "reference" ? { kind: value } : value;
    if (!Object.hasOwn(PARAMETERS, policy?.kind)) {
      throw new InputError(`The policy is ${JSON.stringify(policy)}; its kind needs to be one of ${Object.keys(PARAMETERS).join(", ")}.`);
    }
    const parameter = policy[PARAMETERS[policy.kind]] ?? (PARAMETERS[policy.kind] ? NaN : 0);
    const most = policy.kind === "threshold" ? 1 : Number.MAX_VALUE;
    if (typeof parameter !== "number" || !(parameter >= 0 && parameter <= most)) {
      throw new InputError(`'${name}' is ${value}; it needs to be a number in [0, ${most === 1 ? "1]" : "infinity)"}.`);
    }
    if (policy.kind === "single" && !this.ladder.some((t) => t.name === policy.tier)) {
      throw new InputError(`No tier is called '${policy.tier}'; the tiers are ${this.ladder.map((t) => t.name).join(", ")}.`);
    }
    return policy;
  }

  #allowed(names) {
    if (names === undefined) return this.ladder.map(() => true);
    if (!Array.isArray(names) || names.length === 0) {
      throw new InputError(`'allowed' is ${JSON.stringify(names)}; it needs to be a non-empty list of tier names.`);
    }
    const unknown = names.find((name) => !this.ladder.some((t) => name === t.name || name === t.model));
    if (unknown !== undefined) {
      throw new InputError(`No tier is called '${unknown}'; the tiers are ${this.ladder.map((t) => t.name).join(", ")}.`);
    }
    return this.ladder.map((t) => names.includes(t.name) || names.includes(t.model));
  }
}

// The decision (core/decide.py, core/policy.py, core/limits.py)

/**
 * The graph's outputs for one query, with what its calls cost; lists are in ladder order.
 *
 * @param {object} metadata The artifact's.
 * @param {{p_meets: number[], quality: number[], output_tokens: number[], novelty: number}} outputs
 * @param {number} nChars The query's length in characters, before it was cut.
 * @returns {{p_meets: number[], quality: number[], output_tokens: number[], novelty: number,
 *   input_tokens: number[], cost_usd: number[]}}
 */
export function prediction({ ladder, input_tokens_base, input_tokens_per_char }, outputs, nChars) {
  const input_tokens = ladder.map((_, t) => input_tokens_base[t] + input_tokens_per_char[t] * nChars);
  const cost_usd = ladder.map((tier, t) => costUsd(tier, input_tokens[t], outputs.output_tokens[t]));
  return { ...outputs, input_tokens, cost_usd };
}

/**
 * Decide for one query by what is predicted of it: hard limits first, then novelty, then the policy. `Router.route` decides by it.
 *
 * @param {object} metadata The artifact's; of them the ladder, the reference tier and its cost, and the novelty threshold count.
 * @param {object} prediction What `prediction` gives.
 * @param {object} options
 * @param {object} options.policy As the metadata hold it.
 * @param {boolean[]} options.may Of each tier, whether the caller allows it.
 * @param {string[]} options.needs Capabilities that the query needs.
 * @param {boolean} options.ignore_novelty
 * @returns {object} As of `Router.route`.
 * @throws {QueryError} If no tier may take the query.
 */
export function decide(metadata, { p_meets, quality, cost_usd, input_tokens, novelty }, { policy, may, needs, ignore_novelty }) {
  const { ladder } = metadata;
  const parameter = policy[PARAMETERS[policy.kind]] ?? 0;
  const price = policy.kind === "shortfall" ? parameter / metadata.reference_cost_usd : parameter;
  const able = (t) => needs.every((need) => ladder[t].supports?.includes(need) ?? true);
  const fits = (t) => input_tokens[t] < (ladder[t].context_window ?? Infinity);
  const tiers = [...ladder.keys()].filter((t) => may[t] && fits(t) && able(t));
  if (tiers.length === 0) {
    const asked = needs.length ? ` that needs ${needs.join(", ")}` : "";
    throw new QueryError(`No tier may take this query of about ${Math.round(input_tokens[0])} tokens${asked}. Shorten it, or allow another.`);
  }
  const novel = !ignore_novelty && novelty > (metadata.novelty_threshold ?? Infinity);
  const indexOf = (name) => ladder.findIndex((t) => t.name === name);
  const reference = indexOf(metadata.reference);
  const single = novel || policy.kind === "reference" ? reference : policy.kind === "single" ? indexOf(policy.tier) : null;
  let tier;
  if (single !== null) {
    tier = tiers.includes(single) ? single : largest(tiers, (t) => quality[t]);
  } else if (policy.kind === "threshold") {
    tier = tiers.find((t) => p_meets[t] >= parameter) ?? largest(tiers, (t) => p_meets[t]);
  } else {
    tier = largest(tiers, (t) => quality[t] - price * cost_usd[t]);
  }
  const reasons = {
    shortfall: "will_do",
    utility: "best_utility",
    reference: "reference",
    single: "single",
    threshold: p_meets[tier] >= parameter ? "meets_bar" : "none_meets_bar",
  };
  return {
    tier: ladder[tier].name,
    model: ladder[tier].model,
    p_meets: p_meets[tier],
    quality: quality[tier],
    cost_usd: cost_usd[tier],
    policy: policy.kind,
    parameter,
    reason: tiers.length === 1 ? "only_tier" : novel ? "novel" : reasons[policy.kind],
    novelty,
  };
}

/** The item of which `value` is largest; the first of equals. */
function largest(items, value) {
  return items.reduce((best, item) => (value(item) > value(best) ? item : best));
}

function costUsd(tier, inputTokens, outputTokens) {
  const perToken = (usd) => (usd === null ? NaN : usd / 1_000_000);
  return inputTokens * perToken(tier.input_usd_per_mtok) + outputTokens * perToken(tier.output_usd_per_mtok) + tier.request_usd;
}

// The text (core/text.py)

/**
 * Turn a query into the text that is embedded: bounded, with single spaces for all white space.
 *
 * @param {string | object[]} query
 * @returns {{text: string, nChars: number}} The text, and its whole length in Unicode code points before it was cut.
 * @throws {QueryError}
 */
export function render(query) {
  let text = typeof query === "string" ? query : renderMessages(query);
  let nChars = text.length;
  if (/[\ud800-\udfff]/.test(text)) nChars = [...text].length;
  if (nChars > MAX_CHARS) {
    const characters = nChars === text.length ? text : [...text];
    const [head, tail] = [characters.slice(0, HEAD_CHARS), characters.slice(-TAIL_CHARS)];
    text = typeof characters === "string" ? `${head}\n${tail}` : `${head.join("")}\n${tail.join("")}`;
  }
  if (!text.isWellFormed()) throw new QueryError("The query isn't valid Unicode: it holds a lone surrogate. Decode it before you route it.");
  text = withinBytes(text);
  const words = text.split(WHITE_SPACE).filter(Boolean);
  if (words.length === 0) throw new QueryError("The query is empty; it needs some text to route by.");
  if (text.includes("\0")) throw new QueryError("The query holds NUL characters, so it is binary data; only text can be routed.");
  return { text: words.join(" "), nChars };
}

/** At most so many bytes in UTF-8: whole characters of the head and of the tail. */
function withinBytes(text) {
  const bytes = Buffer.from(text, "utf8");
  if (bytes.length <= MAX_CHARS) return text;
  const continues = (at) => (bytes[at] & 0xc0) === 0x80;
  let [head, tail] = [HEAD_CHARS, bytes.length - TAIL_CHARS];
  if (bytes.length === text.length) return text; // ASCII, which is cut by characters
  while (continues(head)) head -= 1;
  while (continues(tail)) tail += 1;
  return `${bytes.toString("utf8", 0, head)}\n${bytes.toString("utf8", tail)}`;
}

/** Capabilities that a query needs by its own content (core/request.py): images and tool calls in chat messages. */
function requirements(query) {
  if (!Array.isArray(query)) return [];
  const needs = new Set();
  for (const message of query.filter(isObject)) {
    if (message.tool_calls?.length || message.role === "tool") needs.add("tools");
    const parts = Array.isArray(message.content) ? message.content.filter(isObject) : [];
    if (parts.some((part) => ["image_url", "input_image", "image"].includes(part.type))) needs.add("vision");
  }
  return [...needs];
}

function renderMessages(messages) {
  if (!Array.isArray(messages)) throw new QueryError(`A query is of type ${typeof messages}; it needs to be a string or a list of chat messages.`);
  if (messages.length === 1 && messages[0]?.role === "user") return renderContent(messages[0].content);
  return messages.map(renderMessage).join("\n\n");
}

function renderMessage(message) {
  if (typeof message?.role !== "string") {
    throw new QueryError(`A chat message is ${JSON.stringify(message)}; it needs to be an object with 'role' and 'content'.`);
  }
  const calls = message.tool_calls || [];
  if (!Array.isArray(calls)) throw new QueryError(`'tool_calls' is ${JSON.stringify(calls)}; it needs to be a list.`);
  const parts = [renderContent(message.content), ...calls.map(renderCall)];
  return `${message.role}: ${parts.filter(Boolean).join("\n")}`;
}

function renderContent(content) {
  if (content === undefined || content === null) return "";
  if (typeof content === "string") return content;
  if (Array.isArray(content)) return content.map(renderPart).join("\n");
  throw new QueryError(`A message's content is of type ${typeof content}; it needs to be a string or a list of parts.`);
}

function renderPart(part) {
  if (typeof part === "string") return part;
  if (!isObject(part)) throw new QueryError(`A content part is ${JSON.stringify(part)}; it needs to be a string or an object with 'type'.`);
  if (typeof part.text === "string") return part.text;
  return `[${typeof part.type === "string" ? part.type : "part"}]`;
}

function renderCall(call) {
  const called = isObject(call) && Object.hasOwn(call, "function") ? call.function : call;
  if (!isObject(called)) throw new QueryError(`A tool call is ${JSON.stringify(call)}; it needs to be an object with 'function'.`);
  const { name, arguments: given = "" } = called;
  return `${typeof name === "string" ? name : "tool"}(${typeof given === "string" ? given : pythonJson(given)})`;
}

/** JSON as Python's `json.dumps(..., sort_keys=True, ensure_ascii=False)` spaces it. */
function pythonJson(value) {
  if (Array.isArray(value)) return `[${value.map(pythonJson).join(", ")}]`;
  if (!isObject(value)) return JSON.stringify(value);
  const entries = Object.keys(value).sort().map((key) => `${JSON.stringify(key)}: ${pythonJson(value[key])}`);
  return `{${entries.join(", ")}}`;
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

// The format (core/artifact.py)

/** Verify an artifact's bytes, and take its metadata and its tokenizer's JSON out of them. */
function readArtifact(model) {
  const properties = {};
  let graph;
  for (const [number, value] of fields(model)) {
    if (number === 7) graph = value; // ModelProto.graph
    if (number === 14) {
      // ModelProto.metadata_props: a key (1) and a value (2)
      const entry = Object.fromEntries(fields(value));
      properties[entry[1]?.toString() ?? ""] = entry[2] ?? Buffer.alloc(0);
    }
  }
  const schema = properties["router_ml.schema"]?.toString();
  if (graph === undefined || schema === undefined) {
    throw new ArtifactError("This isn't a router-ml artifact (an ONNX file without our metadata). Make one with 'router-ml fit'.");
  }
  if (schema !== SCHEMA_VERSION) {
    throw new ArtifactError(`The artifact has schema version '${schema}'; this client reads '${SCHEMA_VERSION}'. Export it again, or use the client of its release.`);
  }
  const parts = [properties["router_ml.metadata"], properties["router_ml.tokenizer"]];
  if (parts.includes(undefined)) throw new ArtifactError("The artifact lacks its metadata or its tokenizer: it is damaged. Copy it again.");
  const digest = createHash("sha256").update(graph);
  const more = ["router_ml.acceptance", "router_ml.neighbours"].map((key) => properties[key] ?? Buffer.alloc(0));
  for (const part of [...parts, ...more]) digest.update(createHash("sha256").update(part).digest());
  if (digest.digest("hex") !== properties["router_ml.sha256"]?.toString()) {
    throw new ArtifactError("The artifact's content doesn't have the hash that it states: it is damaged. Copy it again.");
  }
  const metadata = JSON.parse(parts[0].toString());
  if (metadata.render_version !== RENDER_VERSION) {
    throw new ArtifactError(`The artifact was trained on text rendering '${metadata.render_version}'; this client renders '${RENDER_VERSION}'. Fit it again.`);
  }
  if (String(metadata.inputs) !== String(INPUTS) || metadata.max_tokens !== null || metadata.add_special_tokens) {
    throw new ArtifactError(`The graph takes ${metadata.inputs}; this client runs those of the static encoder (${INPUTS}). Fit it with --encoder static.`);
  }
  if (metadata.side_encoders?.length) {
    throw new ArtifactError("The graph takes several encoders' inputs; this client runs those of the static encoder alone. Fit it with --encoder static.");
  }
  return { metadata, tokenizer: parts[1].toString() };
}

/** The length-delimited fields of a protobuf message, without copying (https://protobuf.dev/programming-guides/encoding). */
function* fields(message) {
  let position = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; position < message.length && scale < 2 ** 70; scale *= 128) {
      const byte = message[position++];
      value += (byte & 0x7f) * scale; // a sum: shifts would cut it to 32 bits
      if (byte < 0x80) return value;
    }
    throw new ArtifactError("The file ends too early, or isn't an ONNX file. Copy or export it again.");
  };
  while (position < message.length) {
    const tag = varint();
    const wire = tag % 8;
    const size = wire === 0 ? (varint(), 0) : wire === 2 ? varint() : { 1: 8, 5: 4 }[wire];
    if (size === undefined || position + size > message.length) {
      throw new ArtifactError("The file ends too early, or isn't an ONNX file. Copy or export it again.");
    }
    if (wire === 2) yield [Math.floor(tag / 8), message.subarray(position, position + size)];
    position += size;
  }
}
