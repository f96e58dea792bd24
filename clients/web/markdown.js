// A model's words as HTML that can do nothing: no scripts, no pictures, no forms, no styles.

import { Marked } from "./vendor/marked.js";
import purify from "./vendor/purify.js";

const TAGS = [
  "a", "b", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i",
  "li", "ol", "p", "pre", "s", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul",
];
const ALLOWED = {
  ALLOWED_TAGS: TAGS,
  ALLOWED_ATTR: ["href", "start", "align"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
};

purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName !== "A") return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer nofollow");
});

function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

// HTML of the model's own is shown as it is written; pictures are their words.
const marked = new Marked({
  gfm: true,
  breaks: true,
  async: false,
  renderer: {
    html: ({ text }) => (/^<br ?\/?>$/i.test(text.trim()) ? "<br>" : escaped(text)),
    image: ({ text }) => escaped(text),
  },
});

/** Shows markdown `text` inside `element`. */
export function show(element, text) {
  element.innerHTML = purify.sanitize(marked.parse(text), ALLOWED);
  for (const wide of element.querySelectorAll("pre, table")) wide.tabIndex = 0; // they scroll
}
