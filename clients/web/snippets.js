// A request as something to paste into a terminal or a program.

function shortened(key, value) {
  const isLong = typeof value === "string" && value.startsWith("data:") && value.length > 200;
  return isLong ? `${value.slice(0, value.indexOf(",") + 1)}...` : value;
}

function json(body) {
  return JSON.stringify(body, shortened, 2);
}

function base() {
  return new URL("v1", document.baseURI).href;
}

/** Media inside the request are cut short: put your own in their place. The key stays out. */
export function curl(body, settings) {
  const key = settings.apiKey ? ' \\\n  -H "Authorization: Bearer $OPENAI_API_KEY"' : "";
  const start = `curl ${base()}/chat/completions -H 'Content-Type: application/json'${key}`;
  return `${start} -d @- <<'EOF'\n${json(body)}\nEOF\n`;
}

function python(value, indent) {
  const inner = `${indent}    `;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const items = Array.isArray(value)
    ? value.map((item) => python(item, inner))
    : Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${python(item, inner)}`);
  if (!items.length) return open + close;
  return `${open}\n${items.map((item) => inner + item).join(",\n")},\n${indent}${close}`;
}

export function pythonCode(body, settings) {
  const short = JSON.parse(json(body));
  const names = Object.keys(short).map((name) => `    ${name}=${python(short[name], "    ")},\n`);
  const key = settings.apiKey ? 'os.environ["OPENAI_API_KEY"]' : '"none"';
  const imports = settings.apiKey ? "import os\n\n" : "";
  return (
    `${imports}from openai import OpenAI\n\n` +
    `client = OpenAI(base_url="${base()}", api_key=${key})\n` +
    `answer = client.chat.completions.create(\n${names.join("")})\n` +
    "print(answer.choices[0].message.content)\n"
  );
}
