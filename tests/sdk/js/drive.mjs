// Drives every endpoint with OpenAI's package for JavaScript; prints one JSON object of findings.

import { readFileSync } from "node:fs";
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ maxRetries: 0 });
const model = "internvl-demo";
const dataUrl = (name, type) =>
  `data:${type};base64,${readFileSync(`${process.argv[2]}/${name}`).toString("base64")}`;
const image = (name) => ({ type: "image_url", image_url: { url: dataUrl(name, "image/png") } });
const text = (words) => ({ type: "text", text: words });
const describe = (name) => [{ role: "user", content: [image(name), text("Describe the image.")] }];
const chat = (options) => client.chat.completions.create({ model, ...options });
const found = {};

found.chat = (await chat({ messages: describe("shapes.png") })).choices[0].message.content;

found.pieces = [];
const stream = await chat({
  messages: describe("shapes.png"),
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  if (chunk.choices[0]?.delta?.content) found.pieces.push(chunk.choices[0].delta.content);
  found.usage = chunk.usage ?? found.usage;
}

const video = { type: "video_url", video_url: { url: dataUrl("moving.mp4", "video/mp4") } };
const seen = [{ role: "user", content: [video, text("What happens in the video?")] }];
found.video = (await chat({ messages: seen })).choices[0].message.content;

found.many = await Promise.all(
  Array.from({ length: 8 }, async (_, i) => {
    const messages = describe(i % 2 ? "triangle.png" : "shapes.png");
    return (await chat({ messages })).choices[0].message.content;
  }),
);

const parameters = {
  type: "object",
  properties: { shape: { enum: ["circle", "square", "triangle"] } },
  required: ["shape"],
  additionalProperties: false,
};
const sides = { name: "sides", description: "How many sides a shape has.", parameters };
const called = await chat({
  messages: describe("triangle.png"),
  tools: [{ type: "function", function: sides }],
  tool_choice: { type: "function", function: { name: "sides" } },
});
found.call = called.choices[0].message.tool_calls[0].function;

const schema = { name: "seen", schema: parameters, strict: true };
const parsed = await client.chat.completions.parse({
  model,
  messages: describe("triangle.png"),
  response_format: { type: "json_schema", json_schema: schema },
});
found.parsed = parsed.choices[0].message.parsed ?? JSON.parse(parsed.choices[0].message.content);

const runner = client.chat.completions.stream({ model, messages: describe("triangle.png") });
found.helper = await runner.finalContent();

const ask = (name) => [
  {
    role: "user",
    content: [
      { type: "input_image", image_url: dataUrl(name, "image/png"), detail: "auto" },
      { type: "input_text", text: "Describe the image." },
    ],
  },
];
const first = await client.responses.create({ model, input: ask("shapes.png") });
found.response = first.output_text;
const left = { model, input: "What is on the left?", previous_response_id: first.id };
found.next = (await client.responses.create(left)).output_text;
found.kept = (await client.responses.retrieve(first.id)).output_text;
found.events = [];
for await (const event of await client.responses.create({
  model,
  input: ask("triangle.png"),
  stream: true,
})) {
  if (found.events.at(-1) !== event.type) found.events.push(event.type);
}
await client.responses.delete(first.id);

const options = { model, prompt: ["One, two,", "A"], max_tokens: 4, temperature: 0 };
found.completions = (await client.completions.create(options)).choices.map((one) => one.text);
found.models = (await client.models.list()).data.map((one) => one.id);
found.model = (await client.models.retrieve(model)).id;

const lines = ["shapes.png", "triangle.png"].map((name) =>
  JSON.stringify({
    custom_id: name,
    method: "POST",
    url: "/v1/chat/completions",
    body: { messages: describe(name) },
  }),
);
const file = await client.files.create({
  file: await toFile(Buffer.from(lines.join("\n") + "\n"), "in.jsonl"),
  purpose: "batch",
});
let batch = await client.batches.create({
  input_file_id: file.id,
  endpoint: "/v1/chat/completions",
  completion_window: "24h",
});
for (let i = 0; i < 300 && !["completed", "failed"].includes(batch.status); i++) {
  await new Promise((resolve) => setTimeout(resolve, 100));
  batch = await client.batches.retrieve(batch.id);
}
const output = await (await client.files.content(batch.output_file_id)).text();
found.batch = output
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line).response.body.choices[0].message.content);

found.error = await chat({ messages: describe("shapes.png"), temperature: 9 }).catch((error) => ({
  kind: error.constructor.name,
  status: error.status,
  param: error.param,
  code: error.code,
  requestID: typeof error.requestID,
}));
console.log(JSON.stringify(found));
