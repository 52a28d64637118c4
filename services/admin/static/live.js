// Parts that keep themselves current: data-live="/address", every data-every milliseconds.

import { part } from "./fetching.js";

// What has not answered by then does not answer: a process that stands still takes connections too.
const PATIENCE_MS = 10000;

export function attach(root, enliven) {
  for (const place of root.querySelectorAll("[data-live]")) follow(place, enliven);
}

// What a page shows while nobody answers is of some time ago: it says of when.
function isOld(since) {
  let note = document.getElementById("not-current");
  if (!note) {
    note = document.createElement("p");
    note.id = "not-current";
    note.className = "notice bad";
    note.setAttribute("role", "alert");
    document.querySelector("main").prepend(note);
    const at = since.toLocaleTimeString([], { timeZoneName: "short" });
    note.textContent = `Posthouse does not answer: this page shows how things were at ${at}.`;
  }
}

function isCurrent() {
  document.getElementById("not-current")?.remove();
}

async function inTime(asking) {
  const asked = new AbortController();
  const over = setTimeout(() => asked.abort(), PATIENCE_MS);
  try {
    return await asking(asked.signal);
  } finally {
    clearTimeout(over);
  }
}

function follow(place, enliven) {
  const every = Number(place.dataset.every || 5000);
  let shown = place.innerHTML.trim();
  let failures = 0;
  let current = new Date();
  const look = async () => {
    if (!document.hidden) {
      try {
        const address = place.dataset.live;
        const html = await inTime((signal) => part(address, { onlyFine: true, signal }));
        if (html === null) return;
        if (address !== place.dataset.live) throw new Error("searched anew meanwhile");
        failures = 0;
        current = new Date();
        isCurrent();
        if (html.trim() !== shown && !isBusy(place)) {
          shown = html.trim();
          place.innerHTML = html;
          enliven(place);
        }
      } catch {
        failures += 1;
        if (failures > 1) isOld(current);
      }
    }
    setTimeout(look, every * Math.min(2 ** failures, 4));
  };
  setTimeout(look, every);
}

// Somebody is at it: a field has the focus, a part is folded out, or text is being copied.
function isBusy(place) {
  const selection = getSelection();
  return place.contains(document.activeElement)
    || place.querySelector("details[open], input:checked") !== null
    || (selection !== null && !selection.isCollapsed && selection.containsNode(place, true));
}
