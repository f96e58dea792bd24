// Messages on the page: elements for what was said, and for what is known about it.

import { show } from "./markdown.js";
import { frames, isHere, thumbnail } from "./media.js";

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function button(label, onClick) {
  const made = element("button", "small", label);
  made.type = "button";
  made.addEventListener("click", () => onClick(made));
  return made;
}

/** A row of [label, action] buttons below a message. */
function actions(pairs) {
  const row = element("div", "actions-row");
  row.append(...pairs.map(([label, act]) => button(label, act)));
  return row;
}

function counted(count, singular) {
  return `${count} ${singular}${count === 1 ? "" : "s"}`;
}

/** What the model was shown, from the server's own count. */
function shown(usage) {
  const details = usage.prompt_tokens_details ?? {};
  const facts = [];
  if (details.image_tiles) facts.push(`${counted(details.image_tiles, "tile")} (${details.image_tokens} tokens)`);
  if (details.video_frames) facts.push(`${counted(details.video_frames, "frame")} (${details.video_tokens} tokens)`);
  return facts.length ? [`saw ${facts.join(", ")}`] : [];
}

const ENDINGS = { length: "cut at the most tokens", stopped: "stopped", content_filter: "filtered" };

/** One line about an answer: time to the first token, speed, tokens, media, how it ended. */
export function factsOf(message) {
  const { usage, ttft, seconds, finish } = message;
  const facts = [];
  if (ttft !== undefined) facts.push(`first token after ${Math.round(ttft * 1000)} ms`);
  if (usage) {
    const after = usage.completion_tokens - 1;
    if (after > 0 && seconds > 0) facts.push(`${(after / seconds).toFixed(1)} tokens/s`);
    facts.push(`${usage.prompt_tokens} + ${counted(usage.completion_tokens, "token")}`, ...shown(usage));
  }
  if (finish in ENDINGS) facts.push(ENDINGS[finish]);
  return facts.join(" · ");
}

/** The frames that the model saw, below the question. Browsers cannot decode everything. */
export async function addFrameStrip(item, media, usage) {
  const videos = media.filter((medium) => medium.kind === "video");
  const count = usage?.prompt_tokens_details?.video_frames;
  if (videos.length !== 1 || !isHere(videos[0]) || !count || item.querySelector(".strip")) return;
  const strip = element("div", "strip");
  strip.setAttribute("role", "img");
  strip.setAttribute("aria-label", `The ${counted(count, "frame")} that the model saw`);
  item.querySelector(".media").after(strip);
  const pictures = await frames(videos[0], count).catch(() => []);
  for (const picture of pictures) {
    const image = element("img");
    image.src = picture;
    image.alt = "";
    strip.append(image);
  }
  if (!pictures.length) strip.remove();
}

/** `act`: {edit}. */
export function userItem(message, act) {
  const item = element("li", "message user");
  item.append(element("h3", "unseen", "You"));
  const media = element("div", "media");
  media.append(...message.media.map(thumbnail));
  const text = element("p", "said", message.text);
  item.append(media, text, actions([["Edit", act.edit]]));
  return item;
}

/** `act`: {copy, again, curl, python}. */
export function answerItem(message, act) {
  const item = element("li", "message assistant");
  item.append(element("h3", "unseen", "Model"));
  const said = element("div", "said");
  const facts = element("p", "facts");
  const row = actions([
    ["Copy", act.copy],
    ["Regenerate", act.again],
    ["Copy as curl", act.curl],
    ["Copy as Python", act.python],
  ]);
  item.append(said, facts, row);
  updateAnswer(item, message);
  return item;
}

/** Called for every piece: the newest state of the message. */
export function updateAnswer(item, message) {
  const said = item.querySelector(".said");
  item.classList.toggle("running", Boolean(message.isRunning));
  show(said, message.text);
  item.querySelector(".facts").textContent = message.isRunning ? "" : factsOf(message);
  item.querySelector(".failure")?.remove();
  if (message.failure) {
    const failure = element("p", "failure", message.failure);
    failure.setAttribute("role", "alert");
    said.after(failure);
  }
}

/** The list on the left. `act`: {open, remove}. */
export function conversationItems(all, currentId, act) {
  return all.map((conversation) => {
    const item = element("li");
    const open = button(conversation.title, () => act.open(conversation));
    open.className = "open";
    if (conversation.id === currentId) open.setAttribute("aria-current", "true");
    const remove = button("×", () => act.remove(conversation));
    remove.className = "icon";
    remove.setAttribute("aria-label", `Delete ${conversation.title}`);
    item.append(open, remove);
    return item;
  });
}
