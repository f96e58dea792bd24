// Ask about a picture with the `openai` package; the answer streams.
import { readFile } from "node:fs/promises";
import OpenAI from "openai";

const picture = await readFile("docs/examples/shapes.png", "base64");

const client = new OpenAI(); // reads OPENAI_BASE_URL and OPENAI_API_KEY
const [model] = (await client.models.list()).data;
const stream = await client.chat.completions.create({
  model: model.id,
  messages: [
    {
      role: "user",
      content: [
        { type: "image_url", image_url: { url: `data:image/png;base64,${picture}` } },
        { type: "text", text: "Describe the image." },
      ],
    },
  ],
  stream: true,
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
}
process.stdout.write("\n");
