// Keys that lead somewhere: the box that jumps to a page (ARIA combobox pattern), and the list of
// keys. No key is taken from a field, and keys without Ctrl can be switched off (WCAG 2.1.4).

import { part } from "./fetching.js";

const SWITCH = "posthouse-single-keys";
const SECOND_KEY_WITHIN = 1500; // milliseconds

export function attach(root) {
  const template = document.getElementById("dialogs");
  if (root !== document || !template) return;
  let open;
  const made = () => {
    if (open) return;
    document.body.append(template.content.cloneNode(true));
    open = jumpBox(document.getElementById("jump"));
    const single = document.getElementById("single-keys");
    single.checked = withoutCtrl();
    single.addEventListener("change", () => keep(single.checked ? "on" : "off"));
  };
  const jump = () => { made(); open(); };
  const help = () => { made(); document.getElementById("shortcuts").showModal(); };
  document.querySelector(".jump-open").addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // in a tab of its own
    event.preventDefault();
    jump();
  });
  for (const button of document.querySelectorAll("[data-shortcuts]")) {
    button.hidden = false;
    button.addEventListener("click", help);
  }
  listen(jump, help);
}

function listen(jump, help) {
  let waits = 0;
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || event.altKey) return;
    if (isField(event.target) || document.querySelector("dialog[open]")) return;
    const held = event.ctrlKey || event.metaKey;
    if (held && !event.shiftKey && event.key.toLowerCase() === "k") take(event, jump);
    if (held || !withoutCtrl()) return;
    const second = performance.now() - waits < SECOND_KEY_WITHIN;
    waits = 0;
    if (event.key === "/") take(event, jump);
    else if (event.key === "?") take(event, help);
    else if (event.key === "g") waits = performance.now();
    else if (second && /^[a-z]$/.test(event.key)) {
      const link = document.querySelector(`#menu a[data-key="${event.key}"]`);
      if (link) take(event, () => location.assign(link.href));
    }
  });
}

function take(event, act) {
  event.preventDefault();
  act();
}

// Whatever text is typed into, or chosen in by typing.
function isField(target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target.matches("textarea, select, [role=textbox]")) return true;
  return target.matches("input:not([type=checkbox], [type=radio], [type=button], [type=submit])");
}

let single; // where the browser keeps nothing, for this page alone

function withoutCtrl() {
  try { single = localStorage.getItem(SWITCH) ?? single; } catch { /* as above */ }
  return single !== "off";
}

function keep(value) {
  single = value;
  try { localStorage.setItem(SWITCH, value); } catch { /* as above */ }
}

function jumpBox(dialog) {
  const form = dialog.querySelector("form");
  const input = dialog.querySelector("input");
  const list = dialog.querySelector("[role=listbox]");
  const said = dialog.querySelector("[role=status]");
  let active = -1;
  let latest = 0;
  let timer;
  let found = Promise.resolve();
  const options = () => [...list.querySelectorAll("[role=option]")];

  const mark = (index) => {
    const all = options();
    if (!all.length) return;
    active = (index + all.length) % all.length;
    all.forEach((option, at) => option.setAttribute("aria-selected", String(at === active)));
    input.setAttribute("aria-activedescendant", all[active].id);
    all[active].scrollIntoView({ block: "nearest" });
  };
  const look = async () => {
    const mine = ++latest;
    try {
      const html = await part(`/jump?${new URLSearchParams({ q: input.value })}`, { onlyFine: true });
      // A slow answer to an older text must not replace a newer one's.
      if (html === null || mine !== latest) return;
      list.innerHTML = html;
      input.setAttribute("aria-expanded", "true");
      mark(0);
      const count = options().length;
      said.textContent = count === 1 ? "1 result" : `${count} results`;
    } catch {
      if (mine === latest) said.textContent = "Posthouse did not answer. Try again in a moment.";
    }
  };
  const soon = (pause) => {
    clearTimeout(timer);
    latest += 1;
    list.replaceChildren();
    input.removeAttribute("aria-activedescendant");
    found = new Promise((done) => { timer = setTimeout(() => look().then(done), pause); });
  };
  list.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]");
    if (option) location.assign(option.dataset.address);
  });
  input.addEventListener("input", () => soon(120));
  input.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "ArrowDown") take(event, () => mark(active + 1));
    else if (event.key === "ArrowUp") take(event, () => mark(active - 1));
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    await found; // of what stands there now, not of the text before
    const option = options()[active];
    if (option) location.assign(option.dataset.address);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  return () => {
    if (dialog.open) return;
    input.value = "";
    dialog.showModal();
    soon(0);
  };
}
