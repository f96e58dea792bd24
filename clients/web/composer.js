// The box at the bottom: text and attachments until they are sent.

import { fromFile, fromUrl, MediaProblem, thumbnail } from "./media.js";
import { element } from "./view.js";

const $ = (id) => document.getElementById(id);

export class Composer {
  /** `onSend({text, media})`, `onStop()`. */
  constructor(onSend, onStop) {
    this.media = [];
    this.isBusy = false;
    this.onSend = onSend;
    this.onStop = onStop;
    this.#listen();
  }

  /** Puts a message back, to be changed. */
  fill({ text, media }) {
    $("text").value = text;
    this.media = [...media];
    this.#draw();
    this.#grow();
    $("text").focus();
  }

  setBusy(isBusy) {
    this.isBusy = isBusy;
    $("send").hidden = isBusy;
    $("stop").hidden = !isBusy;
  }

  tell(problem) {
    $("problem").textContent = problem;
    $("problem").hidden = !problem;
  }

  async attach(files) {
    this.tell("");
    for (const file of files) {
      try {
        this.media.push(await fromFile(file));
      } catch (error) {
        if (!(error instanceof MediaProblem)) throw error;
        this.tell(error.message);
      }
    }
    this.#draw();
  }

  #send() {
    const text = $("text").value.trim();
    if (this.isBusy || (!text && !this.media.length)) return;
    const media = this.media;
    this.fill({ text: "", media: [] });
    this.tell("");
    this.onSend({ text, media });
  }

  #listen() {
    $("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    $("text").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    });
    $("text").addEventListener("input", () => this.#grow());
    $("stop").addEventListener("click", () => this.onStop());
    $("attach").addEventListener("click", () => $("files").click());
    $("files").addEventListener("change", async () => {
      await this.attach([...$("files").files]);
      $("files").value = "";
    });
    this.#listenForUrls();
    this.#listenForDrops();
  }

  #listenForUrls() {
    $("attach-url").addEventListener("click", () => {
      $("url").value = "";
      $("url-dialog").showModal();
    });
    $("url-dialog").addEventListener("close", () => {
      if ($("url-dialog").returnValue !== "ok" || !$("url").value) return;
      const kind = document.querySelector("[name=url-kind]:checked").value;
      try {
        this.media.push(fromUrl(kind, $("url").value));
        this.tell("");
      } catch (error) {
        this.tell(error.message);
      }
      this.#draw();
    });
  }

  #listenForDrops() {
    document.addEventListener("paste", (event) => {
      if (event.clipboardData.files.length) this.attach([...event.clipboardData.files]);
    });
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      document.body.classList.add("dropping");
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) document.body.classList.remove("dropping");
    });
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      document.body.classList.remove("dropping");
      this.attach([...event.dataTransfer.files]);
    });
  }

  #draw() {
    const items = this.media.map((medium, index) => {
      const item = element("li");
      const remove = element("button", "icon", "×");
      remove.type = "button";
      remove.setAttribute("aria-label", `Remove ${medium.name}`);
      remove.addEventListener("click", () => {
        this.media.splice(index, 1);
        this.#draw();
      });
      item.append(thumbnail(medium), remove);
      return item;
    });
    $("attachments").replaceChildren(...items);
  }

  #grow() {
    const text = $("text");
    text.style.height = "auto";
    text.style.height = `${Math.min(text.scrollHeight, 200)}px`;
  }
}
