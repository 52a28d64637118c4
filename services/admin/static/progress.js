// Work at a mail server takes its time: the page says how far it is, and offers to stop it. Who stops
// closes the connection to Posthouse, which ends the session at the mail server.

import { sessionEnded } from "./fetching.js";
import { show } from "./sending.js";

const NOTICE = "posthouse-notice";

export function attach(root, enliven) {
  if (root === document) showNotice();
  for (const form of root.querySelectorAll("form[data-progress]")) {
    form.addEventListener("submit", (event) => count(form, event, enliven));
  }
}

/** Sends `fields` to `address` and shows in `place` how far it is, beginning with `words`, with a
    button that stops it. The last line of the answer; null where it was stopped, or where the
    session ended. Throws where Posthouse does not answer. */
export async function follow(address, fields, place, words) {
  const began = Date.now();
  const giveUp = new AbortController();
  const text = document.createElement("p");
  text.setAttribute("role", "status");
  const seconds = document.createElement("span");
  seconds.className = "quiet";
  const cancel = document.createElement("button");
  cancel.type = "button";
  cancel.textContent = "Cancel";
  cancel.addEventListener("click", () => giveUp.abort());
  const actions = document.createElement("div");
  actions.className = "actions";
  actions.append(cancel, seconds);
  place.replaceChildren(text, actions);
  text.textContent = words;
  const clock = setInterval(() => { seconds.textContent = `${Math.round((Date.now() - began) / 1000)} s`; }, 1000);
  try {
    const answer = await fetch(address, {
      method: "POST",
      body: fields,
      headers: { "x-part": "yes", "x-progress": "yes" },
      credentials: "same-origin",
      signal: giveUp.signal,
    });
    if (answer.redirected && new URL(answer.url).pathname === "/login") {
      sessionEnded();
      return null;
    }
    if (answer.headers.get("content-type") !== "application/x-ndjson") throw new Error("no progress");
    let last = null;
    for await (const line of linesOf(answer.body)) {
      if ("say" in line) text.textContent = line.say;
      else last = line;
    }
    if (!last) throw new Error("the answer broke off");
    return last;
  } catch (error) {
    if (!giveUp.signal.aborted) throw error;
    place.replaceChildren(text);
    text.textContent = "Stopped. Nothing was changed.";
    return null;
  } finally {
    clearInterval(clock);
  }
}

async function* linesOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const pieces = (rest + (value ?? "")).split("\n");
    rest = pieces.pop();
    for (const piece of pieces) yield JSON.parse(piece);
    if (done) return;
  }
}

// A form that leads on, or comes back as a page.
async function count(form, event, enliven) {
  if (event.defaultPrevented) return;
  event.preventDefault();
  if (form.dataset.sending) return;
  form.dataset.sending = "yes";
  const main = document.querySelector("main");
  main.querySelector(".waiting")?.remove();
  const place = document.createElement("div");
  place.className = "card waiting";
  place.setAttribute("role", "region");
  place.setAttribute("aria-label", "Progress");
  main.querySelector(".head").after(place);
  const fields = new FormData(form, event.submitter); // before its button is disabled
  const buttons = main.querySelectorAll("button");
  for (const button of buttons) button.disabled = true;
  try {
    const last = await follow(form.getAttribute("action"), fields, place, form.dataset.progress);
    if (last?.location) {
      if (last.notice) keep(last.notice);
      location.assign(last.location);
    } else if (last) {
      show(new DOMParser().parseFromString(last.html, "text/html"), enliven);
    }
  } catch {
    place.textContent = "Posthouse did not answer. Try again in a moment.";
  } finally {
    delete form.dataset.sending;
    for (const button of buttons) button.disabled = false;
    if (document.contains(event.submitter)) event.submitter.focus();
  }
}

function keep(notice) {
  try { sessionStorage.setItem(NOTICE, JSON.stringify(notice)); } catch { /* it goes unsaid */ }
}

// What the answer before this page left to be said, once.
function showNotice() {
  try {
    const notice = JSON.parse(sessionStorage.getItem(NOTICE));
    sessionStorage.removeItem(NOTICE);
    if (!notice) return;
    const shown = document.createElement("p");
    shown.className = `notice ${notice.tone}`;
    shown.setAttribute("role", "status");
    shown.textContent = notice.text;
    document.querySelector("main").prepend(shown);
  } catch { /* nothing was left */ }
}
