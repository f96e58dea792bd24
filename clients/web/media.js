// Files and URLs as attachments, and small pictures of them.

const MOST_BYTES = { image: 20 << 20, video: 45 << 20 }; // a body may have 64 MiB, base64 adds a third

export class MediaProblem extends Error {}

function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new MediaProblem("The file could not be read."));
    reader.readAsDataURL(blob);
  });
}

/** Throws MediaProblem, with words for the user. */
export async function fromFile(file) {
  const kind = file.type.split("/")[0];
  if (!(kind in MOST_BYTES)) throw new MediaProblem(`${file.name} is neither an image nor a video.`);
  if (file.size > MOST_BYTES[kind]) {
    const most = MOST_BYTES[kind] >> 20;
    throw new MediaProblem(`${file.name} is too large: attach by URL what has more than ${most} MB.`);
  }
  return { kind, name: file.name, url: await dataUrl(file) };
}

export function fromUrl(kind, url) {
  if (!/^https?:\/\//i.test(url)) throw new MediaProblem("A URL begins with http:// or https://.");
  return { kind, name: new URL(url).hostname, url };
}

export async function fromSample(kind, file) {
  const blob = await (await fetch(`ui/${file}`)).blob();
  return { kind, name: file, url: await dataUrl(blob) };
}

/** Whether the page holds the bytes. What the server fetches is not shown here. */
export function isHere(medium) {
  return medium.url.startsWith("data:");
}

/** A small element that shows the medium. */
export function thumbnail(medium) {
  if (!isHere(medium)) {
    const chip = document.createElement("span");
    chip.className = "chip";
    chip.textContent = `${medium.kind === "image" ? "Image" : "Video"} at ${medium.name}`;
    return chip;
  }
  const element = document.createElement(medium.kind === "image" ? "img" : "video");
  element.src = medium.url;
  element.className = "thumb";
  if (medium.kind === "image") {
    element.alt = medium.name;
    return element;
  }
  element.controls = true;
  element.muted = true;
  element.setAttribute("aria-label", medium.name);
  return element;
}

const LATEST_PAINT_MS = 250;

/** Resolves when the frame can be drawn: `seeked` may come before it. */
function seek(video, seconds) {
  return new Promise((resolve, reject) => {
    let painted = false;
    video.requestVideoFrameCallback?.(() => {
      painted = true;
      if (!video.seeking) resolve();
    });
    video.onseeked = () => (painted ? resolve() : setTimeout(resolve, LATEST_PAINT_MS));
    video.onerror = reject;
    video.currentTime = seconds;
  });
}

async function loaded(url) {
  const video = document.createElement("video");
  video.muted = true;
  video.preload = "auto";
  await new Promise((resolve, reject) => {
    video.onloadeddata = resolve;
    video.onerror = () => reject(new MediaProblem("This browser cannot play the video."));
    video.src = url;
  });
  return video;
}

/**
 * Pictures of `count` frames, as the server takes them: at the middles of equal segments.
 * Throws when the browser cannot decode what the server can.
 */
export async function frames(medium, count) {
  const video = await loaded(medium.url);
  const canvas = document.createElement("canvas");
  canvas.height = 64;
  canvas.width = Math.max(1, Math.round((64 * video.videoWidth) / video.videoHeight));
  const context = canvas.getContext("2d");
  const pictures = [];
  for (let i = 0; i < count; i += 1) {
    await seek(video, ((i + 0.5) / count) * video.duration);
    context.drawImage(video, 0, 0, canvas.width, canvas.height);
    pictures.push(canvas.toDataURL("image/jpeg", 0.7));
  }
  return pictures;
}
