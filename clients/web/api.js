// The server's API as this page uses it. Paths are relative: the page may live below a prefix.

export class ApiProblem extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

function headers(settings) {
  const key = settings.apiKey ? { Authorization: `Bearer ${settings.apiKey}` } : {};
  return { "Content-Type": "application/json", ...key };
}

async function problemOf(response) {
  const body = await response.json().catch(() => null);
  const message = body?.error?.message ?? `The server answered with status ${response.status}.`;
  const field = body?.error?.param;
  return new ApiProblem(field ? `${message} (${field})` : message, response.status);
}

/** The served model's card. Throws ApiProblem, TypeError when the server cannot be reached. */
export async function model(settings) {
  const response = await fetch("v1/models", { headers: headers(settings) });
  if (!response.ok) throw await problemOf(response);
  return (await response.json()).data[0];
}

/** null when the server is ready, else why not. */
export async function notReady() {
  try {
    const response = await fetch("readyz");
    return response.ok ? null : ((await response.json()).reason ?? "not ready");
  } catch {
    return "not reachable";
  }
}

function part(medium, settings) {
  if (medium.kind === "image") {
    const detail = settings.detail ? { detail: settings.detail } : {};
    return { type: "image_url", image_url: { url: medium.url, ...detail } };
  }
  const frames = settings.frames ? { num_frames: Number(settings.frames) } : {};
  return { type: "video_url", video_url: { url: medium.url, ...frames } };
}

function wireMessage(message, settings) {
  if (message.role === "assistant") return { role: "assistant", content: message.text };
  if (!message.media.length) return { role: "user", content: message.text };
  const parts = message.media.map((medium) => part(medium, settings));
  const text = message.text ? [{ type: "text", text: message.text }] : [];
  return { role: "user", content: [...parts, ...text] };
}

/** The body of a chat request for these messages. */
export function chatBody(messages, settings, modelName) {
  const system = settings.system ? [{ role: "system", content: settings.system }] : [];
  const body = {
    model: modelName,
    messages: [...system, ...messages.map((message) => wireMessage(message, settings))],
  };
  if (settings.temperature) body.temperature = Number(settings.temperature);
  if (settings.maxTokens) body.max_tokens = Number(settings.maxTokens);
  if (settings.seed) body.seed = Number(settings.seed);
  return body;
}

/** The objects of a stream of server-sent events. Throws ApiProblem when one is an error. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new ApiProblem("The answer broke off.");
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      if (line === "data: [DONE]") return;
      const event = JSON.parse(line.slice(6));
      if (event.error) throw new ApiProblem(event.error.message);
      yield event;
    }
  }
}

/**
 * An answer as it grows: yields {text} for each piece and {finish}, {usage} when they are known.
 * `signal` stops it. Throws ApiProblem.
 */
export async function* chat(body, settings, signal) {
  const response = await fetch("v1/chat/completions", {
    method: "POST",
    headers: headers(settings),
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  if (!response.ok) throw await problemOf(response);
  for await (const event of events(response)) {
    const choice = event.choices?.[0];
    if (choice?.delta?.content) yield { text: choice.delta.content };
    if (choice?.finish_reason) yield { finish: choice.finish_reason };
    if (event.usage) yield { usage: event.usage };
  }
}
