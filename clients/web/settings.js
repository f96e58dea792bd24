// The settings dialog: fields by name, kept as texts; empty means the server's own default.

const $ = (id) => document.getElementById(id);

/** `act`: {change(settings), forgetAll()}. */
export function listenForSettings(settings, act) {
  const form = $("settings").querySelector("form");
  for (const [name, value] of Object.entries(settings)) {
    if (form.elements[name]) form.elements[name].value = value;
  }
  $("open-settings").addEventListener("click", () => $("settings").showModal());
  $("settings").addEventListener("close", () => {
    const given = [...new FormData(form)].filter(([, value]) => value !== "");
    act.change(Object.fromEntries(given));
  });
  $("forget").addEventListener("click", () => {
    if (confirm("Delete all conversations of this browser?")) act.forgetAll();
  });
}
