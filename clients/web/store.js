// What this browser keeps: conversations in IndexedDB, settings in localStorage.

const MOST_CONVERSATIONS = 50;
const SETTINGS = "internvl-settings";

function whenDone(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

let opened = null;

function database() {
  if (opened === null) {
    const request = indexedDB.open("internvl", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("conversations", { keyPath: "id" });
    opened = whenDone(request);
  }
  return opened;
}

async function table(mode) {
  return (await database()).transaction("conversations", mode).objectStore("conversations");
}

/** All of them, the newest first. */
export async function conversations() {
  const all = await whenDone((await table("readonly")).getAll());
  return all.sort((a, b) => b.changed - a.changed);
}

/** Keeps the conversation; the oldest beyond the limit go. */
export async function keep(conversation) {
  conversation.changed = Date.now();
  await whenDone((await table("readwrite")).put(conversation));
  for (const old of (await conversations()).slice(MOST_CONVERSATIONS)) await forget(old.id);
}

export async function forget(id) {
  await whenDone((await table("readwrite")).delete(id));
}

export async function forgetAll() {
  await whenDone((await table("readwrite")).clear());
}

export function readSettings() {
  try {
    return JSON.parse(localStorage.getItem(SETTINGS)) ?? {};
  } catch {
    return {};
  }
}

export function writeSettings(settings) {
  localStorage.setItem(SETTINGS, JSON.stringify(settings));
}
