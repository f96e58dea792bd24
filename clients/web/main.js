// The page: which conversation is open, and what happens when something is sent.

import { chat, chatBody, model, notReady } from "./api.js";
import { Composer } from "./composer.js";
import { fromSample } from "./media.js";
import { listenForSettings } from "./settings.js";
import { curl, pythonCode } from "./snippets.js";
import * as store from "./store.js";
import { addFrameStrip, answerItem, conversationItems, updateAnswer, userItem } from "./view.js";

const $ = (id) => document.getElementById(id);
const READY_EVERY_MS = 3000;

let settings = store.readSettings();
let modelName = "";
let current = newConversation();
let running = null; // an AbortController while an answer grows

const composer = new Composer(send, () => running?.abort());

function newConversation() {
  return { id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`, title: "", messages: [], changed: 0 };
}

// ---------------------------------------------------------------- what is sent, what comes back

async function send({ text, media }) {
  current.title ||= (text || media[0].name).slice(0, 60);
  current.messages.push({ role: "user", text, media });
  draw();
  await answer();
}

async function answer() {
  const conversation = current;
  const body = chatBody(conversation.messages, settings, modelName);
  const message = { role: "assistant", text: "", isRunning: true };
  conversation.messages.push(message);
  draw();
  const item = $("messages").lastElementChild;
  composer.setBusy(true);
  running = new AbortController();
  $("announcer").textContent = "The model answers.";
  try {
    await grow(message, item, chat(body, settings, running.signal));
  } catch (error) {
    if (error.name === "AbortError") message.finish = "stopped";
    else fail(message, error);
  }
  finish(conversation, message, item);
}

async function grow(message, item, pieces) {
  const asked = performance.now();
  let firstAt = 0;
  for await (const piece of pieces) {
    if (piece.text) {
      const now = performance.now();
      firstAt ||= now;
      message.ttft ??= (firstAt - asked) / 1000;
      message.seconds = (now - firstAt) / 1000;
      message.text += piece.text;
      redrawSoon(item, message);
    }
    if (piece.finish) message.finish = piece.finish;
    if (piece.usage) message.usage = piece.usage;
  }
}

let drawing = 0;

/** At most once a frame, however fast the pieces come. */
function redrawSoon(item, message) {
  if (drawing) return;
  drawing = requestAnimationFrame(() => {
    drawing = 0;
    updateAnswer(item, message);
    stayAtEnd();
  });
}

function fail(message, error) {
  message.failure = error instanceof TypeError ? "The server cannot be reached." : error.message;
  if (error.status === 401) $("settings").showModal();
}

function finish(conversation, message, item) {
  delete message.isRunning;
  running = null;
  composer.setBusy(false);
  updateAnswer(item, message);
  stayAtEnd();
  $("announcer").textContent = message.failure ? "" : `The model says: ${message.text}`;
  const asked = conversation.messages.at(-2);
  if (item.previousElementSibling) addFrameStrip(item.previousElementSibling, asked.media, message.usage);
  store.keep(conversation).then(drawList);
}

// ---------------------------------------------------------------- what is on the page

function draw() {
  $("welcome").hidden = current.messages.length > 0;
  $("messages").replaceChildren(...current.messages.map(itemOf));
  stayAtEnd(true);
}

function itemOf(message, index) {
  if (message.role === "user") {
    const item = userItem(message, { edit: () => edit(index) });
    const usage = current.messages[index + 1]?.usage;
    queueMicrotask(() => addFrameStrip(item, message.media, usage));
    return item;
  }
  const body = () => chatBody(current.messages.slice(0, index), settings, modelName);
  return answerItem(message, {
    copy: (button) => copy(button, message.text),
    again: () => again(index),
    curl: (button) => copy(button, curl(body(), settings)),
    python: (button) => copy(button, pythonCode(body(), settings)),
  });
}

function stayAtEnd(isForced = false) {
  const box = $("scroll");
  const isNearEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 160;
  if (isForced || isNearEnd) box.scrollTop = box.scrollHeight;
}

function edit(index) {
  if (running) return;
  const [message] = current.messages.splice(index);
  draw();
  composer.fill(message);
}

function again(index) {
  if (running) return;
  current.messages.splice(index);
  answer();
}

async function copy(button, text) {
  const label = button.textContent;
  await navigator.clipboard.writeText(text).then(
    () => (button.textContent = "Copied"),
    () => (button.textContent = "Not allowed to copy"),
  );
  setTimeout(() => (button.textContent = label), 1500);
}

// ---------------------------------------------------------------- conversations

async function drawList() {
  const items = conversationItems(await store.conversations(), current.id, { open, remove });
  $("conversations").replaceChildren(...items);
}

function open(conversation) {
  running?.abort();
  current = conversation;
  draw();
  drawList();
  showSidebar(false);
}

async function remove(conversation) {
  await store.forget(conversation.id);
  if (conversation.id === current.id) open(newConversation());
  else drawList();
}

function showSidebar(isShown) {
  document.body.classList.toggle("with-sidebar", isShown);
  $("open-sidebar").setAttribute("aria-expanded", String(isShown));
}

// ---------------------------------------------------------------- the server

async function look() {
  const reason = await notReady();
  $("health").textContent = reason === null ? "ready" : reason;
  $("health").classList.toggle("good", reason === null);
  if (reason === null && !modelName) await learnModel();
  setTimeout(look, READY_EVERY_MS);
}

async function learnModel() {
  try {
    modelName = (await model(settings)).id;
    $("model").textContent = modelName;
    document.title = modelName;
  } catch (error) {
    if (error.status === 401) composer.tell("This server wants an API key: put it into the settings, above on the right.");
  }
}

// ---------------------------------------------------------------- at the start

function listen() {
  $("new-chat").addEventListener("click", () => open(newConversation()));
  $("open-sidebar").addEventListener("click", () => showSidebar(true));
  $("close-sidebar").addEventListener("click", () => showSidebar(false));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    running?.abort();
    showSidebar(false);
  });
  for (const sample of document.querySelectorAll(".sample")) {
    sample.addEventListener("click", async () => {
      const { kind, file, ask } = sample.dataset;
      send({ text: ask, media: file ? [await fromSample(kind, file)] : [] });
    });
  }
  listenForSettings(settings, {
    change: (changed) => {
      settings = changed;
      store.writeSettings(changed);
      composer.tell("");
      if (!modelName) learnModel();
    },
    forgetAll: () => store.forgetAll().then(() => open(newConversation())),
  });
}

listen();
look();
store.conversations().then((all) => {
  if (all.length && !current.messages.length) current = all[0];
  draw();
  drawList();
});
