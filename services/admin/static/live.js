// Parts that keep themselves current: data-live="/address", every data-every milliseconds.

import { part } from "./fetching.js";

// What has not answered by then does not answer: a process that stands still takes connections too.
const TIMEOUT_MS = 10000;

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
    note.textContent = `Posthouse does not answer: this page shows how things were at ${clock(since)}.`;
  }
}

function clock(since) {
  const today = since.toDateString() === new Date().toDateString();
  const date = today ? {} : { month: "short", day: "numeric" };
  return since.toLocaleString([], { ...date, hour: "numeric", minute: "2-digit", second: "2-digit", timeZoneName: "short" });
}

// A part that is not refreshed on purpose says so, and moves nothing: it sticks to the lower edge.
function isPaused(place, since, why) {
  let note = place.nextElementSibling;
  if (!note?.matches(".paused")) {
    note = document.createElement("p");
    note.className = "paused";
    note.setAttribute("role", "status");
    place.after(note);
  }
  const text = `Not refreshed while ${why}: this shows how things were at ${clock(since)}.`;
  if (note.textContent !== text) note.textContent = text;
}

function isRefreshed(place) {
  if (place.nextElementSibling?.matches(".paused")) place.nextElementSibling.remove();
}

function isCurrent() {
  document.getElementById("not-current")?.remove();
}

async function inTime(asking) {
  const asked = new AbortController();
  const over = setTimeout(() => asked.abort(), TIMEOUT_MS);
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
  let since = new Date(); // what is shown was so then
  let looking = false;
  let timer = 0;

  const take = (html) => {
    if (html !== shown) {
      const why = busyWith(place);
      if (why) return isPaused(place, since, why);
      shown = html;
      place.innerHTML = html;
      enliven(place);
    }
    since = new Date();
    isRefreshed(place);
  };

  const ask = async () => {
    try {
      const address = place.dataset.live;
      const html = await inTime((signal) => part(address, { onlyFine: true, signal }));
      if (html === null) return false;
      if (address !== place.dataset.live) throw new Error("searched anew meanwhile");
      failures = 0;
      isCurrent();
      take(html.trim());
    } catch {
      failures += 1;
      if (failures > 1) isOld(since);
    }
    return true;
  };

  const look = async () => {
    if (looking) return;
    looking = true;
    clearTimeout(timer);
    if (document.hidden) isPaused(place, since, "the page is in the background");
    else if (!await ask()) return;
    looking = false;
    timer = setTimeout(look, every * Math.min(2 ** failures, 4));
  };

  timer = setTimeout(look, every);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
}

// What somebody is at, so that nothing is taken from them: text is being copied, a part is folded
// out, something is ticked or has the focus. Empty: nothing.
function busyWith(place) {
  const selection = getSelection();
  if (selection !== null && !selection.isCollapsed && selection.containsNode(place, true)) return "text is selected";
  if (place.querySelector("details[open]")) return "a part is folded out";
  if (place.querySelector("input:checked")) return "something is ticked";
  return place.contains(document.activeElement) ? "something here has the focus" : "";
}
